"""Contents of results: checked as an answer is, kept under the key of the day, given out again.

Decides no state and logs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import msgspec
from cryptography.exceptions import InvalidTag

from bus import errors
from bus.delivery.store import Command, DeliveryReader, result_row
from bus.exchange.calls import ClientAnswer
from bus.exchange.contracts import Contracts
from bus.exchange.keeping import DayKeys, Row, open_particulars
from bus.exchange.opening import Opened
from bus.exchange.problems import refusal_from_body
from bus.ports import Clock
from bus.sealing.contents import Particulars, decode_particulars
from registry.decision import authorise
from registry.errors import RegistryError
from registry.view import DirectoryView, ServiceEntry

_NONCE_BYTES = 12
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[bytes, bytes]).decode


class ResultBook:
    """Results of one node's commands.

    Args:
        clock: time and randomness.
        directory: as it is known.
        contracts: compiled ones.
        day_keys: under which contents are kept.
        store: where they are.
        kept_s: how long.
    """

    def __init__(
        self,
        clock: Clock,
        directory: Callable[[], DirectoryView],
        contracts: Contracts,
        day_keys: DayKeys,
        store: DeliveryReader,
        kept_s: float,
    ) -> None:
        self._clock = clock
        self._directory = directory
        self._contracts = contracts
        self._day_keys = day_keys
        self._store = store
        self._kept_s = kept_s

    async def check(self, command: Command, opened: Opened) -> None:
        """Returns when the result may be given to the client system.

        Raises:
            AnswerInvalid: it breaks the contract as granted; it is logged but not delivered.
            BusError: it cannot be judged, now or at all, as its disposition says.
        """
        told = opened.particulars
        if told.fault:
            return
        service = self._directory().service(command.header.to)
        if service is None:
            raise errors.ServiceUnknown(f"{command.header.to} is no longer registered")
        granted = await self._granted(command, service)
        compiled = self._contracts.ready(service, granted) or await self._contracts.load(service, granted)
        try:
            compiled.validate_answer(
                command.header.operation or "", told.status, told.content_type, opened.body, head=False
            )
        except RegistryError as error:
            raise errors.AnswerInvalid(f"the result breaks the contract as granted ({error.code})") from error

    async def _granted(self, command: Command, service: ServiceEntry) -> frozenset[str] | None:
        if not service.fields:
            return None
        kept = await self._store.particulars(command.idx)
        if kept is None:
            raise errors.ContentsErased("what the command asked for was erased")
        _, asked = open_particulars(self._day_keys, *kept)
        return authorise(
            self._directory(),
            client=command.header.source,
            service=service.id,
            operation=command.header.operation or "",
            purpose=asked.purpose,
            ground=asked.legal_basis,
            official=asked.official,
            at=self._clock.now(),
        ).granted

    def keep(self, idx: int, opened: Opened, now: datetime) -> Row:
        """Row with the contents of the result of the command at log index `idx`."""
        day, nonce = now.date().isoformat(), self._clock.random(_NONCE_BYTES)
        plain = _encode((opened.kept[1], opened.body))
        sealed = self._day_keys.cipher(day).encrypt(nonce, plain, day.encode())
        return result_row(idx, int(now.timestamp() + self._kept_s), day, nonce + sealed)

    async def give(self, command: Command) -> ClientAnswer:
        """The result as the provider answered.

        Raises:
            BusError: the provider's refusal or failure; or there is no result, or none any more.
        """
        record_id = command.header.id
        if command.state == "expired":
            raise errors.CommandExpired("no receipt came in time", record_id=record_id)
        if command.state == "cancelled":
            raise errors.CommandCancelled("it was cancelled before it had an effect", record_id=record_id)
        if command.closing_idx is None:
            raise errors.ResultPending(f"the command is {command.state}", record_id=record_id)
        row = await self._store.result(command.idx, int(self._clock.now().timestamp()))
        if row is None and command.code:
            cls = errors.catalogue().get(command.code, errors.AnswerInvalid)
            error = cls("a result came and is in the log, but it could not be accepted", record_id=record_id)
            error.acted = "unknown"  # whatever such a code means before a call, the provider has answered this one
            raise error
        if row is None:
            raise errors.ResultGone("the result was kept as long as this gateway's settings say", record_id=record_id)
        particulars, body = self._opened(*row)
        if particulars.fault:
            raise refusal_from_body(particulars, body, record_id)
        return ClientAnswer(record_id, particulars.status, particulars.content_type, particulars.headers, body)

    def _opened(self, day: str, data: bytes) -> tuple[Particulars, bytes]:
        try:
            plain = self._day_keys.kept(day).decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], day.encode())
        except (InvalidTag, errors.ContentsErased) as error:
            raise errors.ResultGone("the key under which the result was kept is gone") from error
        encoded, body = _decode(plain)
        return decode_particulars(encoded), body
