"""The port of a database behind the kind `sql`: runs constant statements with bound values."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from adapters.kinds.sql.text import Statement


@dataclass(frozen=True, slots=True)
class Fetched:
    """Rows of one statement.

    Attributes:
        columns: Names in order; may be empty when there are no rows.
        rows: At most one more than was asked for.
    """

    columns: tuple[str, ...]
    rows: Sequence[Sequence[object]]


class Database(Protocol):
    """A bounded pool of connections to one database."""

    async def open(self) -> None:
        """Make the pool; the database need not be there.

        Raises:
            SettingsInvalid: A secret file cannot be used.
        """

    async def fetch(self, statement: Statement, values: Sequence[object], limit: int, deadline_s: float) -> Fetched:
        """Run a statement and fetch at most `limit` + 1 rows, so that the caller sees when there are too many.

        Args:
            statement: A constant, numbered statement.
            values: Values in the order of `statement.order`.
            limit: Rows that are right.
            deadline_s: Longest time, waiting for a connection included.

        Raises:
            AdapterError: Translated; without SQL text or values.
        """

    async def describe(self, statement: Statement) -> tuple[str, ...]:
        """Columns that a statement delivers; empty when the database cannot tell without running it.

        Raises:
            AdapterError: As `fetch`.
        """

    async def close(self) -> None:
        """Close all connections; running statements are ended."""
