"""The node's credentials at the broker: renewed before they end, fetched anew when they are refused.

| when | from whom | then |
|---|---|---|
| two thirds of the lifetime have passed | the registry, through the broker | a second connection takes over |
| that failed | the same again, with growing pauses; then over HTTP, if `registry.url` is set | the same |
| another key with its credentials lies on disk (`node rotate broker`) | nobody | a second connection takes over |
| the broker refuses them (ended, withdrawn) | over HTTP, if `registry.url` is set | the next attempt uses them |

Whoever answers is not believed: only credentials for the own broker key, signed by the account that the instance's
anchor names, that are newer than those at hand, are stored. Connects nothing itself (`bus.transport.connection`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import structlog

from bus.errors import BusError
from bus.gateway.background import persist
from bus.gateway.nodekeys import BrokerFiles
from bus.ports import Clock
from bus.transport import nkeys, subjects
from bus.transport.connection import Connection
from bus.transport.renewal import read_answer
from registry.client import RegistryClient
from registry.errors import RegistryError

_log = structlog.get_logger("lienthong.gateway")
_DEADLINE_S = 5.0
_RETRY_MIN_S, _RETRY_MAX_S = 1.0, 30.0
_LOOK_S = 1.0
_LATEST_PART = 2 / 3

Fetch = Callable[[str], Awaitable[str]]
"""Node to its credentials, from the registry by another way than the broker; raises `BusError`."""


class CredentialsRefused(BusError):
    """New broker credentials did not come, or are not for this node."""

    code = "broker-credentials-refused"
    title = "There are no new broker credentials"


class Credentials(msgspec.Struct, frozen=True):
    """What a user JWT says, verified against its issuer.

    Attributes:
        issued_at_s: unix time.
        expires_at_s: unix time; None is open.
        issuer: text form of the account's key.
        holder: text form of the user's key.
    """

    issued_at_s: int
    expires_at_s: int | None
    issuer: str
    holder: str

    @property
    def renew_at_s(self) -> float | None:
        """When two thirds of the lifetime have passed."""
        if self.expires_at_s is None:
            return None
        return self.issued_at_s + (self.expires_at_s - self.issued_at_s) * _LATEST_PART


def read_credentials(jwt: str) -> Credentials:
    """What a JWT says.

    Raises:
        ValueError: it is no user JWT, or its signature is wrong.
    """
    claims = nkeys.verify_jwt(jwt)
    nats = claims.get("nats")
    if not isinstance(nats, dict) or nats.get("type") != "user":
        raise ValueError("not a user JWT")
    found = {
        "issued_at_s": claims.get("iat"),
        "expires_at_s": claims.get("exp"),
        "issuer": claims.get("iss"),
        "holder": claims.get("sub"),
    }
    try:
        return msgspec.convert(found, Credentials)
    except msgspec.ValidationError as error:
        raise ValueError("not a user JWT") from error


class BrokerUser:
    """See the module.

    Args:
        node: own node.
        files: own broker key and credentials.
        path: of the credentials.
        account: the account that the anchor names, as the directory has it; empty while there is none.
        clock: time.
        fetch: the way past the broker; None when there is none.
    """

    def __init__(
        self,
        *,
        node: str,
        files: BrokerFiles,
        path: Path,
        account: Callable[[], str],
        clock: Clock,
        fetch: Fetch | None,
    ) -> None:
        self._node = node
        self._files = files
        self._path = path
        self._connected_with = ""
        self._account = account
        self._clock = clock
        self._fetch = fetch
        self._refused = asyncio.Event()

    def jwt(self) -> str:
        """The credentials for the next connection, as they lie on disk.

        Raises:
            OSError: there are none.
            ValueError: they do not belong to the key now.
        """
        self._connected_with = self._files.jwt()
        return self._connected_with

    def refused(self) -> None:
        """To be called when the broker refuses them."""
        self._refused.set()

    def seconds_left(self) -> float:
        """Until they end: infinite for open ones, 0 when there are none that can be read."""
        try:
            held = read_credentials(self._files.jwt())
        except (OSError, ValueError):
            return 0.0
        return float("inf") if held.expires_at_s is None else max(0.0, held.expires_at_s - self._now_s())

    async def run(self, connection: Connection) -> None:
        """Keeps the credentials fresh until cancelled, whatever comes from outside."""
        await persist("credentials", lambda: self._keep_fresh(connection))

    async def _keep_fresh(self, connection: Connection) -> None:
        pause_s = _RETRY_MIN_S
        while True:
            exchanged = await self._until_due()
            was_refused = self._refused.is_set()
            try:
                if exchanged:
                    await connection.renew()
                    _log.info("credentials.exchanged")
                else:
                    await self._renew(connection, was_refused)
            except (BusError, OSError, ValueError) as error:
                _log.warning("credentials.unrenewed", detail=str(error), retry_in_s=pause_s)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _RETRY_MAX_S)
            else:
                # However wrong a clock is: never more than one renewal a second.
                pause_s = _RETRY_MIN_S
                await asyncio.sleep(pause_s)

    async def _until_due(self) -> bool:
        """Waits until two thirds have passed, or the broker refuses; True when another pair lies on disk instead."""
        try:
            due_s = read_credentials(self._files.jwt()).renew_at_s
        except (OSError, ValueError):
            return False
        while not self._refused.is_set():
            if self._exchanged():
                return True
            left_s = _LOOK_S if due_s is None else due_s - self._now_s()
            if left_s <= 0:
                return False
            with contextlib.suppress(TimeoutError):
                # in parts, because a wall clock may be set meanwhile
                await asyncio.wait_for(self._refused.wait(), min(left_s, _LOOK_S))
        return False

    def _exchanged(self) -> bool:
        """Whether `lienthong node rotate broker` put a new pair of key and credentials there."""
        try:
            return bool(self._connected_with) and self._files.jwt() != self._connected_with
        except (OSError, ValueError):
            return False  # one of the two is being written

    async def _renew(self, connection: Connection, was_refused: bool) -> None:
        self._refused.clear()
        jwt = await (self._fetched() if was_refused else self._asked(connection))
        self._store(jwt)
        await connection.renew()
        _log.info("credentials.renewed", valid_s=round(self.seconds_left()))

    async def _asked(self, connection: Connection) -> str:
        """From the registry through the broker; past it where that is possible."""
        try:
            message = await connection.exchange(subjects.credentials(self._node), b"", _DEADLINE_S)
            answer = read_answer(message.data)
            if not answer.jwt:
                raise CredentialsRefused(f"the registry gives none ({answer.code}); ask the operator of the instance")
        except (BusError, ValueError):
            if self._fetch is None:
                raise
            return await self._fetched()
        return answer.jwt

    async def _fetched(self) -> str:
        if self._fetch is None:
            raise CredentialsRefused(
                "the broker refuses this node's credentials, and registry.url is not set: set it, or have the operator"
                f" send new ones into {self._path.name}"
            )
        return await self._fetch(self._node)

    def _store(self, jwt: str) -> None:
        """Checks and stores.

        Raises:
            CredentialsRefused: they are not for this node, not of this instance, or not newer.
        """
        try:
            new = read_credentials(jwt)
        except ValueError as error:
            raise CredentialsRefused("what came are no credentials: is registry.url right?") from error
        try:
            held = read_credentials(self._path.read_text(encoding="ascii").strip())
        except (OSError, ValueError):
            held = None
        account = self._account() or (held.issuer if held is not None else "")
        if not self._files.holds(new.holder) or new.issuer != account:
            raise CredentialsRefused("what came are credentials of another node or another instance: not used")
        if new.expires_at_s is not None and new.expires_at_s <= self._now_s():
            raise CredentialsRefused("what came has ended already: is this machine's clock right?")
        if held is not None and new.issued_at_s < held.issued_at_s:
            raise CredentialsRefused("what came is older than what is there: not used")
        _replace(self._path, jwt.encode("ascii"))

    def _now_s(self) -> float:
        return self._clock.now().timestamp()


def _replace(path: Path, data: bytes) -> None:
    """Whole or not at all, readable by nobody else."""
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def registry_fetch(url: str) -> Fetch:
    """Fetches from the registry's HTTP interface.

    Raises (when called):
        CredentialsRefused: the registry does not answer, or gives none.
    """

    async def fetch(node: str) -> str:
        try:
            async with RegistryClient(url, timeout_s=_DEADLINE_S) as client:
                return (await client.credentials(node)).jwt
        except RegistryError as error:
            raise CredentialsRefused(f"the registry at registry.url gives none: {error}") from error

    return fetch
