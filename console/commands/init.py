"""`lienthong init`: a new instance, or a new member's home."""

from __future__ import annotations

from pathlib import Path

import click

from console.output import emit, json_option, reports_errors


@click.group()
def init() -> None:
    """Make the home of an instance or of a member."""


@init.command()
@click.argument("name")
@click.option("--home", type=click.Path(path_type=Path), required=True, help="New folder of the instance's operator.")
@click.option("--registry-listen", default="127.0.0.1:8470", show_default=True, help="Address of the registry.")
@click.option("--broker-listen", default="127.0.0.1:4222", show_default=True, help="Address of the broker.")
@click.option("--host", "hosts", multiple=True, help="Further names or addresses for the broker's certificate.")
@json_option
@reports_errors
def instance(
    name: str, home: Path, registry_listen: str, broker_listen: str, hosts: tuple[str, ...], as_json: bool
) -> None:
    """Make the instance NAME (like VN-DEMO): operator key, authority, broker identity, first anchor.

    Prints the genesis: the instance's identity. Members need it, and must get it from you directly.
    """
    from console.homes import InstanceHome
    from console.instance import create_instance

    facts = create_instance(
        InstanceHome(home), name, registry_listen, broker_listen, ("127.0.0.1", "localhost", *hosts)
    )
    emit(
        {"instance": facts.instance, "genesis": f"sha256:{facts.genesis}", "registry": f"http://{registry_listen}"},
        f"instance  {facts.instance}\ngenesis   sha256:{facts.genesis}\nhome      {home}\n"
        f"next      lienthong broker --home {home}   and   lienthong registry --home {home}",
        as_json,
    )


@init.command()
@click.argument("identifier")
@click.option("--home", type=click.Path(path_type=Path), required=True, help="New folder of the member.")
@click.option("--registry", "registry_url", required=True, help="Address of the registry, http(s)://host:port.")
@click.option("--genesis", required=True, help="sha256:… of the instance, as its operator told you.")
@json_option
@reports_errors
def member(identifier: str, home: Path, registry_url: str, genesis: str, as_json: bool) -> None:
    """Make the home of the member IDENTIFIER (like VN-DEMO/GOV/H37): its key, and the instance's verified anchor."""
    from console.membership import create_member_home

    facts = create_member_home(home, identifier, registry_url, genesis)
    emit(
        {"member": facts.member, "home": home, "certificate_request": home / "keys" / "member.pub"},
        f"member    {facts.member}\nhome      {home}\nnext      have {home}/keys/member.pub certified "
        f"(pilot instances: lienthong certificate issue), then lienthong member request --home {home}",
        as_json,
    )
