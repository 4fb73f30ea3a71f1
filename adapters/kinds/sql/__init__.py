"""Kind `sql`: a database answered from by declared, constant statements. SQLite and PostgreSQL."""

from collections.abc import Mapping

from adapters.kinds.sql.database import Database
from adapters.kinds.sql.postgresql import PostgresqlDatabase
from adapters.kinds.sql.settings import SqlSettings, read_settings
from adapters.kinds.sql.source import SqlSource, make_plan
from adapters.kinds.sql.sqlite import SqliteDatabase
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
        if address.dialect == "sqlite":
            database: Database = SqliteDatabase(address.location, read)
        else:
            database = PostgresqlDatabase(address.location, read)
        return SqlSource(read, database, plans, observer)
