"""TLS of a gateway's front: a small authority of the agency itself, and certificates under it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from console.addresses import split_hosts
from console.homes import replace_file, write_new
from evidence.issue import Authority, create_authority, issue_tls, to_pem
from evidence.signer import FileSigner, generate_key_file
from evidence.x509 import load_pem_chain

_TLS_DAYS = 365
_AUTHORITY_DAYS = 10 * 365


def make_front(folder: Path, names: list[str], addresses: list[str]) -> None:
    """The authority and the front's first certificate; replace them with your own at any time.

    Raises:
        KeyUnusable: there are some already.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    authority = _new_authority(folder / "ca.pem")
    write_new(folder / "ca.crt", authority.pem, 0o644)
    key = generate_key_file(folder / "front.pem", "p256")
    write_new(folder / "front.crt", _certificate(authority, key, names, addresses), 0o644)


def rotate_front(folder: Path, hosts: tuple[str, ...]) -> dict[str, Any]:
    """A new key and certificate for the front.

    Where the authority's key was not kept, a new authority joins the old one in `ca.crt`: client systems that read it
    again trust both.

    Raises:
        HomeInvalid: a host cannot be one.
        KeyUnusable: the authority's key cannot be used.
    """
    names, addresses = split_hosts(hosts)
    new_authority = not (folder / "ca.pem").exists()
    old = (folder / "ca.crt").read_bytes() if (folder / "ca.crt").exists() else b""
    if new_authority:
        # Its certificate first: whoever finds the key finds the certificate that belongs to it.
        made = folder / "ca.next.pem"
        made.unlink(missing_ok=True)
        authority = _new_authority(made)
        replace_file(folder / "ca.crt", authority.pem + old, 0o644)
        made.replace(folder / "ca.pem")
    else:
        authority = Authority(load_pem_chain(old)[0], FileSigner.load(folder / "ca.pem"))
    following = folder / "front.next.pem"
    following.unlink(missing_ok=True)
    key = generate_key_file(following, "p256")
    certificate = _certificate(authority, key, names, addresses)
    following.replace(folder / "front.pem")
    replace_file(folder / "front.crt", certificate, 0o644)
    return {"certificate": folder / "front.crt", "new_authority": new_authority}


def _new_authority(path: Path) -> Authority:
    now = datetime.now(UTC)
    return create_authority(
        "gateway front authority",
        generate_key_file(path, "p256"),
        not_before_at=now - timedelta(minutes=5),
        not_after_at=now + timedelta(days=_AUTHORITY_DAYS),
    )


def _certificate(authority: Authority, key: FileSigner, names: list[str], addresses: list[str]) -> bytes:
    now = datetime.now(UTC)
    der = issue_tls(
        authority,
        "gateway",
        key.private_key.public_key(),
        role="server",
        dns_names=names,
        ip_addresses=addresses,
        not_before_at=now - timedelta(minutes=5),
        not_after_at=now + timedelta(days=_TLS_DAYS),
    )
    return to_pem([der])
