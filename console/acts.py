"""Admin records of a log, newest last. Lists what is stored; `audit verify` verifies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evidence.act import decode_act
from evidence.leaf import ADMIN, unwrap
from evidence.log.reader import LogReader

_CHUNK = 1024


def newest_acts(log: Path, most: int) -> list[dict[str, Any]]:
    """Up to `most` acts with their index in the log.

    Raises:
        EvidenceError: the log cannot be read, or an admin record in it is malformed.
    """
    found: list[dict[str, Any]] = []
    with LogReader(log) as reader:
        stop = reader.head().size
        while stop > 0 and len(found) < most:
            start = max(0, stop - _CHUNK)
            for index, _, leaf in reversed(list(reader.leaves(start, stop))):
                kind, data = unwrap(leaf)
                if kind == ADMIN and len(found) < most:
                    act = decode_act(data)
                    found.append({"index": index, **{name: getattr(act, name) for name in act.__struct_fields__}})
            stop = start
    for row in found:
        row["roles"] = list(row["roles"])
    return found[::-1]
