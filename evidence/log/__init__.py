"""The exchange log: a node's own Merkle log, durable before anything is sent (protocol.md "Exchange log").

`ExchangeLog` is the one writer, `LogReader` a read-only view for proofs, exports and audits. What is *in* a leaf is no
concern of this package, but for the control leaves that it appends itself.
"""

from evidence.log.exchange_log import ExchangeLog, Logged, LogObserver
from evidence.log.reader import LogReader
from evidence.log.store import SqliteStore, Store

__all__ = ["ExchangeLog", "LogObserver", "LogReader", "Logged", "SqliteStore", "Store"]
