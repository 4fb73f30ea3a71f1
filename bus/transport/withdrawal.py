"""Withdrawal at the broker: the members' account with its revocations, kept in a file and pushed to the servers.

A push takes effect in the servers at once: what is refused is disconnected. It lasts, because the servers keep the
newest account JWT in their own folder, and because the embedded broker starts with the file that is written here first.
Leaf brokers of members hear a push as the servers do; for those that were away it is said again from time to time.
Who is refused is the guest book's business.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import structlog

from bus.errors import BusError
from bus.transport import accounts, nkeys, subjects
from bus.transport.connection import Connection

_log = structlog.get_logger("lienthong.transport")
_DEADLINE_S = 5.0


class WithdrawalUnconfirmed(BusError):
    """The broker did not take over the members' account: who is refused there may still be connected."""

    code = "withdrawal-unconfirmed"
    title = "The broker did not confirm who is refused"


class MembersAccount:
    """The account JWT and its way to the broker.

    Args:
        name: of the account.
        public: of the account, 32 raw bytes.
        streams: public key of the streams' account, 32 raw bytes.
        operator: public key of the broker's operator, 32 raw bytes.
        sign: signs with the operator's private key.
        path: where the newest JWT is kept.
        replace: writes a file durably and as a whole.
        connection: of a user of the system account.
        unix_time_s: current time.
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
        unix_time_s: Callable[[], float],
    ) -> None:
        self._name = name
        self._public = public
        self._streams = streams
        self._operator = operator
        self._sign = sign
        self._path = path
        self._replace = replace
        self._connection = connection
        self._unix_time_s = unix_time_s
        self._jwt = self._told = ""

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

    def _claims(self, revocations: dict[str, int], issued_at_s: int) -> str:
        return accounts.members_jwt(
            self._name, self._public, self._streams, self._operator, self._sign, issued_at_s, revocations
        )

    async def push(self) -> None:
        """Gives the newest JWT to the broker; harmless when it has it.

        Raises:
            WithdrawalUnconfirmed: it is not known to have it; push again.
        """
        try:
            answer = await self._connection.exchange(subjects.CLAIMS_UPDATE, self._jwt.encode(), _DEADLINE_S)
            said: dict[str, Any] = msgspec.json.decode(answer.data, type=dict[str, Any])
        except (BusError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise WithdrawalUnconfirmed(
                f"the broker did not confirm the newest account ({type(error).__name__}); tried again"
            ) from error
        if "error" in said or said.get("data", {}).get("code") != 200:
            raise WithdrawalUnconfirmed(
                "the broker refused the newest account: is the operator key in the instance's home the one of its"
                " configuration?"
            )
        if self._jwt != self._told:
            self._told = self._jwt
            _log.info("account.pushed", revocations=len(nkeys.decode_claims(self._jwt)["nats"].get("revocations", {})))
