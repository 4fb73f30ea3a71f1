"""A node asks for new broker credentials through the broker itself: question, answer, and the registry's end.

The question is an empty message on `lt.k.registry.<node>`, which the broker lets only that node send; the answer goes
to the inbox of that node and to no other. Nothing is secret in it: credentials are worth nothing without the key. The
gateway's end is `bus.gateway.brokeruser`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
import structlog

from bus.errors import BrokerUnavailable, BusError
from bus.transport import subjects
from registry.errors import RegistryError

_log = structlog.get_logger("lienthong.transport")
_VERSION = 1


class Minted(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The answer: credentials, or the code of the reason why there are none."""

    version: int
    jwt: str = ""
    code: str = ""


class Outbound(Protocol):
    """How an answer goes out."""

    async def send(self, subject: str, payload: bytes) -> None:
        """Publishes.

        Raises:
            BrokerUnavailable: not connected.
        """
        ...


class CredentialDesk:
    """The registry's end.

    Args:
        instance: name of the instance.
        mint: node to its credentials; raises `RegistryError` when it gets none.
        outbound: sends answers.
    """

    def __init__(self, instance: str, mint: Callable[[str], Awaitable[str]], outbound: Outbound) -> None:
        self._instance = instance
        self._mint = mint
        self._outbound = outbound

    async def on_question(self, subject: str, reply: str, _data: bytes) -> None:
        """Answers one question; drops what is none."""
        asker = subjects.node_of_token(subject.rpartition(".")[2], self._instance)
        if asker is None or not reply.startswith(subjects.inbox(asker)) or any(c in reply for c in " *>"):
            return
        try:
            answer = Minted(_VERSION, jwt=await self._mint(asker))
            _log.info("credentials.minted", node=asker)
        except (RegistryError, BusError) as error:
            answer = Minted(_VERSION, code=error.code)
            _log.warning("credentials.refused", node=asker, code=error.code)
        try:
            await self._outbound.send(reply, msgspec.msgpack.encode(answer))
        except BrokerUnavailable:
            _log.debug("credentials.unsent")


def read_answer(data: bytes) -> Minted:
    """The registry's answer.

    Raises:
        ValueError: it is none.
    """
    try:
        return msgspec.msgpack.decode(data, type=Minted)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError("not an answer of the registry") from error
