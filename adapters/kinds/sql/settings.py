"""Settings of the kind `sql`, checked. Opens no database and reads no secret."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from adapters.errors import SettingsInvalid
from adapters.kinds.settings import Settings, decode, dotted, positive
from adapters.kinds.sql.binding import ParameterSettings
from adapters.kinds.sql.text import Dialect

Rows = Literal["one", "optional", "many"]


class NoneSettings(Settings, frozen=True):
    """What is answered when there is no row.

    Attributes:
        status: HTTP status.
        title: Title of the RFC 9457 problem.
        type: Type of the problem, a URI reference.
    """

    status: int = 404
    title: str = "Not found"
    type: str = "about:blank"


class OperationSettings(Settings, frozen=True):
    """One operation of the contract as one statement.

    Attributes:
        statement: Constant SQL with `:name` parameters.
        answer: JSON template of the answer's body; see `shape`.
        parameters: Where each parameter comes from, by name.
        rows: How many rows are right: exactly `one`, `optional` (none or one) or `many`.
        item: For `many`: template of one row, put where the answer says `$*`.
        none: For `optional`: what to answer when there is none.
        status: HTTP status of an answer.
    """

    statement: str
    answer: object
    parameters: dict[str, dict[str, object]] = msgspec.field(default_factory=dict)
    rows: Rows = "optional"
    item: object = None
    none: NoneSettings = NoneSettings()
    status: int = 200


class SqlSettings(Settings, frozen=True):
    """Settings of the kind `sql`.

    Attributes:
        database: `sqlite:///relative`, `sqlite:////absolute` or `postgresql://user@host:port/name?sslmode=…`.
        operations: By `operationId`.
        updates: Write-back by `operationId`: what others may update; see `updates.UpdateSettings`.
        enums: Named code lists for templates: stored code → value in the answer.
        password_file: Secret file of the database user (PostgreSQL), mode 0600.
        read_only: False lets the statements of `operations` write; then a failure says `acted: unknown`. `updates` do
            not need it.
        immutable: SQLite only: the file never changes while open (read-only media).
        connections: Connections (PostgreSQL) or threads with one connection each (SQLite).
        waiting: Calls that may wait for a connection; more are refused at once.
        statement_timeout_s: Longest time for one statement; the request's own deadline may be shorter.
        connect_timeout_s: Longest wait for a connection.
        max_rows: More rows are an error, not a longer answer.
        max_answer_bytes: A larger answer is an error.
    """

    database: str
    operations: dict[str, dict[str, object]] = msgspec.field(default_factory=dict)
    updates: dict[str, dict[str, object]] = msgspec.field(default_factory=dict)
    enums: dict[str, dict[str, object]] = msgspec.field(default_factory=dict)
    password_file: str = ""
    read_only: bool = True
    immutable: bool = False
    connections: int = 4
    waiting: int = 256
    statement_timeout_s: float = 2.0
    connect_timeout_s: float = 2.0
    max_rows: int = 1000
    max_answer_bytes: int = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Address:
    """Where the database is.

    Attributes:
        dialect: Which of the two.
        location: Path of the SQLite file, or the PostgreSQL address without a password.
    """

    dialect: Dialect
    location: str


def read_settings(settings: Mapping[str, object]) -> tuple[SqlSettings, Address]:
    """Read and check the settings of a source of kind `sql`, but for its operations.

    Raises:
        SettingsInvalid: With the dotted key that is wrong.
    """
    read = decode(settings, SqlSettings)
    seconds = {"statement_timeout_s": 3600, "connect_timeout_s": 60}
    positive(read, {**seconds, "connections": 256, "max_rows": 100_000, "max_answer_bytes": 1 << 30})
    if read.waiting < 0:
        raise SettingsInvalid("waiting", "must not be negative")
    if not read.operations and not read.updates:
        raise SettingsInvalid("operations", "at least one operation is required")
    address = read_address(read.database)
    if address.dialect == "sqlite" and read.password_file:
        raise SettingsInvalid("password_file", "SQLite has no passwords; remove it")
    if read.immutable and read.updates:
        raise SettingsInvalid("immutable", "is not for files that take updates")
    if read.immutable and (address.dialect != "sqlite" or not read.read_only):
        raise SettingsInvalid("immutable", "is for SQLite files that are only read")
    return read, address


def read_address(database: str) -> Address:
    """Read a database address.

    Raises:
        SettingsInvalid: Another scheme, a password inside, or no path.
    """
    try:
        parts = urlsplit(database)
        parts.port  # noqa: B018 - the property refuses bad ports
    except ValueError:
        raise SettingsInvalid("database", "is not an address") from None
    if parts.scheme == "sqlite":
        path = unquote(parts.path.removeprefix("/"))
        if parts.netloc or parts.query or parts.fragment or not path or "\x00" in path:
            raise SettingsInvalid("database", "for SQLite write sqlite:///relative/path or sqlite:////absolute/path")
        return Address("sqlite", path)
    if parts.scheme in {"postgresql", "postgres"}:
        if parts.password or {"password", "passfile"} & parse_qs(parts.query).keys():
            raise SettingsInvalid("database", "must not hold a password; use password_file")
        return Address("postgresql", database)
    raise SettingsInvalid("database", "begins with sqlite:/// or postgresql://")


def read_operation(name: str, settings: Mapping[str, object]) -> OperationSettings:
    """Read and check one operation.

    Raises:
        SettingsInvalid: With the dotted key that is wrong.
    """
    key = dotted("operations", name)
    read = decode(settings, OperationSettings, key)
    if not 200 <= read.status <= 299:
        raise SettingsInvalid(dotted(key, "status"), "must be between 200 and 299")
    if not 400 <= read.none.status <= 499:
        raise SettingsInvalid(dotted(key, "none.status"), "must be between 400 and 499")
    if (read.item is None) == (read.rows == "many"):
        raise SettingsInvalid(dotted(key, "item"), 'is required for rows = "many", and only for it')
    if read.rows != "optional" and "none" in settings:
        raise SettingsInvalid(dotted(key, "none"), 'is only for rows = "optional"')
    return read


def read_parameters(key: str, settings: Mapping[str, Mapping[str, object]]) -> dict[str, ParameterSettings]:
    """Read the parameters of one operation.

    Raises:
        SettingsInvalid: With the dotted key that is wrong.
    """
    return {name: decode(one, ParameterSettings, dotted(key, name)) for name, one in settings.items()}
