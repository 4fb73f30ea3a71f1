"""The shape of what the feed carries: bundles of leaves, and the first anchor among them.

A bundle on the wire is C2SP tlog-tiles' entry bundle: each leaf after its length as a 16-bit big-endian number. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from evidence.errors import EvidenceError
from evidence.leaf import DIRECTORY, unwrap
from registry.documents import Anchor, decode
from registry.envelope import read_envelope
from registry.errors import DocumentMalformed, EnvelopeInvalid, FeedInvalid, FeedUnavailable, WrongGenesis
from registry.ports import BUNDLE_LEAVES

MAX_LEAF_BYTES = 65_535
MAX_BUNDLE_BYTES = BUNDLE_LEAVES * (MAX_LEAF_BYTES + 2)


def encode_bundle(leaves: Sequence[bytes]) -> bytes:
    """Write 1 to 64 leaves as one blob, at most `MAX_BUNDLE_BYTES` (about 4 MiB).

    Raises:
        FeedInvalid: No leaves, too many, or one too large.
    """
    check_bundle(leaves)
    return b"".join(len(leaf).to_bytes(2) + leaf for leaf in leaves)


def decode_bundle(data: bytes) -> list[bytes]:
    """Read what `encode_bundle` wrote.

    Raises:
        FeedInvalid: Any other bytes.
    """
    leaves: list[bytes] = []
    at = 0
    while at < len(data) and len(leaves) <= BUNDLE_LEAVES:
        length = int.from_bytes(data[at : at + 2])
        leaf = data[at + 2 : at + 2 + length]
        if len(data) - at < 2 or len(leaf) != length:
            raise FeedInvalid("a bundle of the feed is cut off")
        leaves.append(leaf)
        at += 2 + length
    check_bundle(leaves)
    return leaves


def check_bundle(leaves: Sequence[bytes]) -> None:
    """Refuse bundles that no honest registry publishes.

    Raises:
        FeedInvalid: Empty, more than 64 leaves, or a leaf over 65,535 bytes.
    """
    if not 1 <= len(leaves) <= BUNDLE_LEAVES:
        raise FeedInvalid(f"a bundle of {len(leaves)} leaves; 1 to {BUNDLE_LEAVES} are allowed")
    if any(len(leaf) > MAX_LEAF_BYTES for leaf in leaves):
        raise FeedInvalid(f"a leaf in the feed is larger than {MAX_LEAF_BYTES} bytes")


def find_anchor(leaves: Sequence[bytes], genesis: str) -> Anchor:
    """The first anchor, in the first bundle of a directory.

    Control leaves may stand before it; nothing else does.

    Raises:
        FeedUnavailable: There is no anchor yet.
        WrongGenesis: The first document is not the anchor that hashes to the genesis.
    """
    for leaf in leaves:
        try:
            kind, jws = unwrap(leaf)
            if kind != DIRECTORY:
                continue
            payload = read_envelope(jws, genesis=None).payload
            document = decode(payload)
        except (EvidenceError, DocumentMalformed, EnvelopeInvalid) as error:
            raise FeedInvalid(f"the first entries of the feed cannot be read: {error}") from None
        if not isinstance(document, Anchor) or hashlib.sha256(payload).hexdigest() != genesis:
            raise WrongGenesis("this feed begins with another anchor: it is not the instance that was joined")
        return document
    raise FeedUnavailable("the directory has no anchor yet")
