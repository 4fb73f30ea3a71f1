"""Kind `sql`: a database answered from by declared, constant statements. SQLite and PostgreSQL."""

from collections.abc import Mapping

import msgspec

from adapters.errors import SettingsInvalid
from adapters.kinds.sql.database import Database
from adapters.kinds.sql.postgresql import PostgresqlDatabase
from adapters.kinds.sql.settings import Address, SqlSettings, read_settings
from adapters.kinds.sql.source import SqlSource, make_plan
from adapters.kinds.sql.sqlite import SqliteDatabase
from adapters.kinds.sql.updates import read_updates
from adapters.kinds.sql.writeback import WriteBack
from adapters.port import SourceObserver

__all__ = ["SqlKind", "SqlSettings", "SqlSource"]


class SqlKind:
    """Makes sources that answer from a database."""

    def build(self, settings: Mapping[str, object], observer: SourceObserver) -> SqlSource:
        """Check the settings and make a source that is not open yet.

        Raises:
            SettingsInvalid: With the dotted key that is wrong.
        """
        read, address = read_settings(settings)
        plans = {
            name: make_plan(name, operation, address.dialect, read.max_rows)
            for name, operation in read.operations.items()
        }
        return SqlSource(read, _database(address, read), plans, observer, _write_back(address, read))


def _database(address: Address, settings: SqlSettings) -> Database:
    if address.dialect == "sqlite":
        return SqliteDatabase(address.location, settings)
    return PostgresqlDatabase(address.location, settings)


def _write_back(address: Address, read: SqlSettings) -> WriteBack | None:
    if not read.updates:
        return None
    updates = read_updates(read.updates, address.dialect)
    made = {name for one in updates.values() for name in (one.operation, one.settings.state_operation)}
    if twice := sorted(made & read.operations.keys()):
        raise SettingsInvalid(f"operations.{twice[0]}", "is answered by updates; remove one of the two")
    # SQLite writes one at a time whatever the number of connections
    connections = 1 if address.dialect == "sqlite" else read.connections
    writing = msgspec.structs.replace(read, read_only=False, connections=connections)
    return WriteBack(updates, _database(address, writing))
