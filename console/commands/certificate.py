"""`lienthong certificate issue|revoke|crl|lists`: the instance's own authority, for pilots and demonstrations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from console.commands.signing import operator_homes_option
from console.output import emit, json_option, reports_errors

if TYPE_CHECKING:
    from evidence.signer import PublicKey


@click.group()
def certificate() -> None:
    """Certify member keys and revoke certificates (pilot instances; otherwise a licensed authority does)."""


@certificate.command()
@click.argument("member")
@click.option("--home", type=click.Path(path_type=Path, exists=True), required=True, help="Home of the instance.")
@click.option("--public-key", type=click.Path(path_type=Path, exists=True), required=True, help="keys/member.pub.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Where to write the certificate (PEM).")
@click.option("--days", default=365, show_default=True, type=click.IntRange(1, 1825), help="Until it ends.")
@json_option
@reports_errors
def issue(member: str, home: Path, public_key: Path, out: Path, days: int, as_json: bool) -> None:
    """Certify that a public key belongs to MEMBER. Make sure of who brought the key before you do."""
    from datetime import UTC, datetime, timedelta

    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    from console.homes import HomeInvalid, InstanceHome, write_new
    from console.instance import load_authority
    from evidence.identifiers import MemberId
    from evidence.issue import issue_member, to_pem
    from evidence.signer import algorithm_of

    now = datetime.now(UTC)
    try:
        key = load_pem_public_key(public_key.read_bytes())
        algorithm_of(cast("PublicKey", key))
    except (ValueError, TypeError) as error:
        raise HomeInvalid(f"{public_key} is not a public key in PEM") from error
    der = issue_member(
        load_authority(InstanceHome(home)),
        MemberId.parse(member),
        cast("PublicKey", key),
        not_before_at=now - timedelta(minutes=5),
        not_after_at=now + timedelta(days=days),
    )
    write_new(out, to_pem([der]), 0o644)
    emit({"member": member, "certificate": out, "days": days}, f"certified {member} for {days} days: {out}", as_json)


@certificate.command()
@click.argument("certificate_file", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="CERTIFICATE")
@click.option("--home", type=click.Path(path_type=Path, exists=True), required=True, help="Home of the instance.")
@json_option
@reports_errors
def revoke(certificate_file: Path, home: Path, as_json: bool) -> None:
    """Note that CERTIFICATE (PEM) is not to be trusted any more; it stands on every list from now on."""
    from console.authority import revoke_certificate
    from console.homes import InstanceHome

    serial = revoke_certificate(InstanceHome(home), certificate_file)
    emit(
        {"serial": f"{serial:x}"},
        f"revoked   serial {serial:x}\nnext      lienthong certificate crl --home {home} --out LIST",
        as_json,
    )


@certificate.command()
@click.option("--home", type=click.Path(path_type=Path, exists=True), required=True, help="Home of the instance.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File to write (DER); replaced.")
@click.option("--days", default=7.0, show_default=True, type=click.FloatRange(0, min_open=True), help="Until the next.")
@json_option
@reports_errors
def crl(home: Path, out: Path, days: float, as_json: bool) -> None:
    """Issue the revocation list of the instance's authority. Any web server may serve the file."""
    from console.authority import write_crl
    from console.homes import InstanceHome

    made = write_crl(InstanceHome(home), out, days)
    emit(made, f"list {made['number']} with {made['entries']} entries, until {made['next_update']}: {out}", as_json)


@certificate.command()
@click.argument("addresses", nargs=-1, metavar="[ADDRESS[#sha256:KEY]]...")
@click.option("--home", type=click.Path(path_type=Path, exists=True), required=True, help="Home of the instance.")
@click.option(
    "--authority",
    "authorities",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Certificate (PEM) of the authority whose list they give: once, or once for each; default: the anchor's only.",
)
@operator_homes_option
@json_option
@reports_errors
def lists(
    addresses: tuple[str, ...], home: Path, authorities: tuple[Path, ...], folders: tuple[Path, ...], as_json: bool
) -> None:
    """Have the anchor name the ADDRESSES (http or https) from which gateways fetch revocation lists; none: no lists.

    Each is named with the key of the authority whose list it has to give: another authority's is not taken there. While
    an authority exchanges its key, name the address twice, with both.
    """
    from console.authority import name_lists
    from console.homes import InstanceHome

    named = name_lists(InstanceHome(home), addresses, folders, authorities)
    text = "\n".join(("", *named)) if named else ""
    emit({"addresses": list(named)}, f"the anchor names {len(named)} addresses of revocation lists{text}", as_json)
