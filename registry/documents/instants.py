"""Times in documents. Asks no clock."""

from __future__ import annotations

from datetime import datetime

from evidence.errors import HeaderMalformed
from evidence.stamps import decode_time
from registry.errors import DocumentMalformed


def parse_time(text: str) -> datetime:
    """The instant of a time in a document, as `evidence.stamps.encode_time` writes it.

    Raises:
        DocumentMalformed: Not UTC with six decimals, or no such instant.
    """
    try:
        return decode_time(text)
    except HeaderMalformed as error:
        raise DocumentMalformed(str(error)) from None


def parse_checked_time(text: str) -> datetime:
    """The instant of a time that `parse_time` accepted before (0.1 µs)."""
    return datetime.fromisoformat(text)
