"""Writes rows into a store of the registry room, as the own documents and the copy of the directory are written.

python writing_store.py FOLDER COUNT
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from registry.database import open_store, transaction

SCHEMA = ("CREATE TABLE IF NOT EXISTS own (number INTEGER PRIMARY KEY, what BLOB)",)


def main(folder: Path, count: int) -> None:
    """See the module."""
    told = os.open(folder / "acknowledged", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    store = open_store(folder / "own.db", kind="own-documents", version=1, genesis="0f" * 32, schema=SCHEMA)
    for number in range(count):
        with transaction(store):
            store.execute("INSERT INTO own VALUES (?, ?)", (number, b"x" * (200 + number % 7 * 3_000)))
        os.write(told, f"{number}\n".encode())
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
