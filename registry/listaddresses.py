"""Addresses of revocation lists as the anchor names them, each with the authority whose list it has to give.

`http://host/list.crl#sha256:HEX`: HEX is SHA-256 over the authority's public key (SubjectPublicKeyInfo in DER), so it
stays when the authority gets a new certificate for its key. A fragment is never sent (RFC 9110 section 7.1): who reads
anchors without knowing it fetches the same address. The same address may stand there with several keys, an authority's
old and its new one: any of them will do there. Without a fragment an address speaks for no authority in particular.

Pure; fetches and verifies nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

_MARK = "#sha256:"
_KEY = re.compile(r"[0-9a-f]{64}")


class ListAddress(NamedTuple):
    """An address of a revocation list.

    Attributes:
        url: Where it is fetched.
        authority: SHA-256 of the key that has to have signed it, 64 hex digits; empty where the anchor names none.
            What cannot be such a digest stays as it is: no list is by it, so its list is missed aloud.
    """

    url: str
    authority: str

    def __str__(self) -> str:
        return f"{self.url}{_MARK}{self.authority}" if self.authority else self.url

    @property
    def usable(self) -> bool:
        """Whether some key may fit: none is named, or one that can be."""
        return not self.authority or _KEY.fullmatch(self.authority) is not None


def read_address(text: str) -> ListAddress:
    """Reads an address; a fragment of another form is a part of it, as it was before there were authorities in them."""
    url, _, authority = text.partition(_MARK)
    return ListAddress(url, authority) if authority else ListAddress(text, "")


def authorities_by_url(addresses: Iterable[str]) -> Mapping[str, frozenset[str]]:
    """For each place, in the anchor's order, whose list it has to give; nobody: any authority's that is trusted."""
    found: dict[str, frozenset[str]] = {}
    for url, authority in map(read_address, addresses):
        found[url] = found.get(url, frozenset()) | ({authority} if authority else frozenset())
    return found
