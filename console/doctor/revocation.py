"""Revocation lists: the addresses that the anchor names answer with current lists, and none names our certificate.

A running gateway's own copies are looked at, because they decide. Where none runs the lists are fetched, from the
anchor's addresses only, without redirects, with a limit and a deadline (RFC 5280 section 5 for the lists).
"""

from __future__ import annotations

import urllib.request
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO

from bus.gateway.revocationlists import kept_lists
from bus.settings import RevocationSettings
from console.doctor.findings import Finding
from evidence.crl import MAX_LIST_BYTES, RevocationList, read_list
from evidence.errors import RevocationListInvalid
from evidence.x509 import load_pem_chain
from registry.certificates import issued_of
from registry.documents import Anchor

NAME = "revocation-lists"
_DEADLINE_S = 5.0
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
    paths = kept_lists(cache.folder, address)
    if not paths:
        refuses = cache.settings.when_unreachable == "refuse"
        seen = f"the gateway has no list of {address} yet" + (", so it refuses every call" if refuses else "")
        return Finding(NAME, "fail" if refuses else "warn", seen, _DO)
    lists = []
    for path in paths:
        try:
            lists.append(_read(path.read_bytes(), anchor, certificate))
        except (OSError, RevocationListInvalid) as error:
            seen = f"the gateway's copy of {address} counts for nothing: {error}"
            return Finding(NAME, "fail", seen, f"rm {path}; start the gateway again")
    oldest = timedelta(seconds=cache.settings.max_age_s)
    return _judge(f"{address}, as the gateway has it", lists, certificate, oldest)


def _check_list(address: str, anchor: Anchor, certificate: Path) -> Finding:
    try:
        found = _read(_fetch(address), anchor, certificate)
    except OSError as error:
        return Finding(NAME, "fail", f"{address} does not answer ({type(error).__name__})", _DO)
    except (ValueError, HTTPException):
        return Finding(NAME, "fail", f"{address} does not answer as a web server does", _DO)
    except RevocationListInvalid as error:
        return Finding(NAME, "fail", f"what {address} answers with counts for nothing: {error}", _DO)
    return _judge(address, [found], certificate, timedelta.max)


def _fetch(address: str) -> bytes:
    if not address.startswith(("http://", "https://")):
        raise ValueError("no address of HTTP")
    with urllib.request.build_opener(_NoRedirects).open(address, timeout=_DEADLINE_S) as answer:
        data: bytes = answer.read(MAX_LIST_BYTES + 1)
    return data


def _read(data: bytes, anchor: Anchor, certificate: Path) -> RevocationList:
    """As the gateway reads it; the authorities of the anchor, and those between them and this member."""
    authorities = [der for pem in anchor.certification_authorities for der in load_pem_chain(pem.encode())]
    return read_list(data, [*authorities, *load_pem_chain(certificate.read_bytes())[1:]], datetime.now(UTC))


def _judge(address: str, lists: Sequence[RevocationList], certificate: Path, oldest: timedelta) -> Finding:
    """The one that is good for longest says how fresh the address is; each of them may name the certificate."""
    until_at = max(one.next_update_at if oldest == timedelta.max else one.current_until_at(oldest) for one in lists)
    now = datetime.now(UTC)
    if until_at < now:
        return Finding(NAME, "fail", f"the list of {address} is out of date since {until_at}", _DO)
    chain = [issued_of(der) for der in load_pem_chain(certificate.read_bytes())]
    if any(one.revokes(issued.issuer, issued.serial) for one in lists for issued in chain):
        return Finding(NAME, "fail", f"{address} names this member's certificate", "ask the operator for a new one")
    left = until_at - now
    return Finding(
        NAME,
        "warn" if left < _SOON else "ok",
        f"{address}: current for {left.total_seconds() / 3600:.0f} hours",
        _DO if left < _SOON else "",
    )
