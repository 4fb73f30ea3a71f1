"""Who may hear what the registry's long-running parts do: ports for metrics and log lines.

Observers must neither raise nor block. They are told codes, sizes and indices, never contents.
"""

from __future__ import annotations

from typing import Protocol

from registry.errors import RegistryError
from registry.fold import Skipped


class AuthorityObserver(Protocol):
    """Hears what the authority does; must not raise."""

    def accepted(self, type: str, index: int) -> None:  # noqa: A002
        """A document was appended."""
        ...

    def refused(self, code: str) -> None:
        """A document was refused."""
        ...

    def published(self, size: int) -> None:
        """The feed has everything up to that size."""
        ...

    def failed(self, error: Exception) -> None:
        """A heartbeat failed; it will be tried again."""
        ...


class UnobservedAuthority:
    """An observer that ignores everything."""

    def accepted(self, type: str, index: int) -> None:  # noqa: A002
        """Ignore."""

    def refused(self, code: str) -> None:
        """Ignore."""

    def published(self, size: int) -> None:
        """Ignore."""

    def failed(self, error: Exception) -> None:
        """Ignore."""


class FollowerObserver(Protocol):
    """Hears what a follower does; must not raise."""

    def updated(self, size: int, seconds: float) -> None:
        """A newer checkpoint was accepted; `seconds` of age it had then."""
        ...

    def skipped(self, outcome: Skipped) -> None:
        """A document in the directory fails a check."""
        ...

    def failed(self, error: RegistryError) -> None:
        """A round failed; it will be tried again unless the disposition is halt."""
        ...


class UnobservedFollower:
    """An observer that ignores everything."""

    def updated(self, size: int, seconds: float) -> None:
        """Ignore."""

    def skipped(self, outcome: Skipped) -> None:
        """Ignore."""

    def failed(self, error: RegistryError) -> None:
        """Ignore."""
