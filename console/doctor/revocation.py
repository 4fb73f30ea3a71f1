"""Revocation lists: the addresses that the anchor names answer with current lists, and none names our certificate.

A running gateway's own copies are looked at, because they decide. Where none runs the lists are fetched, from the
anchor's addresses only, without redirects, with a limit and a deadline (RFC 5280 section 5 for the lists).
"""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPMessage
from pathlib import Path
from typing import IO

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from bus.gateway.revocationlists import list_path
from bus.settings import RevocationSettings
from console.doctor.files import describe
from console.doctor.findings import Finding
from evidence.x509 import load_pem_chain
from registry.documents import Anchor

NAME = "revocation-lists"
_DEADLINE_S, _MAX_BYTES = 5.0, 8 << 20
_SOON = timedelta(hours=12)
_DO = "tell the operator: the list's publisher has to be reachable and current, or the anchor name another address"


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Cache:
    """What a running gateway keeps.

    Attributes:
        folder: `crl` in its data.
        settings: How old a list may be, and what happens then.
    """

    folder: Path
    settings: RevocationSettings


def check_lists(anchor: Anchor, certificate: Path, cache: Cache | None = None) -> Iterable[Finding]:
    """Every list of the anchor, see the module.

    Args:
        anchor: Names the lists.
        certificate: Of the member.
        cache: Of the running gateway; None fetches.
    """
    if not anchor.revocation_lists:
        return [Finding(NAME, "ok", "the anchor names no lists; trust is withdrawn by documents in the directory")]
    if cache is not None:
        return [_check_kept(address, anchor, certificate, cache) for address in anchor.revocation_lists]
    return [_check_list(address, anchor, certificate) for address in anchor.revocation_lists]


def _check_kept(address: str, anchor: Anchor, certificate: Path, cache: Cache) -> Finding:
    path = list_path(cache.folder, address)
    try:
        found = _parsed(path.read_bytes())
        signed = _is_signed(found, anchor)
    except OSError:
        refuses = cache.settings.when_unreachable == "refuse"
        seen = f"the gateway has no list of {address} yet" + (", so it refuses every call" if refuses else "")
        return Finding(NAME, "fail" if refuses else "warn", seen, _DO)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        return Finding(
            NAME, "fail", f"the gateway's copy of {address} is damaged", f"rm {path}; start the gateway again"
        )
    if not signed:
        return Finding(NAME, "fail", f"the list of {address} is not signed by an authority of the anchor", _DO)
    oldest = timedelta(seconds=cache.settings.max_age_s)
    return _judge(f"{address}, as the gateway has it", found, certificate, found.last_update_utc + oldest)


def _check_list(address: str, anchor: Anchor, certificate: Path) -> Finding:
    try:
        found = _fetch(address)
        signed = _is_signed(found, anchor)
    except OSError as error:
        return Finding(NAME, "fail", f"{address} does not answer ({type(error).__name__})", _DO)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        return Finding(NAME, "fail", f"{address} does not answer with a revocation list", _DO)
    if not signed:
        return Finding(NAME, "fail", f"the list of {address} is not signed by an authority of the anchor", _DO)
    return _judge(address, found, certificate)


def _fetch(address: str) -> x509.CertificateRevocationList:
    if not address.startswith(("http://", "https://")):
        raise ValueError("no address of HTTP")
    with urllib.request.build_opener(_NoRedirects).open(address, timeout=_DEADLINE_S) as answer:
        data = answer.read(_MAX_BYTES)
    return _parsed(data)


def _parsed(data: bytes) -> x509.CertificateRevocationList:
    return (x509.load_pem_x509_crl if data.startswith(b"-----") else x509.load_der_x509_crl)(data)


def _judge(
    address: str, found: x509.CertificateRevocationList, certificate: Path, oldest_at: datetime | None = None
) -> Finding:
    until_at = found.next_update_utc
    if until_at is not None and oldest_at is not None:
        until_at = min(until_at, oldest_at)
    if until_at is None or until_at < datetime.now(UTC):
        return Finding(NAME, "fail", f"the list of {address} is out of date since {until_at}", _DO)
    own = describe(certificate)
    if found.get_revoked_certificate_by_serial_number(own.serial) is not None:
        return Finding(NAME, "fail", f"{address} names this member's certificate", "ask the operator for a new one")
    left = until_at - datetime.now(UTC)
    return Finding(
        NAME,
        "warn" if left < _SOON else "ok",
        f"{address}: current for {left.total_seconds() / 3600:.0f} hours",
        _DO if left < _SOON else "",
    )


def _is_signed(found: x509.CertificateRevocationList, anchor: Anchor) -> bool:
    for pem in anchor.certification_authorities:
        for der in load_pem_chain(pem.encode()):
            authority = x509.load_der_x509_certificate(der)
            if authority.subject != found.issuer:
                continue
            try:
                if found.is_signature_valid(authority.public_key()):  # type: ignore[arg-type]
                    return True
            except InvalidSignature:
                continue
    return False
