"""Rows of claims that this node has made and not yet ended, and of what it let go to another. Decides nothing."""

from __future__ import annotations

TABLES = (
    "CREATE TABLE IF NOT EXISTS claimed (leaf_hash BLOB PRIMARY KEY, until_s INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS let_go (leaf_hash BLOB PRIMARY KEY, until_s INTEGER NOT NULL) WITHOUT ROWID",
)
CLAIMED = "INSERT OR IGNORE INTO claimed (leaf_hash, until_s) VALUES (?, ?)"
ENDED = "DELETE FROM claimed WHERE leaf_hash = ?"
LET_GO = "INSERT OR REPLACE INTO let_go SELECT leaf_hash, until_s FROM taken WHERE sender = ? AND leaf_hash = ?"
WAS_LET_GO = "SELECT 1 FROM let_go WHERE leaf_hash = ?"
TAKEN_BACK = "DELETE FROM let_go WHERE leaf_hash = ?"
FORGET_LET_GO = "DELETE FROM let_go WHERE until_s < ?"
MADE = "SELECT leaf_hash, until_s FROM claimed"
TASKS = (
    "SELECT taken.leaf_hash, taken.until_s, task.idx, task.envelope, taken_s, state, code, detail, attempts"
    " FROM task JOIN taken USING (idx)"
)
EARLIER = (
    "SELECT leaf_hash, until_s FROM taken WHERE until_s < ? AND idx NOT IN (SELECT idx FROM task)"
    ' AND (SELECT instr(CAST(data AS TEXT), \'"type":"command"\') FROM leaf WHERE leaf.idx = taken.idx)'
)
