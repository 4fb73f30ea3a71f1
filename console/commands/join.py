"""`lienthong join`: become a member of an instance."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from console.commands.signing import PASSPHRASE_FILE
from console.output import emit, json_option, reports_errors

if TYPE_CHECKING:
    from console.homes import MemberHome
    from console.joining import Joining
    from evidence.signer import KeyKind

_KINDS: dict[str, KeyKind] = {"p256": "p256", "p384": "p384", "rsa2048": "rsa2048", "rsa3072": "rsa3072"}
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.option("--home", type=click.Path(path_type=Path), required=True, help="Folder of the member; made here.")
@click.option("--member", "identifier", help="Identifier to ask for, like VN-DEMO/GOV/H37.")
@click.option("--registry", help="Address of the registry, https://host:port.")
@click.option("--genesis", help="sha256:… of the instance, as its operator told you.")
@click.option("--name", "names", multiple=True, help="Name with its language: vi=…, en=….")
@click.option("--alias", "aliases", multiple=True, help="Another member code, like 000.00.18.G12.")
@click.option(
    "--key",
    default="p256",
    show_default=True,
    metavar="KIND|FILE",
    help="Kind of the key to make: p256, p384, rsa2048, rsa3072; or a member key that you have already (PEM).",
)
@click.option(
    "--passphrase-file",
    type=PASSPHRASE_FILE,
    help="Keep the key encrypted under the passphrase in this file (mode 0600), which has to stay there.",
)
@click.option("--certificate", type=_FILE, help="Its certificates from an accredited authority (PEM).")
@click.option("--anchors", type=_FILE, help="File of the operator with the anchors, instead of asking the registry.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Write the request to a file to carry, instead of sending."
)
@click.option("--status", "ask", is_flag=True, help="Ask how the request was decided; takes the certificate.")
@click.option("--wait", "wait_s", default=0.0, help="With --status: seconds to wait for the decision.")
@click.option("--accept", "decision", type=_FILE, help="Take a decision that was carried here.")
@json_option
@reports_errors
def join(
    home: Path,
    identifier: str | None,
    registry: str | None,
    genesis: str | None,
    names: tuple[str, ...],
    aliases: tuple[str, ...],
    key: str,
    passphrase_file: Path | None,
    certificate: Path | None,
    anchors: Path | None,
    out: Path | None,
    ask: bool,
    wait_s: float,
    decision: Path | None,
    as_json: bool,
) -> None:
    """Ask to become a member: makes the home with its keys and sends a signed request to the operator.

    The genesis is the instance's identity. Get it from the operator directly, never from the network: everything else
    is checked against it. Afterwards `lienthong join --status` fetches the decision and the certificate.
    """
    from console.homes import MemberHome

    member_home = MemberHome(home)
    if ask or decision is not None:
        if not home.is_dir():
            raise click.BadParameter(f"{home} does not exist", param_hint="--home")
        _tell(member_home, _decided(member_home, decision, wait_s), as_json)
        return
    if identifier is None or registry is None or genesis is None or not names:
        raise click.UsageError("to ask for membership give --member, --registry, --genesis and --name")
    from console.joining import Application, apply, carry, send

    kind = _KINDS.get(key)
    brought = None if kind is not None else Path(key)
    if brought is not None and not brought.is_file():
        raise click.BadParameter(f"{key} is neither a kind ({', '.join(_KINDS)}) nor a file", param_hint="--key")
    application = Application(
        member=identifier,
        registry=registry,
        genesis=genesis,
        names=parse_names(names),
        aliases=aliases,
        key=brought,
        kind=kind or "p256",
        passphrase=passphrase_file,
        certificate=certificate,
        anchors=anchors,
    )
    jws = apply(member_home, application)
    _tell(member_home, carry(member_home, jws, out) if out is not None else send(member_home, jws), as_json, out)


def _decided(home: MemberHome, decision: Path | None, wait_s: float) -> Joining:
    from console.homes import read_facts
    from console.joining import accept, status
    from registry.client import RequestDetail

    if decision is None:
        return status(home, wait_s)
    return accept(home, read_facts(decision, RequestDetail, "lienthong member approve --out"))


def _tell(home: MemberHome, joining: Joining, as_json: bool, out: Path | None = None) -> None:
    facts = home.facts
    told: dict[str, Any] = {"member": facts.member, "home": home.path, "request": joining.request}
    told["state"] = joining.state
    if joining.state == "refused":
        told["reason"] = joining.reason
    short = joining.request[:16]
    following = {
        "pending": f"the operator runs: lienthong member approve {short} --home INSTANCE\n"
        f"then      lienthong join --status --home {home.path}",
        "approved": f"lienthong node add n1 --home {home.path}",
        "refused": f"the operator refused: {joining.reason}; ask again with lienthong join",
    }
    if out is not None:
        told["out"] = out
        following["pending"] = (
            f"carry {out} to the operator, who runs: lienthong member approve --file {out.name} --out decision.json "
            f"--home INSTANCE\nthen      lienthong join --accept decision.json --home {home.path}"
        )
    emit(
        told,
        f"member    {facts.member}\nrequest   {short}\nstate     {joining.state}\nnext      {following[joining.state]}",
        as_json,
    )


def parse_names(names: tuple[str, ...]) -> dict[str, str]:
    """`{"vi": "…"}` of `vi=…`.

    Raises:
        click.BadParameter: another form.
    """
    found = {}
    for item in names:
        language, separator, text = item.partition("=")
        if not separator or not language or not text:
            raise click.BadParameter(f"{item!r}: write LANGUAGE=NAME, like vi=Sở Nội vụ", param_hint="--name")
        found[language] = text
    return found
