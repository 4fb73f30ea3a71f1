"""`Deprecation` and `Sunset` beside what a client hears of its command: `202`, and the result.

A query's answer carries them from its provider. A command is answered by the sender's own gateway, long before the
provider is asked: it tells what the directory says, which is the provider's own signed word. What is said of an
exchange itself (`GET /exchanges/{id}`) does not carry them: RFC 9745 and RFC 8594 speak of the resource that is asked
for, and the exchange stays.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from bus.exchange.notices import deprecation_fields
from evidence.header import Header
from registry.view import DirectoryView


class Deprecations:
    """What the directory says of operations.

    Args:
        directory: the view that counts now.
    """

    def __init__(self, directory: Callable[[], DirectoryView]) -> None:
        self._directory = directory

    def has(self, service: str) -> bool:
        """Whether any operation of a service is deprecated."""
        entry = self._directory().service(service)
        return entry is not None and bool(entry.deprecated)

    def tell(self, response: web.StreamResponse, command: Header) -> None:
        """Adds the fields to what is answered about a command of such an operation; the provider's own stay."""
        entry = self._directory().service(command.to)
        found = None if entry is None else entry.deprecated.get(command.operation or "")
        for name, value in () if found is None else deprecation_fields(found):
            response.headers.setdefault(name, value)
