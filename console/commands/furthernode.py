"""`lienthong node request|join|submit`: nodes with a home of their own, and statements carried by hand."""

from __future__ import annotations

from pathlib import Path

import click

from console.output import emit, json_option, reports_errors

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_OUT = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("code", required=False)
@click.option("--home", type=click.Path(path_type=Path), required=True, help="Folder of this node; made here.")
@click.option("--member", help="Whose node, like VN-DEMO/GOV/H37.")
@click.option("--genesis", help="sha256:… of the instance, as the member's people told you.")
@click.option(
    "--passphrase-file",
    type=_FILE,
    help="Encrypt log and broker key under the passphrase in this file (mode 0600), which has to stay there.",
)
@click.option(
    "--days", type=click.IntRange(1, 400), help="A node already: ask for further keys for answers, one a day."
)
@click.option(
    "--broker-key", is_flag=True, help="With --days: exchange the key that proves the node to the broker, too."
)
@click.option("--log-key", is_flag=True, help="With --days: make a next key that signs the log's checkpoints, too.")
@click.option("--out", type=_OUT, required=True, help="File with the request, for the member's home.")
@json_option
@reports_errors
def request(
    code: str | None,
    home: Path,
    member: str | None,
    genesis: str | None,
    passphrase_file: Path | None,
    days: int | None,
    broker_key: bool,
    log_key: bool,
    out: Path,
    as_json: bool,
) -> None:
    """On the machine of a further node: make its keys here, and a request for the member's home.

    The member key stays where it is. Tell the request's id to the people at the member's home by another way.
    """
    from console.homes import MemberHome
    from console.noderequests import ask, ask_again

    if days is not None:
        made = ask_again(MemberHome(home), days, out, broker_key=broker_key, log_key=log_key)
    elif broker_key or log_key:
        raise click.UsageError("--broker-key and --log-key go with --days, at a node that there is already")
    elif code is None or member is None or genesis is None:
        raise click.UsageError(
            "to ask for a node give CODE, --member and --genesis; for keys of the coming days --days"
        )
    else:
        made = ask(MemberHome(home), member, genesis, code, passphrase_file, out)
    name = str(made["node"]).rpartition("@")[2]
    emit(
        made,
        f"node      {made['node']}\nrequest   {made['request'][:16]}\n"
        f"next      carry {out} to the member's home: lienthong node add {name} --request {out.name} "
        f"--bundle {name}.bundle --home MEMBER\nthen      lienthong node join --bundle {name}.bundle --home {home}",
        as_json,
    )


@click.command()
@click.option("--home", type=click.Path(path_type=Path, exists=True), required=True, help="Home of this node.")
@click.option("--bundle", type=_FILE, required=True, help="File from the member's home.")
@click.option("--front", default="127.0.0.1:8443", show_default=True, help="Address for client systems (HTTPS).")
@click.option("--admin", default="127.0.0.1:9443", show_default=True, help="Address for operators.")
@click.option("--host", "hosts", multiple=True, help="Further names or addresses for the front's certificate.")
@json_option
@reports_errors
def join(home: Path, bundle: Path, front: str, admin: str, hosts: tuple[str, ...], as_json: bool) -> None:
    """On the machine of a further node: take the bundle that the member's home made for it.

    The first bundle makes the node. Later ones bring new sealing keys, back ends and broker credentials; settings that
    are here stay as they are, and the running gateway takes over what is new.
    """
    from console.homes import MemberHome
    from console.noderequests import install
    from console.nodes import Place

    done = install(MemberHome(home), bundle, Place(front, admin, ("127.0.0.1", "localhost", *hosts)))
    asked = "" if done["registry_asked"] else "\nregistry  not reached: whether the node was revoked is not known here"
    following = f"lienthong gateway --home {home}" if done["made"] else "nothing; the gateway takes it over"
    if done["log_key_waits"]:
        since = done["log_key_usable_from"] or "the instant that the member's home was told"
        following = f"from {since} on: lienthong node rotate log --home {home}; --wait waits for it"
    elif done["log_key_exchanged"]:
        following = "nothing; the gateway signs with the next log key, and the next request ends the earlier one"
    emit(
        done,
        f"node      {done['node']}\nkeys      {done['sealing_keys']} new sealing keys of the member{asked}\n"
        f"next      {following}",
        as_json,
    )


@click.command()
@click.argument("file", type=_FILE)
@click.option("--home", type=click.Path(path_type=Path, exists=True), required=True, help="Any home with a line.")
@click.option("--out", type=_OUT, required=True, help="File with the registry's answer, to be carried back.")
@json_option
@reports_errors
def submit(file: Path, home: Path, out: Path, as_json: bool) -> None:
    """Hand the statements in FILE (`node add --out`) to the registry, for a member without a line to it."""
    from console.homes import InstanceHome, MemberHome
    from console.membership import call_registry
    from console.statements import submit_carried

    if (home / "instance.json").exists():
        operator = InstanceHome(home).facts
        url, genesis = operator.registry_url, operator.genesis
    else:
        member = MemberHome(home).facts
        url, genesis = member.registry, member.genesis
    done = call_registry(url, lambda client: submit_carried(client, genesis, file, out))
    emit(
        {"node": done.node, "documents": len(done.documents), "out": out},
        f"published {len(done.documents)} statements about {done.node}\n"
        f"next      carry {out} back: lienthong node add … --accept {out.name}",
        as_json,
    )
