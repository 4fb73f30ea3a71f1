"""The trust file of an offline verification: which keys belong to which logs.

It comes from the directory (or from paper): whoever verifies has decided to trust it. Nothing in a log or a proof can
add to it.
"""

import os
import re
from datetime import datetime
from pathlib import Path

import msgspec

from evidence.checkpoint import key_name
from evidence.errors import EvidenceError, TrustMalformed
from evidence.identifiers import parse_origin
from evidence.note import VerifierKey
from evidence.stamps import decode_time

MAX_TRUST_BYTES = 64 << 20
_ROOT = re.compile(r"[0-9a-f]{64}")


class KeyTrust(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """One of several keys of a log, with its time; see `OriginTrust`."""

    key: str
    from_: str
    until: str | None = None


class OriginTrust(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """The key of one log, or the newest of its keys.

    Attributes:
        key: Verifier key text.
        from_: First instant at which the key was the log's.
        until: Last instant; None while it is in use.
        keys: Every key of the log with its time, where there was more than one.
    """

    key: str
    from_: str
    until: str | None = None
    keys: list[KeyTrust] | msgspec.UnsetType = msgspec.UNSET

    def all_keys(self) -> list[KeyTrust]:
        """Every key of the log with its time."""
        return self.keys or [KeyTrust(self.key, self.from_, self.until)]

    def covers(self, at: datetime, key: VerifierKey) -> bool:
        """Whether a record of that instant may stand under a checkpoint of that key.

        The record may be older than the key, for each key signs the whole tree, but not older than the log's first
        key; and it may not be younger than the key.
        """
        until = self.until_of(key)
        first = min(decode_time(one.from_) for one in self.all_keys())
        return first <= at and (until is None or at <= decode_time(until))

    def until_of(self, key: VerifierKey) -> str | None:
        """Last instant of one of its keys; None while that one is in use."""
        return next((one.until for one in self.all_keys() if VerifierKey.parse(one.key) == key), self.until)


class RevocationTrust(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Trust that was withdrawn in the directory.

    Attributes:
        kind: "member", "node" or "key".
        id: Member id, node id, or SHA-256 of the key's public form (64 hex digits).
        since: From when on.
        index: Where the revocation stands in the directory's log, if that is known.
    """

    kind: str
    id: str
    since: str
    index: int | None = None


class ViewTrust(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """A tree of the directory, and the first and last time at which it was confirmed as the newest."""

    size: int
    from_: str
    until: str


class DatedTree(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tree of a log that somebody dated: it existed at `at`.

    Attributes:
        origin: The log.
        size: Leaves.
        root: 64 hex digits.
        at: The instant.
        by: Who says so.
    """

    origin: str
    size: int
    root: str
    at: str
    by: str = "directory"


class Trust(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The contents of a trust file.

    Attributes:
        genesis: 64 hex digits, the instance's identity; every origin begins with it.
        instance: Its name.
        origins: Log origin to its key.
        revocations: Trust that was withdrawn; records of those concerned are judged (`evidence.verdict`).
        views: Trees of the directory with their times, for lower bounds.
        dated: Trees of logs with their times, for upper bounds.
        witnesses: Verifier keys (type 0x04) whose timestamped cosignatures count as upper bounds.
    """

    genesis: str
    instance: str
    origins: dict[str, OriginTrust]
    revocations: list[RevocationTrust] = []
    views: list[ViewTrust] = []
    dated: list[DatedTree] = []
    witnesses: list[str] = []

    def keys_for(self, origin: str) -> list[VerifierKey]:
        """The trusted keys of a log; empty for an unknown origin."""
        found = self.origins.get(origin)
        return [] if found is None else [VerifierKey.parse(one.key) for one in found.all_keys()]

    def keys(self) -> list[VerifierKey]:
        """The keys of all logs."""
        return [VerifierKey.parse(one.key) for found in self.origins.values() for one in found.all_keys()]

    def keys_of_node(self, node: str) -> list[VerifierKey]:
        """Every key that a log of a node ever had."""
        suffix = f"/{node}/"
        return [
            VerifierKey.parse(one.key)
            for origin, found in self.origins.items()
            if origin[len(self.genesis) :].rpartition("/")[0] + "/" == suffix
            for one in found.all_keys()
        ]

    def witness_keys(self) -> list[VerifierKey]:
        """The trusted witnesses."""
        return [VerifierKey.parse(text) for text in self.witnesses]


def parse_trust(data: bytes) -> Trust:
    """Read a trust file.

    Raises:
        TrustMalformed: Not of the documented form, an origin of another instance, or a key under another name.
    """
    try:
        trust = msgspec.json.decode(data, type=Trust)
        for origin, found in trust.origins.items():
            if parse_origin(origin).genesis != trust.genesis:
                raise TrustMalformed(f"the trust file lists a log of another instance: {origin}")
            if found.keys and found.key not in {one.key for one in found.keys}:
                raise TrustMalformed(f"the trust file's newest key of a log is not among its keys: {origin}")
            for one in found.all_keys():
                if VerifierKey.parse(one.key).name != key_name(origin):
                    raise TrustMalformed(f"the trust file lists a key under another name than its log: {origin}")
                _check_times(one.from_, one.until)
        _check_judgement(trust)
    except TrustMalformed:
        raise
    except (msgspec.DecodeError, UnicodeDecodeError, EvidenceError) as error:
        raise TrustMalformed(f"the trust file is not of the documented form: {error}") from None
    return trust


def _check_times(*times: str | None) -> None:
    for time in times:
        if time is not None:
            decode_time(time)


def _check_judgement(trust: Trust) -> None:
    """What judges records is readable, before it is used."""
    trust.witness_keys()
    for one in trust.revocations:
        if one.kind not in {"member", "node", "key"}:
            raise TrustMalformed("the trust file lists a revocation of something that is no member, node or key")
        _check_times(one.since)
    for view in trust.views:
        _check_times(view.from_, view.until)
    for tree in trust.dated:
        _check_times(tree.at)
        if not _ROOT.fullmatch(tree.root) or tree.size < 1:
            raise TrustMalformed(f"the trust file dates a tree of {tree.origin} that is no tree")


def load_trust(path: str | os.PathLike[str]) -> Trust:
    """Read a trust file from disk.

    Raises:
        TrustMalformed: See `parse_trust`; or it cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_TRUST_BYTES)
    except OSError as error:
        raise TrustMalformed(f"the trust file {path} cannot be read ({error.strerror})") from None
    return parse_trust(data)
