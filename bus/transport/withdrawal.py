"""Withdrawal at the broker: accounts with their revocations, kept in files and pushed to the servers.

A push takes effect in the servers at once: what is refused is disconnected. It lasts, because the servers keep the
newest account JWT in their own folder, and because the embedded broker starts with the file that is written here first.
Leaf brokers of members hear a push as the servers do; for those that were away it is said again from time to time.
In a cluster every server answers for itself: a push is confirmed when each has. Who is refused is the guest book's
business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from bus.errors import BusError
from bus.transport import accounts, nkeys, subjects
from bus.transport.connection import Connection

_log = structlog.get_logger("lienthong.transport")
_DEADLINE_S = 2.0
_TAKEN = 200


class _Server(msgspec.Struct, frozen=True):
    name: str = ""


class _Said(msgspec.Struct, frozen=True):
    code: int = 0


class _Answer(msgspec.Struct, frozen=True):
    server: _Server = _Server()
    data: _Said = _Said()
    error: _Said | None = None


_answer = msgspec.json.Decoder(_Answer).decode


Claims = Callable[[dict[str, int], int], str]
"""Makes an account's JWT: with revocations, issued at a time."""


class WithdrawalUnconfirmed(BusError):
    """The broker did not take over an account: who is refused there may still be connected."""

    code = "withdrawal-unconfirmed"
    title = "The broker did not confirm who is refused"


class PushedAccount:
    """An account's JWT and its way to the broker.

    Args:
        claims: makes it.
        path: where the newest JWT is kept.
        replace: writes a file durably and as a whole.
        connection: of a user of the system account, not started yet.
        inbox: subjects below it are this account's own; ends with a dot.
        servers: how many servers the broker has.
        unix_time_s: current time.
    """

    def __init__(
        self,
        *,
        claims: Claims,
        path: Path,
        replace: Callable[[Path, bytes], None],
        connection: Connection,
        inbox: str,
        servers: int = 1,
        unix_time_s: Callable[[], float],
    ) -> None:
        self._claims = claims
        self._path = path
        self._replace = replace
        self._connection = connection
        self._unix_time_s = unix_time_s
        self._jwt = self._told = ""
        self._inbox = inbox
        self._servers = servers
        self._asked = 0
        self._took: set[str] = set()
        self._refused = False
        self._answered = asyncio.Event()
        connection.subscribe(f"{self._inbox}*", self._on_answer)

    @property
    def kept(self) -> bool:
        """Whether there is one that servers have to be told."""
        return bool(self._jwt)

    def keep(self, revocations: dict[str, int]) -> None:
        """Writes the JWT with these revocations, unless the newest one has them; newer than the one before it."""
        before = self._claims(revocations, 0)
        issued_s = 0
        if self._path.exists():
            self._jwt = self._path.read_text(encoding="ascii").strip()
            claims = nkeys.decode_claims(self._jwt)
            issued_s = int(claims["iat"])
            if claims["nats"] == nkeys.decode_claims(before)["nats"]:
                return
        self._jwt = self._claims(revocations, max(int(self._unix_time_s()), issued_s + 1))
        self._replace(self._path, self._jwt.encode())

    async def push(self) -> None:
        """Gives the newest JWT to all servers; harmless when they have it.

        Raises:
            WithdrawalUnconfirmed: not every server is known to have it; push again.
        """
        self._asked += 1
        self._took.clear()
        self._refused = False
        try:
            async with asyncio.timeout(_DEADLINE_S):
                await self._connection.send(subjects.CLAIMS_UPDATE, self._jwt.encode(), f"{self._inbox}{self._asked}")
                while len(self._took) < self._servers and not self._refused:
                    self._answered.clear()
                    await self._answered.wait()
        except (BusError, TimeoutError) as error:
            raise WithdrawalUnconfirmed(
                f"{len(self._took)} of {self._servers} servers of the broker confirmed the newest account"
                f" ({type(error).__name__}); tried again"
            ) from error
        if self._refused:
            raise WithdrawalUnconfirmed(
                "the broker refused the newest account: is the operator key in the instance's home the one of its"
                " configuration?"
            )
        if self._jwt != self._told:
            self._told = self._jwt
            _log.info("account.pushed", revocations=len(nkeys.decode_claims(self._jwt)["nats"].get("revocations", {})))

    async def _on_answer(self, subject: str, _reply: str, data: bytes) -> None:
        if subject != f"{self._inbox}{self._asked}" or not data:  # without data: the broker has nobody who would answer
            return
        try:
            said = _answer(data)
        except msgspec.MsgspecError:
            return
        if said.error is None and said.data.code == _TAKEN:
            self._took.add(said.server.name)
        else:
            self._refused = True
        self._answered.set()


class MembersAccount(PushedAccount):
    """The account of nodes and leaf brokers.

    Args:
        name: of the account.
        public: of the account, 32 raw bytes.
        streams: public key of the streams' account, 32 raw bytes.
        operator: public key of the broker's operator, 32 raw bytes.
        sign: signs with the operator's private key.
        path, replace, connection, servers, unix_time_s: see `PushedAccount`.
        inbox: subjects below it are the connection's own; ends with a dot.
    """

    def __init__(
        self,
        *,
        name: str,
        public: bytes,
        streams: bytes,
        operator: bytes,
        sign: nkeys.Sign,
        path: Path,
        replace: Callable[[Path, bytes], None],
        connection: Connection,
        inbox: str,
        servers: int = 1,
        unix_time_s: Callable[[], float],
    ) -> None:
        def claims(revocations: dict[str, int], issued_at_s: int) -> str:
            return accounts.members_jwt(name, public, streams, operator, sign, issued_at_s, revocations)

        super().__init__(
            claims=claims,
            path=path,
            replace=replace,
            connection=connection,
            inbox=f"{inbox}account.",
            servers=servers,
            unix_time_s=unix_time_s,
        )
