"""The kind `bench`: a back end that costs almost nothing, found like any other installed kind.

It does no work of its own on purpose: what is measured is the bus in front of it. The plain relay's handler answers
with the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping

from adapters.errors import SettingsInvalid
from adapters.port import AdapterAnswer, AdapterRequest, SourceObserver

ANSWER_BYTES = 200
_ID_BYTES = 12
_HEAD = b'{"id":"'
_TAIL = b'","name":"Item of the benchmark","state":"registered","quantity":42,"registeredOn":"2026-01-31","note":"%s"}'
_PADDING = ANSWER_BYTES - _ID_BYTES - len(_HEAD) - len(_TAIL % b"")
_END = _TAIL % (b"." * _PADDING)


def item(item_id: str) -> bytes:
    """The item of a twelve-digit number, 200 bytes of JSON."""
    return _HEAD + item_id.encode() + _END


class BenchSource:
    """Answers at once."""

    async def open(self) -> None:
        """Nothing to acquire."""

    async def call(self, request: AdapterRequest) -> AdapterAnswer:
        """The item that was asked for, or was handed over."""
        if request.method == "POST":
            return AdapterAnswer(200, (), "application/json", request.body)
        return AdapterAnswer(200, (), "application/json", item(request.path[7:]))

    async def check(self) -> None:
        """Always there."""

    async def close(self) -> None:
        """Nothing to give back."""


class BenchKind:
    """Makes sources of the kind `bench`."""

    def build(self, settings: Mapping[str, object], observer: SourceObserver) -> BenchSource:
        """A source; the kind has no settings.

        Raises:
            SettingsInvalid: There are some.
        """
        del observer
        for key in settings:
            raise SettingsInvalid(key, "the kind has no settings")
        return BenchSource()
