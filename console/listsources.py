"""Whose list an address of revocation lists has to give: found out before an anchor names it. Fetches nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryptography import x509

from console.addresses import check_url
from console.homes import HomeInvalid
from evidence.crl import authority_of
from evidence.x509 import load_pem_chain
from registry.listaddresses import ListAddress, read_address


def with_authorities(
    addresses: Sequence[str], authorities: Sequence[str], files: Sequence[Path] = ()
) -> tuple[str, ...]:
    """The addresses as an anchor names them, each with its authority.

    Args:
        addresses: as typed; what has `#sha256:…` already stays.
        authorities: PEM of the anchor's certification authorities: where it has one only, lists are its.
        files: with certificates (PEM) of authorities: one for all other addresses, or one for each, in their order.

    Raises:
        HomeInvalid: an address cannot be one, or it is not clear whose list it has to give.
        CertificateInvalid: a file holds no certificate.
    """
    read = [read_address(address) for address in addresses]
    for one in read:
        check_url(one.url, "ADDRESS")
        if not one.usable:
            raise HomeInvalid(f"ADDRESS: {one}: after #sha256: stand 64 lower-case hex digits, of the authority's key")
    open_ = [one for one in read if not one.authority]
    signers = _signers(open_, authorities, files)
    return tuple(str(one if one.authority else ListAddress(one.url, signers.pop(0))) for one in read)


def _signers(open_: Sequence[ListAddress], authorities: Sequence[str], files: Sequence[Path]) -> list[str]:
    if files:
        if len(files) not in (1, len(open_)):
            raise HomeInvalid(f"name one --authority for all {len(open_)} addresses, or one for each, in their order")
        named = [_signer(path) for path in files]
        return named if len(named) == len(open_) else named * len(open_)
    if not open_:
        return []
    if len(authorities) == 1:
        found = authority_of(load_pem_chain(authorities[0].encode())[0])
        if found is not None:
            return [found.signer] * len(open_)
    raise HomeInvalid(
        f"say whose list {open_[0].url} has to give, with #sha256:… behind it or (lienthong certificate lists) "
        "--authority FILE: otherwise another authority's list could be put there, and nobody would notice. The "
        f"anchor's authorities: {_told(authorities)}"
    )


def _signer(path: Path) -> str:
    found = authority_of(load_pem_chain(path.read_bytes())[0])
    if found is None:
        raise HomeInvalid(f"--authority: the certificate in {path} may not sign revocation lists")
    return found.signer


def _told(authorities: Sequence[str]) -> str:
    told = []
    for pem in authorities[:8]:
        found = authority_of(load_pem_chain(pem.encode())[0])
        if found is not None:
            name = x509.load_pem_x509_certificate(pem.encode()).subject.rfc4514_string()
            told.append(f"{name[:80]} #sha256:{found.signer}")
    return "; ".join(told) or "none may sign lists"
