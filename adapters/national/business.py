"""Kind `business`: the business register's contract answered by its own application, over the kind `http`.

The register's application speaks the contract's form at `base_url`. This kind lets exactly the operations of the
contract through, by method and path, so that a register's other doors stay shut whatever its `base_url` offers.
Settings are those of the kind `http`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from adapters.errors import OperationNotMapped
from adapters.kinds.http import HttpKind, HttpSource
from adapters.port import AdapterAnswer, AdapterRequest, SourceObserver

_CODE = r"[0-9]{10}(?:-[0-9]{3})?"


@dataclass(frozen=True, slots=True)
class Door:
    """What one operation looks like at the register."""

    methods: frozenset[str]
    path: re.Pattern[str]


DOORS: Mapping[str, Door] = {
    "getEnterprise": Door(frozenset({"GET", "HEAD"}), re.compile(f"/enterprises/{_CODE}")),
    "searchEnterprises": Door(frozenset({"GET", "HEAD"}), re.compile("/enterprises")),
    "registrationStatus": Door(frozenset({"POST"}), re.compile("/registration-status")),
}


class BusinessKind:
    """Makes sources that answer the operations of the business contract."""

    def build(self, settings: Mapping[str, object], observer: SourceObserver) -> "BusinessSource":
        """Check the settings and make a source that is not open yet.

        Raises:
            SettingsInvalid: With the dotted key that is wrong.
        """
        return BusinessSource(HttpKind().build(settings, observer))


class BusinessSource:
    """The register's application. See `adapters.port.Source`."""

    def __init__(self, register: HttpSource) -> None:
        self._register = register

    async def open(self) -> None:
        """Open the register's source.

        Raises:
            SettingsInvalid: A secret or certificate file cannot be used.
        """
        await self._register.open()

    async def close(self) -> None:
        """Close the register's source."""
        await self._register.close()

    async def check(self) -> None:
        """Say whether the register is there.

        Raises:
            AdapterError: It is not.
        """
        await self._register.check()

    async def call(self, request: AdapterRequest) -> AdapterAnswer:
        """Forward a call of the contract.

        Raises:
            OperationNotMapped: Not an operation of the contract, or in another form; nothing was sent.
            AdapterError: See `HttpSource.call`.
        """
        door = DOORS.get(request.operation)
        if door is None or request.method not in door.methods or door.path.fullmatch(request.path) is None:
            raise OperationNotMapped("the business register has no such operation in this form; not sent", acted="no")
        return await self._register.call(request)
