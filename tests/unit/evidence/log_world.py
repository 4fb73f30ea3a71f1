"""A small world for log tests: one clock, countable tokens, two members' nodes and a store that fails on command."""

import asyncio
import itertools
import os
import sqlite3
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from evidence import header
from evidence.header import Header, encode_time, uuid7
from evidence.leaf import EXCHANGE, wrap
from evidence.log import ExchangeLog, SqliteStore
from evidence.merkle import leaf_hash
from evidence.signer import FileSigner

GENESIS = "0f" * 32
NOW = datetime(2026, 11, 23, 1, 2, 3, tzinfo=UTC)
H37, G01 = "VN/GOV/H37", "VN/GOV/G01"
ORIGIN, ORIGIN_G01 = f"{GENESIS}/{H37}/@n1/1", f"{GENESIS}/{G01}/@n1/1"
SIGNER, SIGNER_G01 = (FileSigner(Ed25519PrivateKey.from_private_bytes(seed * 32)) for seed in (b"a", b"b"))

_tokens = itertools.count()
_ids = itertools.count()


def token():
    return f"token-{next(_tokens):020d}"


def record(type_="query", member=H37, to=G01, **more):
    """The leaf of one record."""
    number = next(_ids)
    fields = {"source": f"{member}/sub", "node": f"{member}/@n1", "to": f"{to}/sub", "time": encode_time(NOW)} | more
    made = Header(
        specversion="1.0",
        id=uuid7(1_790_000_000_000 + number, b"0123456789"),
        type=type_,
        **fields,
    )
    return wrap(EXCHANGE, header.encode(made))


def reply(leaf, type_="answer", member=G01, to=H37, class_="ok", **more):
    """A record that replies to another."""
    return record(type_, member, to, inreplyto=leaf_hash(leaf).hex(), class_=class_, **more)


class Heard:
    """An observer that keeps what it heard."""

    def __init__(self):
        self.batches = []
        self.failures = 0
        self.failure = asyncio.Event()

    def committed(self, leaves, seconds):
        assert seconds >= 0
        self.batches.append(leaves)

    def failed(self):
        self.failures += 1
        self.failure.set()


class Faults:
    """Which steps of the store fail, and how."""

    def __init__(self):
        self._armed = {}
        self.seen = []
        self.gates = {}

    def arm(self, step, how="fails", times=1, error=None):
        """`how`: "fails" (not done), "reported" (done, but reported as failed) or "killed"."""
        self._armed[step] = [how, times, error or sqlite3.OperationalError("disk I/O error")]

    def disarm(self):
        self._armed.clear()

    def run(self, step, call):
        self.seen.append(step)
        if step in self.gates:
            self.gates[step].wait(60)
        how, times, error = self._armed.get(step, ("", 0, None))
        if not times:
            return call()
        self._armed[step][1] -= 1
        if how == "killed":
            os.kill(os.getpid(), 9)
        if how == "reported":
            call()
        raise error


class FaultyStore:
    """A real store whose methods fail as `Faults` says."""

    def __init__(self, inner, faults):
        self._inner, self._faults = inner, faults

    def __getattr__(self, name):
        method = getattr(self._inner, name)
        return lambda *args: self._faults.run(name, lambda: method(*args))


@asynccontextmanager
async def opened(path, *, faults=None, origin=ORIGIN, signer=SIGNER, **more):
    """An open log, closed afterwards."""
    factory = SqliteStore if faults is None else lambda path: FaultyStore(SqliteStore(path), faults)
    log = await ExchangeLog.open(
        path,
        **({"now": lambda: NOW, "token": token, "store_factory": factory, "retry_s": 0.01} | more),
        origin=origin,
        signer=signer,
    )
    try:
        yield log
    finally:
        await log.close()
