"""Maintenance of one node: switched on with a notice, kept over restarts, seen by clients and by other members."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import msgspec

from bus import errors
from bus.ports import Clock


class Notice(msgspec.Struct, frozen=True, omit_defaults=True):
    """What clients are told.

    Attributes:
        text: why, in the operator's words.
        since: when it began.
        until: when it is expected to end; it ends only when somebody switches it off.
    """

    text: str
    since: datetime
    until: datetime | None = None


class Maintenance:
    """Whether the node takes calls.

    Args:
        path: file that keeps the notice.
        clock: for Retry-After.

    Raises:
        SettingsInvalid: the file is there and cannot be read.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self.notice: Notice | None = None
        try:
            self.notice = msgspec.json.decode(path.read_bytes(), type=Notice)
        except FileNotFoundError:
            return
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            message = f"cannot be read ({type(error).__name__}); remove it to end the maintenance"
            raise errors.SettingsInvalid([(0, "maintenance", message)], str(path)) from error

    def begin(self, text: str, until: datetime | None) -> Notice:
        """Takes no calls from now on.

        Raises:
            OSError: it could not be stored; nothing changed.
        """
        made = Notice(text, self._clock.now(), until)
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        temporary.write_bytes(msgspec.json.encode(made))
        temporary.replace(self._path)
        self.notice = made
        return made

    def end(self) -> None:
        """Takes calls again."""
        self._path.unlink(missing_ok=True)
        self.notice = None

    def refuse(self) -> None:
        """Returns when there is no maintenance.

        Raises:
            Maintenance: with the notice, and when to try again.
        """
        if self.notice is None:
            return
        error = errors.Maintenance(self.notice.text)
        if self.notice.until is not None:
            left_s = (self.notice.until - self._clock.now()).total_seconds()
            error.retry_after_s = max(1, int(left_s) + 1) if left_s > 0 else 60
        raise error
