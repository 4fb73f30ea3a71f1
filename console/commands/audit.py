"""`lienthong audit`: evidence, checked offline."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from console.output import emit, json_option, reports_errors

_PASS = {"ignore_unknown_options": True, "allow_interspersed_args": False}


@click.group()
def audit() -> None:
    """Verify, export and match exchange logs."""


def _evidence(command: str, arguments: tuple[str, ...]) -> None:
    from evidence.__main__ import main

    sys.exit(main([command, *arguments]))


@audit.command(context_settings=_PASS, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def verify(arguments: tuple[str, ...]) -> None:
    """Verify a log (database file or exported tiles) offline; the same as `python -m evidence verify`."""
    _evidence("verify", arguments)


@audit.command(context_settings=_PASS, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def proof(arguments: tuple[str, ...]) -> None:
    """Verify one record with its proof offline; the same as `python -m evidence proof`."""
    _evidence("proof", arguments)


@audit.command(context_settings=_PASS, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def reconcile(arguments: tuple[str, ...]) -> None:
    """Match several logs against each other; the same as `python -m evidence reconcile`."""
    _evidence("reconcile", arguments)


@audit.command()
@click.argument("log", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write into.")
@click.option("--no-entries", is_flag=True, help="Hash tiles only: nothing of the headers leaves.")
@json_option
@reports_errors
def tiles(log: Path, out: Path, no_entries: bool, as_json: bool) -> None:
    """Export LOG (data/log.db) as C2SP tiles with entry bundles, checkpoint, and the proofs received from peers."""
    from bus.exchange.peerproofs import export_peer_proofs
    from evidence.export import export_tiles

    size = export_tiles(log, out, entries=not no_entries)
    proofs = 0 if no_entries else export_peer_proofs(log, out / "proofs.jsonl", size)
    emit({"leaves": size, "proofs": proofs, "out": out}, f"{size} leaves, {proofs} peer proofs: {out}", as_json)


@audit.command()
@click.argument("log", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--last", type=click.IntRange(1, 100_000), default=100, show_default=True, help="How many.")
@json_option
@reports_errors
def acts(log: Path, last: int, as_json: bool) -> None:
    """The newest acts at the admin port that LOG (data/log.db) has, refused ones too."""
    from console.acts import newest_acts

    rows = newest_acts(log, last)
    text = "\n".join(
        " ".join([row["time"], f"{row['outcome']:<7}", f"{row['act']:<20}", row["key"] or "(no key)", row["target"]])
        + (f" {row['code']}" if row["code"] else "")
        + (f": {row['reason']}" if row["reason"] else "")
        for row in rows
    )
    emit({"acts": rows}, text or "no acts are recorded", as_json)


@audit.command()
@click.option("--home", type=click.Path(path_type=Path, exists=True), required=True, help="Home of the member.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File to write.")
@json_option
@reports_errors
def trust(home: Path, out: Path, as_json: bool) -> None:
    """Write the trust file of offline verification: keys of all logs, revocations, bounds for times."""
    from console.homes import MemberHome, replace_file
    from console.views import local_follower, trust_of

    with local_follower(MemberHome(home)) as follower:
        made = trust_of(follower.directory, follower.confirmed())
    import msgspec

    replace_file(out, msgspec.json.format(msgspec.json.encode(made), indent=2), 0o644)
    text = f"{len(made.origins)} logs, {len(made.revocations)} revocations, {len(made.dated)} dated trees: {out}"
    emit({"origins": sorted(made.origins), "revocations": len(made.revocations), "out": out}, text, as_json)


@audit.command()
@click.argument("record", required=False)
@click.option("--home", type=click.Path(path_type=Path, exists=True), help="Home of the member, on either side.")
@click.option("--out", type=click.Path(path_type=Path), help="New folder for the proof.")
@click.option(
    "--verify", "folder", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Such a folder."
)
@click.option("--genesis", help="sha256:… of the instance, with --verify.")
@json_option
@reports_errors
def right(
    record: str | None, home: Path | None, out: Path | None, folder: Path | None, genesis: str | None, as_json: bool
) -> None:
    """Which right allowed RECORD (an exchange's id, or a leaf hash), with proof; or verify such a proof offline."""
    from console.homes import MemberHome
    from console.membership import parse_genesis
    from console.rightproof import collect, describe, verify_folder

    if folder is not None:
        if not genesis or record or home or out:
            raise click.UsageError("with --verify FOLDER give --genesis sha256:…, and nothing else")
        finding = verify_folder(folder, parse_genesis(genesis))
        lines = [f"VERIFIED: {folder}", *describe(finding)]
    else:
        if not (record and home and out) or genesis:
            raise click.UsageError("give RECORD, --home and --out; or --verify FOLDER and --genesis")
        finding = collect(MemberHome(home), record, out)
        check = f"lienthong audit right --verify {out} --genesis sha256:{MemberHome(home).facts.genesis}"
        lines = [*describe(finding), f"proof: {out}; to verify it anywhere: {check}"]
    import msgspec

    emit({"verified": folder is not None, **msgspec.to_builtins(finding)}, "\n".join(lines), as_json)
