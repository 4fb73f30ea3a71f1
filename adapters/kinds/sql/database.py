"""The port of a database behind the kind `sql`: runs constant statements with bound values."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

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


@dataclass(frozen=True, slots=True)
class Step:
    """One statement of a transaction.

    Attributes:
        statement: A constant, numbered statement.
        values: Values in the order of `statement.order`.
    """

    statement: Statement
    values: Sequence[object]


Made = TypeVar("Made")
Steps: TypeAlias = Generator[Step, Fetched, Made]
"""A transaction as a generator: yields statements, is sent their rows, returns its result. It does nothing else, so
that one and the same procedure runs in a thread and on the event loop, and can be tested without either."""
MAX_STEP_ROWS = 1000


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

    async def transact(self, steps: Steps[Made], deadline_s: float) -> Made:
        """Run all statements in one transaction: either all took effect when this returns, or none did.

        At most `MAX_STEP_ROWS` rows of each statement are fetched.

        Args:
            steps: A generator that was not started; it is used up, whatever happens.
            deadline_s: Longest time, waiting for a connection included.

        Raises:
            AdapterError: `acted` is `no` when nothing was committed, `unknown` when that cannot be told.
        """

    async def describe(self, statement: Statement) -> tuple[str, ...]:
        """Columns that a statement delivers; empty when the database cannot tell without running it.

        Raises:
            AdapterError: As `fetch`.
        """

    async def close(self) -> None:
        """Close all connections; running statements are ended."""
