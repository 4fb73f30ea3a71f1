"""Rows of claims that this node has made and not yet ended, and what is claimed anew. Decides nothing."""

from __future__ import annotations

TABLES = ("CREATE TABLE IF NOT EXISTS claimed (leaf_hash BLOB PRIMARY KEY, until_s INTEGER NOT NULL) WITHOUT ROWID",)
CLAIMED = "INSERT OR IGNORE INTO claimed (leaf_hash, until_s) VALUES (?, ?)"
ENDED = "DELETE FROM claimed WHERE leaf_hash = ?"
MADE = "SELECT leaf_hash, until_s FROM claimed"
TASKS = (
    "SELECT taken.leaf_hash, taken.until_s, task.idx, task.envelope, taken_s, state, code, detail, attempts"
    " FROM task JOIN taken USING (idx)"
)
EARLIER = (
    "SELECT leaf_hash, until_s FROM taken WHERE until_s < ? AND idx NOT IN (SELECT idx FROM task)"
    ' AND (SELECT instr(CAST(data AS TEXT), \'"type":"command"\') FROM leaf WHERE leaf.idx = taken.idx)'
)
