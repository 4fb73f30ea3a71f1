"""Acceptance goes before delivery: while many commands are being accepted, fewer records are sent and taken at once.

A client system waits for its `202`; what was accepted is safe and can be sent a moment later. Without this the way of
earlier commands, which costs several times as much as accepting one, would stand before the new ones. Delivery never
stops: one of each kind goes on at any time.
"""

from __future__ import annotations

from types import TracebackType

CROWD = 16
"""From so many commands at once on, that are being accepted, delivery steps back."""


class Pace:
    """Counts the commands that are being accepted."""

    def __init__(self) -> None:
        self._accepting = 0

    def __enter__(self) -> None:
        self._accepting += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._accepting -= 1

    def at_once(self, most: int) -> int:
        """How many records of a kind may be under way now; `most` when there is no crowd."""
        return 1 if self._accepting >= CROWD else most
