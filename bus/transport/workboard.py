"""The work stream of a member: one message a subject, put with the condition that nothing has changed meanwhile.

The broker compares and stores in one step, whatever node asks: by that alone the nodes of a member agree who does what.
The times of messages are the broker's own. What the messages mean is not known here.
"""

from __future__ import annotations

import asyncio
import os
from datetime import datetime

import msgspec
import nats.errors
from nats.aio.msg import Msg

from bus.errors import BrokerUnavailable, BusError, ProviderUnavailable, Timeout
from bus.ports import BoardEntry
from bus.transport import subjects
from bus.transport.connection import Connection
from bus.transport.queues import QueueRefused

_DEADLINE_S = 5.0
_WRONG_LAST_SEQUENCE = frozenset({10071, 10164})
_BATCH, _BATCH_BYTES = 256, 16 * 1024 * 1024


class _PutError(msgspec.Struct, frozen=True):
    err_code: int = 0


class _PutAnswer(msgspec.Struct, frozen=True):
    seq: int = 0
    error: _PutError | None = None


_answer = msgspec.json.Decoder(_PutAnswer).decode


class MemberBoard:
    """Implements `bus.ports.WorkBoard` over a connection of a node.

    Args:
        connection: of the node.
        node: identifier.
        member: identifier.
    """

    def __init__(self, connection: Connection, node: str, member: str) -> None:
        self._connection = connection
        self._inbox = subjects.inbox(node)
        self._get = f"$JS.API.DIRECT.GET.{subjects.work_stream(member)}"

    async def put(self, subject: str, data: bytes, after: int, life_s: int = 0) -> int | None:
        """See `bus.ports.WorkBoard`."""
        headers = {"Nats-Expected-Last-Subject-Sequence": str(after)}
        if life_s:
            headers["Nats-TTL"] = f"{life_s}s"
        reply = await self._connection.exchange(subject, data, _DEADLINE_S, headers)
        try:
            answer = _answer(reply.data)
        except msgspec.MsgspecError as error:
            raise QueueRefused("the broker's answer cannot be read") from error
        if answer.error is not None:
            if answer.error.err_code in _WRONG_LAST_SEQUENCE:
                return None
            raise QueueRefused(f"the broker did not store the message ({answer.error.err_code}); it is tried again")
        return answer.seq

    async def last(self, subject: str) -> BoardEntry | None:
        """See `bus.ports.WorkBoard`."""
        asked = msgspec.json.encode({"last_by_subj": subject})
        return _entry(await self._connection.exchange(self._get, asked, _DEADLINE_S))

    async def page(self, subjects_: str, first: int) -> list[BoardEntry]:
        """See `bus.ports.WorkBoard`."""
        client = self._connection.client
        inbox, found = f"{self._inbox}{os.urandom(12).hex()}", asyncio.Queue[Msg]()
        asked = msgspec.json.encode(
            {"seq": first, "next_by_subj": subjects_, "batch": _BATCH, "max_bytes": _BATCH_BYTES}
        )
        try:
            listening = await client.subscribe(inbox, cb=found.put)
            try:
                await client.publish(self._get, asked, inbox)
                async with asyncio.timeout(_DEADLINE_S):
                    return await _until_the_end(found)
            finally:
                await listening.unsubscribe()
        except TimeoutError as error:
            raise Timeout("the broker did not give the whole page in time") from error
        except (nats.errors.Error, OSError) as error:
            raise BrokerUnavailable from error


async def _until_the_end(found: asyncio.Queue[Msg]) -> list[BoardEntry]:
    entries: list[BoardEntry] = []
    while True:
        message = await found.get()
        status = (message.headers or {}).get("Status")
        if status == "503":
            raise ProviderUnavailable
        if status in ("204", "404"):  # the end of the page; nothing at all
            return entries
        entry = _entry(message)
        if entry is not None:
            entries.append(entry)


def _entry(message: Msg) -> BoardEntry | None:
    headers = message.headers or {}
    if headers.get("Status") == "404":
        return None
    try:
        stamp = datetime.fromisoformat(headers["Nats-Time-Stamp"])
        return BoardEntry(headers["Nats-Subject"], int(headers["Nats-Sequence"]), stamp.timestamp(), message.data)
    except (KeyError, ValueError) as error:
        raise BusError(f"the broker's answer is no message of a stream (status {headers.get('Status')})") from error
