"""The trust file of an offline verification: which keys belong to which logs.

It comes from the directory (or from paper): whoever verifies has decided to trust it. Nothing in a log or a proof can
add to it.
"""

import os
from datetime import datetime
from pathlib import Path

import msgspec

from evidence.checkpoint import key_name
from evidence.errors import EvidenceError, TrustMalformed
from evidence.identifiers import parse_origin
from evidence.note import VerifierKey
from evidence.stamps import decode_time

MAX_TRUST_BYTES = 64 << 20


class OriginTrust(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """The key of one log.

    Attributes:
        key: Verifier key text.
        from_: First instant at which the key was the log's.
        until: Last instant; None while it is in use.
    """

    key: str
    from_: str
    until: str | None = None

    def covers(self, at: datetime) -> bool:
        """Whether an instant falls into the key's time."""
        return decode_time(self.from_) <= at and (self.until is None or at <= decode_time(self.until))


class Trust(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of a trust file.

    Attributes:
        genesis: 64 hex digits, the instance's identity; every origin begins with it.
        instance: Its name.
        origins: Log origin to its key.
    """

    genesis: str
    instance: str
    origins: dict[str, OriginTrust]

    def keys_for(self, origin: str) -> list[VerifierKey]:
        """The trusted keys of a log; empty for an unknown origin."""
        found = self.origins.get(origin)
        return [] if found is None else [VerifierKey.parse(found.key)]

    def keys(self) -> list[VerifierKey]:
        """The keys of all logs."""
        return [VerifierKey.parse(found.key) for found in self.origins.values()]


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
            if VerifierKey.parse(found.key).name != key_name(origin):
                raise TrustMalformed(f"the trust file lists a key under another name than its log: {origin}")
            decode_time(found.from_)
            if found.until is not None:
                decode_time(found.until)
    except TrustMalformed:
        raise
    except (msgspec.DecodeError, UnicodeDecodeError, EvidenceError) as error:
        raise TrustMalformed(f"the trust file is not of the documented form: {error}") from None
    return trust


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
