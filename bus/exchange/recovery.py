"""What an earlier run left: ids of queries that were consumed, requests without a closing record. Read-only."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from bus.errors import StoreTooNew
from bus.exchange.keeping import SCHEMA_VERSION
from evidence import header, leaf, merkle
from evidence.errors import SourceUnreadable
from evidence.header import Header


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """State of a log file at start.

    Attributes:
        seen: (id, until in seconds) of consumed queries.
        open_requests: (index, header, leaf hash in hex) of requests without a closing record.
    """

    seen: list[tuple[str, int]]
    open_requests: list[tuple[int, Header, str]]


def left_behind(path: Path, now_s: int) -> LeftBehind:
    """Reads the callers' tables of an exchange log.

    Args:
        path: of the SQLite file.
        now_s: ids that expired before are left out.

    Raises:
        StoreTooNew: written by a newer version; this one must not go on with it.
        SourceUnreadable: the file cannot be read now.
    """
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            (version,) = db.execute("SELECT version FROM exchange_schema").fetchone()
            if version > SCHEMA_VERSION:
                raise StoreTooNew(f"{path} was written by a newer version of lienthong; use that version")
            seen = db.execute("SELECT id, until_s FROM seen WHERE until_s >= ?", (now_s,)).fetchall()
            rows = db.execute("SELECT idx, leaf.data FROM open_request JOIN leaf USING (idx) ORDER BY idx").fetchall()
    except sqlite3.Error as error:
        raise SourceUnreadable(f"the exchange log {path} cannot be read ({error})") from error
    requests = []
    for index, data in rows:
        requests.append((index, header.decode(leaf.unwrap(data)[1]), merkle.leaf_hash(data).hex()))
    return LeftBehind(seen, requests)


def newest_peer_notes(path: Path, received: int = 20_000) -> list[bytes]:
    """Checkpoints that came with the last records received: what peers that restore an old backup are told of.

    Args:
        path: of the SQLite file.
        received: how many records back.

    Raises:
        SourceUnreadable: the file cannot be read now.
    """
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            rows = db.execute(
                "SELECT note FROM peer_note WHERE hash IN (SELECT note_hash FROM peer_proof ORDER BY idx DESC LIMIT ?)",
                (received,),
            ).fetchall()
    except sqlite3.Error as error:
        raise SourceUnreadable(f"the exchange log {path} cannot be read ({error})") from error
    return [row[0] for row in rows]
