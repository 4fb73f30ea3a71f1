"""The provider's own rights, as its gateway enforces them: taken over whenever the command line wrote the store."""

from __future__ import annotations

from pathlib import Path

import structlog

from bus.metrics import GatewayMetrics
from registry.errors import RegistryError
from registry.fold import Directory
from registry.own import OwnStore, OwnView, compare

_log = structlog.get_logger("lienthong.gateway")


class OwnRights:
    """The own store and the view that decides.

    Args:
        path: of own.db.
        genesis: of the instance.
        member: own member.
        directory: the folded directory, the same object for the life of the process.
    """

    def __init__(self, path: Path, genesis: str, member: str, directory: Directory) -> None:
        self._path = path
        self._genesis = genesis
        self._member = member
        self._directory = directory
        self._stamp = _stamp(path) if path.exists() else (0, 0)
        self._store = OwnStore(path, genesis=genesis, member=member)
        self._alarmed: set[tuple[str, str]] = set()
        self.view = OwnView(self._store, directory)

    def take_over(self) -> None:
        """Reads the store again if its file changed; an unreadable one changes nothing."""
        # The stamp tells another file in its place; times of files are too coarse for two writes in a row.
        stamp = _stamp(self._path)
        if stamp == self._stamp and not self._store.changed():
            return
        try:
            store = OwnStore(self._path, genesis=self._genesis, member=self._member)
        except RegistryError as error:
            _log.error("own-store.unreadable", code=error.code)
            return
        old, self._store = self._store, store
        self.view = OwnView(store, self._directory)
        old.close()
        self._stamp = stamp
        _log.info("own-store.reloaded")

    def report_differences(self, metrics: GatewayMetrics) -> None:
        """Alarms once for each own document that the directory misses, and each of a stranger in our name."""
        for alarm in compare(self._store, self._directory):
            if (alarm.code, alarm.subject) not in self._alarmed:
                self._alarmed.add((alarm.code, alarm.subject))
                metrics.alarm(alarm.code, self._member)
                _log.warning("own-store.alarm", code=alarm.code, subject=alarm.subject)

    def close(self) -> None:
        """Closes the store."""
        self._store.close()


def _stamp(path: Path) -> tuple[int, int]:
    wal = path.with_name(path.name + "-wal")
    return path.stat().st_mtime_ns, wal.stat().st_mtime_ns if wal.exists() else 0
