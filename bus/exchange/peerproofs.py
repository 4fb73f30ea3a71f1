"""The proofs that counterparties sent along with their records, read from a log file for export. Read-only."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

from evidence import merkle
from evidence.proof import Proof


def export_peer_proofs(log_path: Path, out: Path, size: int) -> int:
    """Writes one JSON line per received record: `{"index", "leaf_hash", "proof"}`; how many.

    Args:
        log_path: of the exchange log.
        out: file to write.
        size: only leaves below this index (the size that was exported).

    The proof is a C2SP tlog-proof of the *sender's* log.
    """
    written = 0
    uri = f"{log_path.resolve().as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as db, out.open("w") as file:
        rows = db.execute(
            "SELECT peer_proof.idx, leaf.data, leaf_index, path, note FROM peer_proof JOIN leaf USING (idx)"
            " JOIN peer_note ON peer_note.hash = peer_proof.note_hash WHERE peer_proof.idx < ? ORDER BY peer_proof.idx",
            (size,),
        )
        for index, data, leaf_index, path, note in rows:
            proof = Proof(index=leaf_index, path=path, note=note, extra=None).format()
            line = {"index": index, "leaf_hash": merkle.leaf_hash(data).hex(), "proof": proof}
            file.write(json.dumps(line) + "\n")
            written += 1
    return written


def peer_proof(log_path: Path, index: int) -> Proof | None:
    """The sender's own proof of the record at an index of this log; None where the record is this node's own word."""
    uri = f"{log_path.resolve().as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as db:
        row = db.execute(
            "SELECT leaf_index, path, note FROM peer_proof JOIN peer_note ON peer_note.hash = peer_proof.note_hash"
            " WHERE idx = ?",
            (index,),
        ).fetchone()
    return None if row is None else Proof(index=row[0], path=row[1], note=row[2], extra=None)
