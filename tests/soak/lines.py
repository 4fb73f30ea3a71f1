"""Files of JSON lines that several processes of the soak keep: each line is on disk before anybody goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class LineFile:
    """Appends lines; a torn last line, left by a kill, is closed first so that it cannot swallow the next."""

    def __init__(self, path: Path, *, sync: bool = True) -> None:
        self._sync = sync
        self._fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o600)
        size = os.fstat(self._fd).st_size
        if size and os.pread(self._fd, 1, size - 1) != b"\n":
            os.write(self._fd, b"\n")

    def add(self, **what: Any) -> None:
        """One line; when this returns, it is on disk (or with the kernel, if `sync` is off)."""
        os.write(self._fd, json.dumps(what, separators=(",", ":")).encode() + b"\n")
        if self._sync:
            os.fsync(self._fd)

    def close(self) -> None:
        """Closes it."""
        os.close(self._fd)


def read(path: Path) -> Iterator[dict[str, Any]]:
    """All whole lines, in their order; a file that is not there has none."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                found = json.loads(line)
            except ValueError:
                continue
            if isinstance(found, dict):
                yield found
