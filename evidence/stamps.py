"""Record ids (UUIDv7) and instants in their wire spelling.

Pure: the caller brings clock and randomness.
"""

import re
from datetime import UTC, datetime

from evidence.errors import HeaderMalformed

UUID7 = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
"""Regular expression of a lower-case UUIDv7 (RFC 9562 section 5.7)."""
TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z"
"""Regular expression of an instant; `decode_time` checks the calendar as well."""

_UUID7 = re.compile(UUID7)
_TIME = re.compile(TIME)


def uuid7(unix_ms: int, random: bytes) -> str:
    """Make a UUIDv7 (RFC 9562 section 5.7).

    Args:
        unix_ms: Milliseconds since 1970, 48 bits.
        random: 10 bytes; 74 of their 80 bits are used.

    Raises:
        ValueError: An argument of the wrong size; a mistake in the calling code.
    """
    if len(random) != 10 or not 0 <= unix_ms < 1 << 48:
        raise ValueError("uuid7 needs 10 random bytes and a 48-bit time")
    bits = int.from_bytes(random)
    rand_a = (bits >> 62) & 0xFFF
    rand_b = bits & 0x3FFF_FFFF_FFFF_FFFF
    text = f"{(unix_ms << 80) | (7 << 76) | (rand_a << 64) | (2 << 62) | rand_b:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def is_uuid7(text: str) -> bool:
    """Whether the text is a UUIDv7 in lower case."""
    return _UUID7.fullmatch(text) is not None


def encode_time(instant: datetime) -> str:
    """Write an aware instant as `2026-11-23T04:05:06.000007Z`.

    Raises:
        ValueError: The datetime is naive; a mistake in the calling code.
    """
    if instant.tzinfo is not UTC:
        if instant.tzinfo is None:
            raise ValueError("an instant must be aware")
        instant = instant.astimezone(UTC)
    text = instant.isoformat()  # naming the resolution costs half as much again
    return f"{text[:26]}Z" if instant.microsecond else f"{text[:19]}.000000Z"


def decode_time(text: str) -> datetime:
    """Read what `encode_time` wrote.

    Returns:
        An aware datetime in UTC.

    Raises:
        HeaderMalformed: Another spelling, or no date of the calendar.
    """
    if not _TIME.fullmatch(text):
        raise HeaderMalformed("a time is not UTC with six decimals and 'Z', like 2026-11-23T04:05:06.000007Z")
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise HeaderMalformed("a time is no instant of the calendar: correct the date or the clock") from None
