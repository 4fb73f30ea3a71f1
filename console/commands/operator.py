"""`lienthong operator show|invite|key|anchor|tls|sign|read|submit`: the operator's keys and what they sign."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from console.output import emit, json_option, reports_errors

_INSTANCE = click.option(
    "--home", type=click.Path(path_type=Path, exists=True), required=True, help="Home of the instance."
)
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@click.group()
def operator() -> None:
    """The operator's keys: who they are, what they sign."""


@operator.command()
@_INSTANCE
@json_option
@reports_errors
def show(home: Path, as_json: bool) -> None:
    """The operator's keys as the newest anchor has them, and which of them are here."""
    from console.homes import InstanceHome
    from console.membership import call_registry
    from console.operators import keys_at_hand

    instance = InstanceHome(home)
    facts, here = instance.facts, {key.keyid for key in keys_at_hand(instance)}
    anchor, documents = call_registry(facts.registry_url, lambda client: client.anchor(facts.genesis))
    rows: list[dict[str, Any]] = [{"key": one.keyid, "here": one.keyid in here} for one in anchor.operators]
    lines = [f"key       {row['key'][:16]}  {'here' if row['here'] else 'elsewhere'}" for row in rows]
    emit(
        {"instance": facts.instance, "threshold": anchor.threshold, "operators": rows, "anchors": len(documents)},
        f"instance  {facts.instance}\nsigns     {anchor.threshold} of {len(rows)} keys\n" + "\n".join(lines),
        as_json,
    )


@operator.command()
@_INSTANCE
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File for an applicant.")
@json_option
@reports_errors
def invite(home: Path, out: Path, as_json: bool) -> None:
    """Write the anchors to a file, for an applicant who cannot reach the registry. Tell the genesis yourself."""
    import msgspec

    from console.homes import InstanceHome, write_new
    from console.joining import Invitation
    from console.membership import call_registry

    facts = InstanceHome(home).facts
    _, documents = call_registry(facts.registry_url, lambda client: client.anchor(facts.genesis))
    made = Invitation(genesis=facts.genesis, anchors=[jws.decode() for jws in documents])
    write_new(out, msgspec.json.encode(made), 0o644)
    emit(
        {"out": out, "anchors": len(documents), "genesis": f"sha256:{facts.genesis}"},
        f"anchors   {len(documents)} in {out}\ngenesis   sha256:{facts.genesis}\n"
        f"next      the applicant runs: lienthong join --anchors {out.name} --genesis … --out request.json",
        as_json,
    )


@operator.command()
@click.argument("folder", type=click.Path(path_type=Path))
@_INSTANCE
@click.option(
    "--days", default=365, show_default=True, type=click.IntRange(1, 1825), help="Until its certificate ends."
)
@click.option("--passphrase-file", type=_FILE, help="Encrypt the key under the passphrase in this file (mode 0600).")
@json_option
@reports_errors
def key(folder: Path, home: Path, days: int, passphrase_file: Path | None, as_json: bool) -> None:
    """Make a further operator key in the new FOLDER; it counts once an anchor names it."""
    from datetime import UTC, datetime, timedelta

    from console.homes import InstanceHome
    from console.instance import load_authority
    from console.operators import make_operator_key, settle

    instance = InstanceHome(home)
    facts, now = instance.facts, datetime.now(UTC)
    made = make_operator_key(
        folder,
        facts.instance,
        load_authority(instance),
        not_before_at=now - timedelta(minutes=5),
        not_after_at=now + timedelta(days=days),
        passphrase=passphrase_file,
    )
    settle(folder, facts.instance, facts.genesis, made.keyid, passphrase_file)
    emit(
        {"key": made.keyid, "folder": folder},
        f"key       {made.keyid}\nfolder    {folder}\n"
        f"next      lienthong operator anchor --add {folder} --operator-home {folder} --home {home}",
        as_json,
    )


@operator.command()
@_INSTANCE
@click.option("--add", "added", multiple=True, type=_FOLDER, help="Folder with the certificate of a key to add.")
@click.option("--drop", "dropped", multiple=True, help="Key id to take away; its first characters suffice.")
@click.option("--threshold", type=click.IntRange(1, 16), help="How many keys make the operator's word.")
@click.option("--authority", "authorities", multiple=True, type=_FILE, help="Further certification authority (PEM).")
@click.option(
    "--revocation-list", "lists", multiple=True, help="All addresses of revocation lists, anew; see certificate lists."
)
@click.option("--broker-url", "urls", multiple=True, help="All addresses of the broker, anew: tls://host:port.")
@click.option(
    "--recovery-delay-days",
    "delay_days",
    type=click.IntRange(1, 365),
    help="How long new keys of a member that lost its own are announced before they count; only longer than before.",
)
@click.option("--operator-home", "folders", multiple=True, type=_FOLDER, help="Folder with a further operator key.")
@json_option
@reports_errors
def anchor(
    home: Path,
    added: tuple[Path, ...],
    dropped: tuple[str, ...],
    threshold: int | None,
    authorities: tuple[Path, ...],
    lists: tuple[str, ...],
    urls: tuple[str, ...],
    delay_days: int | None,
    folders: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Publish a new anchor: other operators, another threshold, authorities, addresses, a longer recovery delay.

    The operators so far sign, and so do the new ones.
    """
    from console.anchors import AnchorChange, change_anchor
    from console.homes import InstanceHome
    from console.membership import Speaker, call_registry

    speaker = Speaker.operator(InstanceHome(home), folders)
    change = AnchorChange(
        added=added,
        dropped=dropped,
        threshold=threshold,
        authorities=authorities,
        revocation_lists=lists,
        broker_urls=urls,
        recovery_delay_s=None if delay_days is None else delay_days * 86_400,
    )
    made = call_registry(speaker.url, lambda client: change_anchor(client, speaker, change))
    emit(
        {
            "anchor": made.seq,
            "threshold": made.threshold,
            "operators": [one.keyid for one in made.operators],
            "recovery_delay_s": made.recovery_delay_s,
        },
        f"anchor    {made.seq}\nsigns     {made.threshold} of {len(made.operators)} keys\n"
        f"recovery  after {made.recovery_delay_s / 86_400:g} days",
        as_json,
    )


@operator.command()
@_INSTANCE
@click.option("--host", "hosts", multiple=True, help="Further names or addresses for the certificates.")
@json_option
@reports_errors
def tls(home: Path, hosts: tuple[str, ...], as_json: bool) -> None:
    """Renew the TLS certificates of broker and registry, with new keys; restart both afterwards."""
    from console.addresses import own_host, split_hosts
    from console.homes import InstanceHome
    from console.tlsrenewal import renew_tls

    instance = InstanceHome(home)
    facts = instance.facts
    own = (*own_host(facts.registry_listen), *own_host(facts.broker_listen))
    made = renew_tls(instance, *split_hosts(("127.0.0.1", "localhost", *own, *hosts)))
    emit(
        {"renewed": [str(path) for path in made]},
        "\n".join(f"renewed   {path}" for path in made) + "\nnext      restart lienthong broker and lienthong registry",
        as_json,
    )


@operator.command()
@click.argument("file", type=_FILE)
@click.option("--home", type=_FOLDER, required=True, help="Folder with your operator key.")
@click.option("--passphrase-file", type=_FILE, help="Where the key's passphrase is now, if no longer where it was.")
@json_option
@reports_errors
def sign(file: Path, home: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Sign the proposal in FILE with the operator key of a folder. Prints what it says: read it first with `read`."""
    from console.operators import OperatorHome, sign_proposal

    signed = sign_proposal(file, OperatorHome(home), passphrase_file)
    _tell(file, signed, as_json)


@operator.command()
@click.argument("file", type=_FILE)
@json_option
@reports_errors
def read(file: Path, as_json: bool) -> None:
    """What the proposal in FILE says and which signatures it has; nothing is signed."""
    from console.operators import read_proposal

    _tell(file, read_proposal(file), as_json)


@operator.command()
@click.argument("file", type=_FILE)
@_INSTANCE
@json_option
@reports_errors
def submit(file: Path, home: Path, as_json: bool) -> None:
    """Submit the proposal in FILE once it has its signatures."""
    from console.homes import HomeInvalid, InstanceHome
    from console.membership import call_registry, submit_proposal
    from console.operators import read_proposal

    facts, proposal = InstanceHome(home).facts, read_proposal(file)
    if proposal.genesis != facts.genesis:
        raise HomeInvalid(f"{file} is of another instance than {home}")
    became = call_registry(facts.registry_url, lambda client: submit_proposal(client, proposal))
    emit({"state": became, "type": proposal.type}, f"{became}  {proposal.type}", as_json)


def _tell(file: Path, proposal: Any, as_json: bool) -> None:
    there = len(set(proposal.signed_by) & set(proposal.operators))  # a member's own signature is no operator's
    missing = max(0, proposal.threshold - there)
    following = "lienthong operator submit" if not missing else "carry it to another operator: lienthong operator sign"
    said = json.loads(proposal.payload)
    emit(
        {
            "file": file,
            "type": proposal.type,
            "document": said,
            "signed_by": list(proposal.signed_by),
            "missing": missing,
        },
        f"instance  {proposal.instance}\ntype      {proposal.type}\n"
        + "".join(f"  {name:<9} {json.dumps(value, ensure_ascii=False)[:160]}\n" for name, value in said.items())
        + f"signed    {there} of {proposal.threshold}\nnext      {following} {file.name} --home …",
        as_json,
    )
