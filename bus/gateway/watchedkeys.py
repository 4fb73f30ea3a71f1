"""The sealing keys that a running node has: new files are taken over without a signal, old keys are destroyed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import structlog

from bus.errors import SettingsInvalid
from bus.gateway.sealingkeys import destroy, expired, load_keys
from bus.sealing.keys import SealingKeyPair
from registry.view import DirectoryView

_log = structlog.get_logger("lienthong.gateway")


class WatchedKeys:
    """Sealing keys by use; the dictionaries are the same objects for the life of the process.

    Args:
        folder: of the key files.

    Attributes:
        query: the member's, by key id.
        answer: the node's, by key id.
    """

    def __init__(self, folder: Path) -> None:
        self.query: dict[str, SealingKeyPair] = {}
        self.answer: dict[str, SealingKeyPair] = {}
        self._folder = folder
        self._seen_ns = self._changed_ns()

    def take(self, keys: Mapping[str, Mapping[str, SealingKeyPair]]) -> None:
        """Replaces all keys; cannot fail."""
        for current, new in ((self.query, keys["query"]), (self.answer, keys["answer"])):
            current.clear()
            current.update(new)

    def take_over(self) -> None:
        """Looks whether the folder changed, and reads it again if so; what cannot be read changes nothing."""
        changed_ns = self._changed_ns()
        if changed_ns == self._seen_ns:
            return
        self._seen_ns = changed_ns
        try:
            self.take(load_keys(self._folder))
        except (SettingsInvalid, OSError) as error:
            _log.error("sealing.keys-unreadable", detail=str(error))
            return
        _log.info("sealing.keys-taken", query=len(self.query), answer=len(self.answer))

    def destroy_expired(self, view: DirectoryView, now: datetime, kept_s: float) -> list[str]:
        """Deletes keys that nothing can be on its way to any more; their ids.

        Args:
            view: the directory.
            now: aware UTC.
            kept_s: how long a key is kept after its end.
        """
        gone = expired({"query": self.query, "answer": self.answer}, view, now, kept_s)
        if gone:
            destroy(self._folder, gone)
            for keyid in gone:
                self.query.pop(keyid, None)
                self.answer.pop(keyid, None)
        return gone

    def _changed_ns(self) -> int:
        try:
            return self._folder.stat().st_mtime_ns
        except OSError:
            return 0
