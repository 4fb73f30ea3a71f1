"""Appends to an exchange log and to rows beside it, and tells of each record that it was told to be durable.

    python writing_log.py FOLDER COUNT

The acknowledgements go into `FOLDER/acknowledged`, so that they stand in the recorded order between the writes. The
program ends without closing the log: what is on the disk then is what a cut at its end may leave.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from evidence.leaf import DIRECTORY, wrap
from evidence.log import ExchangeLog
from evidence.merkle import leaf_hash
from evidence.signer import FileSigner

ORIGIN = "0f" * 32 + "/VN/GOV/H37/@n1/1"
SIGNER = FileSigner(Ed25519PrivateKey.from_private_bytes(b"a" * 32))
SCHEMA = ["CREATE TABLE IF NOT EXISTS outbox (idx INTEGER PRIMARY KEY, what TEXT)"]


async def open_log(path: Path) -> ExchangeLog:
    """The log, as a node opens it."""
    return await ExchangeLog.open(
        path, origin=ORIGIN, signer=SIGNER, now=lambda: datetime.now(UTC), token=lambda: os.urandom(16).hex(),
        schema=SCHEMA, retry_s=0.02,
    )  # fmt: skip


async def write(folder: Path, count: int) -> None:
    """See the module."""
    told = os.open(folder / "acknowledged", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    log = await open_log(folder / "log.db")

    async def work(worker: int) -> None:
        for number in range(count):
            leaf = wrap(DIRECTORY, f"{worker} {number} ".encode() * (4_000 if number % 3 == 0 else 20))
            row = (0, "INSERT INTO outbox VALUES (?, ?)", (str(number),))
            (logged,) = await log.append([leaf], [row])
            line = {"index": logged.index, "hash": leaf_hash(leaf).hex(), "note": logged.note.decode()}
            os.write(told, json.dumps(line).encode() + b"\n")

    await asyncio.gather(*(work(worker) for worker in range(5)))
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(write(Path(sys.argv[1]), int(sys.argv[2])))
