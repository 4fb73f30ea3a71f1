"""The two tables beside a table that takes write-back, and the statements over them. Pure.

*Effects*: one row for each exchange id that was decided, written in the transaction of the change itself. So the same
id a second time is recognised whatever happened in between, and gets the first answer. The row is also the provenance
of the change: who, on which legal ground, from which document. It holds no changed value. Rows are forgotten after some
time; then a row with an empty exchange id has the newest id of its client that was forgotten, in the same transaction:
what is not newer and has no row may have been done, whatever the clocks and settings were meanwhile.

*Reviews*: changes that wait for a person, with their values. A decision removes the row.
"""

# ruff: noqa: S608 - the names in the statements are checked to be plain identifiers when the settings are read

from __future__ import annotations

from adapters.kinds.sql.text import Dialect, Statement, read_statement
from adapters.kinds.sql.updates import UpdateSettings


def tables(settings: UpdateSettings) -> tuple[str, ...]:
    """The statements that make both tables where they are not there yet; the same for SQLite and PostgreSQL."""
    index = settings.effects.replace(".", "_") + "_received"
    effects = (
        f"CREATE TABLE IF NOT EXISTS {settings.effects} (client text NOT NULL, exchange_id text NOT NULL,"
        " operation text NOT NULL, digest text NOT NULL, received_at text NOT NULL, record_key text, based_on bigint,"
        " fields text, official text, source text, legal_ground text, status integer, answer text, state text,"
        " version bigint, reason text, decided_at text, decided_by text, PRIMARY KEY (client, exchange_id))"
    )
    reviews = (
        f"CREATE TABLE IF NOT EXISTS {settings.reviews} (client text NOT NULL, exchange_id text NOT NULL,"
        " operation text NOT NULL, received_at text NOT NULL, record_key text NOT NULL, based_on bigint NOT NULL,"
        " changes text NOT NULL, PRIMARY KEY (client, exchange_id))"
    )
    return effects, f"CREATE INDEX IF NOT EXISTS {index} ON {settings.effects} (received_at)", reviews


class Statements:
    """The statements of one update. Names come from checked settings; values are bound, always.

    Attributes:
        claim: Takes an exchange id; no row comes back when it was taken before.
        recall: What was answered the first time.
        settle: Writes the decision into the claimed row.
        forgotten: Whether an exchange id may be one that was forgotten.
        aged: By client the newest of some effects that are older than they have to be kept.
        remember: Notes that what is not newer may be forgotten.
        forget: Removes what is older than it has to be kept, of those.
        lock: Version of a record; nobody else changes it until the end of the transaction.
        ask: What became of an update.
        queue: Puts changes before a person.
        waiting: All that wait for a person.
        one: One that waits.
        unqueue: Removes it.
        decide: Writes a person's decision.
    """

    def __init__(self, settings: UpdateSettings, dialect: Dialect) -> None:
        self._settings = settings
        self._dialect = dialect
        effects, reviews = settings.effects, settings.reviews
        of_one = "WHERE client = :client AND exchange_id = :exchange_id"
        self.claim = self._read(
            f"INSERT INTO {effects} (client, exchange_id, operation, digest, received_at)"
            " VALUES (:client, :exchange_id, :operation, :digest, :now)"
            " ON CONFLICT (client, exchange_id) DO NOTHING RETURNING exchange_id"
        )
        self.recall = self._read(f"SELECT digest, status, answer FROM {effects} {of_one}")
        self.settle = self._read(
            f"UPDATE {effects} SET record_key = :record_key, based_on = :based_on, fields = :fields,"
            " official = :official, source = :source, legal_ground = :legal_ground, status = :status,"
            f" answer = :answer, state = :state, version = :version {of_one}"
        )
        old = "received_at < :before AND exchange_id <> '' AND (state IS NULL OR state <> 'queued')"
        self.forgotten = self._read(
            f"SELECT 1 AS found FROM {effects} WHERE client = :client AND exchange_id = '' AND digest >= :exchange_id"
        )
        # ids are compared by the database only, so that all comparisons follow one order
        self.aged = self._read(
            "SELECT client, max(exchange_id) AS newest FROM (SELECT client, exchange_id"
            f" FROM {effects} WHERE {old} ORDER BY received_at LIMIT 64) AS aged GROUP BY client ORDER BY client"
        )
        self.remember = self._read(
            f"INSERT INTO {effects} AS known (client, exchange_id, operation, digest, received_at)"
            " VALUES (:client, '', 'lienthong:forgotten', :newest, :now) ON CONFLICT (client, exchange_id)"
            " DO UPDATE SET digest = excluded.digest, received_at = excluded.received_at"
            " WHERE known.digest < excluded.digest"
        )
        self.forget = self._read(f"DELETE FROM {effects} WHERE client = :client AND exchange_id <= :newest AND {old}")
        lock = " FOR UPDATE" if dialect == "postgresql" else ""
        self.lock = self._read(
            f"SELECT {settings.version} AS version FROM {settings.table} WHERE {settings.key} = :record_key{lock}"
        )
        self.ask = self._read(
            f"SELECT state, version, reason, decided_at FROM {effects} {of_one} AND operation = :operation"
        )
        self.queue = self._read(
            f"INSERT INTO {reviews} (client, exchange_id, operation, received_at, record_key, based_on, changes)"
            " VALUES (:client, :exchange_id, :operation, :now, :record_key, :based_on, :changes)"
        )
        joined = (
            "SELECT r.client AS client, r.exchange_id AS exchange_id, r.received_at AS received_at,"
            " r.record_key AS record_key, r.based_on AS based_on, r.changes AS changes, e.official AS official,"
            " e.source AS source, e.legal_ground AS legal_ground"
            f" FROM {reviews} r JOIN {effects} e ON e.client = r.client AND e.exchange_id = r.exchange_id"
            " WHERE r.operation = :operation"
        )
        self.waiting = self._read(joined + " ORDER BY r.received_at, r.exchange_id LIMIT 1000")
        self.one = self._read(joined + " AND r.exchange_id = :exchange_id")
        self.unqueue = self._read(f"DELETE FROM {reviews} {of_one} RETURNING exchange_id")
        self.decide = self._read(
            f"UPDATE {effects} SET state = :state, version = :version, reason = :reason, decided_at = :now,"
            f" decided_by = :decided_by {of_one}"
        )
        self.described = (self.recall, self.ask, self.waiting, self.forgotten, self.aged)

    def reference(self, table: str, column: str) -> Statement:
        """Whether a code list has a value."""
        return self._read(f"SELECT 1 AS found FROM {table} WHERE {column} = :value LIMIT 1")

    def change(self, columns: tuple[str, ...]) -> Statement:
        """Sets some declared columns of a record that still has the version, and counts it up."""
        settings = self._settings
        sets = ", ".join(f"{column} = :value_{place}" for place, column in enumerate(columns))
        return self._read(
            f"UPDATE {settings.table} SET {sets}, {settings.version} = {settings.version} + 1"
            f" WHERE {settings.key} = :record_key AND {settings.version} = :version"
            f" RETURNING {settings.version} AS version"
        )

    def _read(self, text: str) -> Statement:
        return read_statement(text, self._dialect)
