"""The exclusive lock of a log: two processes never write one log.

Two writers with one key would sign two trees of the same size, which is a fork that nothing can heal. The lock is
advisory (`flock` on a file beside the database) and ends with the process, however it ends.
"""

import fcntl
import os
from pathlib import Path

from evidence.errors import LogLocked, LogUnwritable


class LogLock:
    """Holds the lock from construction until `release`.

    Raises:
        LogLocked: Another holder lives.
        LogUnwritable: The lock file cannot be made.
    """

    __slots__ = ("_descriptor",)

    def __init__(self, database: Path) -> None:
        path = database.with_name(database.name + ".lock")
        try:
            self._descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise LogUnwritable(f"the lock file {path} cannot be made ({error.strerror})") from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.release()
            raise LogLocked(f"another process is writing the log {database}: stop it first") from None

    def release(self) -> None:
        """Give the lock back; harmless when done twice."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
