"""Revocation lists: the addresses that the anchor names answer with current lists, and none names our certificate.

A running gateway's own copies are looked at, because they decide. Where none runs the lists are fetched, from the
anchor's addresses only, without redirects, with a limit and a deadline (RFC 5280 section 5 for the lists).
"""

from __future__ import annotations

import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO

from bus.gateway.revocationlists import kept_lists, require_authority
from bus.settings import RevocationSettings
from console.doctor.findings import Finding
from evidence.crl import MAX_LIST_BYTES, RevocationList, authority_of, read_list
from evidence.errors import RevocationListInvalid
from evidence.x509 import load_pem_chain
from registry.certificates import issued_of
from registry.documents import Anchor
from registry.listaddresses import authorities_by_url

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
    judge = _Judge(anchor, certificate, authorities_by_url(anchor.revocation_lists), cache)
    return [judge.check(address) for address in judge.sources]


@dataclass(frozen=True, slots=True)
class _Judge:
    """Judges one address after the other.

    Attributes:
        sources: Each address with whose list it has to give.
    """

    anchor: Anchor
    certificate: Path
    sources: Mapping[str, frozenset[str]]
    cache: Cache | None

    def check(self, address: str) -> Finding:
        expected = self.sources[address]
        known = {one.signer for der in self._authorities() if (one := authority_of(der)) is not None}
        if expected and not expected & known:
            return Finding(NAME, "ok", f"{address} is of an authority that is not behind this member's certificate")
        return self._fetched(address, expected) if self.cache is None else self._kept(address, expected, self.cache)

    def _kept(self, address: str, expected: frozenset[str], cache: Cache) -> Finding:
        # A list that another address of the same authority gave is as good.
        mirrors = [one for one in self.sources if one == address or (expected and self.sources[one] & expected)]
        paths = [path for one in mirrors for path in kept_lists(cache.folder, one, expected)]
        if not paths:
            refuses = cache.settings.when_unreachable == "refuse"
            seen = f"the gateway has no list of {address} yet" + (", so it refuses every call" if refuses else "")
            return Finding(NAME, "fail" if refuses else "warn", seen, _DO)
        lists = []
        for path in paths:
            try:
                lists.append(self._read(path.read_bytes(), expected))
            except (OSError, RevocationListInvalid) as error:
                seen = f"the gateway's copy of {address} counts for nothing: {error}"
                return Finding(NAME, "fail", seen, f"rm {path}; start the gateway again")
        oldest = timedelta(seconds=cache.settings.max_age_s)
        return _judge(f"{address}, as the gateway has it", lists, self.certificate, oldest)

    def _fetched(self, address: str, expected: frozenset[str]) -> Finding:
        try:
            found = self._read(_fetch(address), expected)
        except OSError as error:
            return Finding(NAME, "fail", f"{address} does not answer ({type(error).__name__})", _DO)
        except (ValueError, HTTPException):
            return Finding(NAME, "fail", f"{address} does not answer as a web server does", _DO)
        except RevocationListInvalid as error:
            return Finding(NAME, "fail", f"what {address} answers with counts for nothing: {error}", _DO)
        return _judge(address, [found], self.certificate, timedelta.max)

    def _authorities(self) -> list[bytes]:
        """The authorities of the anchor, and those between them and this member."""
        trusted = [der for pem in self.anchor.certification_authorities for der in load_pem_chain(pem.encode())]
        return [*trusted, *load_pem_chain(self.certificate.read_bytes())[1:]]

    def _read(self, data: bytes, expected: frozenset[str]) -> RevocationList:
        """As the gateway reads it."""
        found = read_list(data, self._authorities(), datetime.now(UTC))
        require_authority(found, expected)
        return found


def _fetch(address: str) -> bytes:
    if not address.startswith(("http://", "https://")):
        raise ValueError("no address of HTTP")
    with urllib.request.build_opener(_NoRedirects).open(address, timeout=_DEADLINE_S) as answer:
        data: bytes = answer.read(MAX_LIST_BYTES + 1)
    return data


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
