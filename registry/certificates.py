"""Which certificates stand behind what members say now: for revocation lists, which the fold does not know.

A member counts by the certificates under which its newest node statement was signed. Pure; verifies nothing again (the
fold did).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from cryptography import x509

from evidence.leaf import DIRECTORY, unwrap
from registry.envelope import read_envelope
from registry.errors import RegistryError
from registry.state import State


class Issued(NamedTuple):
    """A certificate as a revocation list names it: its issuer's name in DER, and its serial number."""

    issuer: bytes
    serial: int


class Backing(NamedTuple):
    """What stands behind a member's newest node statement.

    Attributes:
        at: Index of the statement in the directory's log.
        chains: One tuple for each signature: the leaf certificate first.
        authorities: DER of the intermediate authorities in these chains.
    """

    at: int
    chains: tuple[tuple[Issued, ...], ...]
    authorities: tuple[bytes, ...]


class Certificates:
    """Reads chains from the leaves of a directory: of each leaf once, and only of those that are the newest now.

    Args:
        leaf: Leaf of the directory's log at an index, or None.
    """

    def __init__(self, leaf: Callable[[int], bytes | None]) -> None:
        self._leaf = leaf
        self._read: dict[int, Backing | None] = {}

    def of_members(self, directory: State) -> dict[str, Backing]:
        """Each member that has a node, with what stands behind its newest statement."""
        found: dict[str, Backing] = {}
        newest = dict(_newest_by_leaf(directory))
        self._read = {at: read for at, read in self._read.items() if at in newest}
        for at, member in newest.items():
            known = found.get(member)
            if known is None or known.at < at:
                backing = self._backing(at, directory.genesis)
                if backing is not None:
                    found[member] = backing
        return found

    def _backing(self, at: int, genesis: str) -> Backing | None:
        if at not in self._read:
            leaf = self._leaf(at)
            self._read[at] = None if leaf is None else _read(at, leaf, genesis)
        return self._read[at]


def _newest_by_leaf(directory: State) -> Iterator[tuple[int, str]]:
    for member in directory.members():
        for node in directory.nodes_of(member.id):
            head = directory.head("node", node.node)
            if head is not None:
                yield head.index, member.id


def _read(at: int, leaf: bytes, genesis: str) -> Backing | None:
    kind, data = unwrap(leaf)
    if kind != DIRECTORY:
        return None
    try:
        envelope = read_envelope(data, genesis=genesis)
    except RegistryError:
        return None
    try:
        issued = tuple(tuple(issued_of(der) for der in signature.chain) for signature in envelope.signatures)
    except (ValueError, x509.InvalidVersion):
        return None
    return Backing(at, issued, tuple(der for signature in envelope.signatures for der in signature.chain[1:]))


def issued_of(der: bytes) -> Issued:
    """A certificate as a revocation list names it.

    Raises:
        ValueError, x509.InvalidVersion: It cannot be read.
    """
    certificate = x509.load_der_x509_certificate(der)
    return Issued(certificate.issuer.public_bytes(), certificate.serial_number)
