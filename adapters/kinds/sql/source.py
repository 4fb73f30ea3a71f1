"""The source of kind `sql`: answers each operation of a contract with one constant statement.

Mapped operations are compiled when the source is built; a call binds, fetches and shapes. Whether the answer keeps the
contract is looked at by the bus.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from adapters.errors import (
    AdapterError,
    BackendAnswerInvalid,
    BackendTimeout,
    MappingInvalid,
    OperationNotMapped,
    SettingsInvalid,
)
from adapters.kinds.settings import dotted
from adapters.kinds.sql.binding import Binder, make_binder
from adapters.kinds.sql.database import Database, Fetched
from adapters.kinds.sql.settings import OperationSettings, SqlSettings, read_operation, read_parameters
from adapters.kinds.sql.shape import Converter, Shaper, compile_row, converters
from adapters.kinds.sql.text import Dialect, Statement, StatementRefused, read_statement
from adapters.kinds.sql.writeback import WriteBack
from adapters.port import AdapterAnswer, AdapterRequest, SourceObserver

_JSON = "application/json"
_PROBLEM = "application/problem+json"
_ROWS = "$*"
_COUNT = "$#"


@dataclass(frozen=True, slots=True)
class Plan:
    """One operation, compiled as far as the settings tell.

    Attributes:
        key: Dotted key of the operation, for errors.
        statement: With the database's own marks.
        binders: One for each value to bind, in order.
        limit: Rows that are right at most.
        settings: The operation's settings.
        none: Body of the answer when there is no row.
    """

    key: str
    statement: Statement
    binders: tuple[Binder, ...]
    limit: int
    settings: OperationSettings
    none: bytes


def make_plan(name: str, settings: Mapping[str, object], dialect: Dialect, max_rows: int) -> Plan:
    """Compile one operation.

    Raises:
        SettingsInvalid: With the dotted key that is wrong.
    """
    read = read_operation(name, settings)
    key = dotted("operations", name)
    try:
        statement = read_statement(read.statement, dialect)
    except StatementRefused as error:
        raise SettingsInvalid(dotted(key, "statement"), str(error)) from None
    parameters = read_parameters(dotted(key, "parameters"), read.parameters)
    for missing in sorted(set(statement.order) - parameters.keys()):
        raise SettingsInvalid(dotted(key, f"parameters.{missing}"), "the statement names it; say where it comes from")
    for surplus in sorted(parameters.keys() - set(statement.order)):
        raise SettingsInvalid(dotted(key, f"parameters.{surplus}"), "the statement does not name it")
    made = {
        one: make_binder(setting, dotted(key, f"parameters.{one}"), dates_as_text=dialect == "sqlite")
        for one, setting in parameters.items()
    }
    if read.rows == "many" and _count_rows_leaves(read.answer, dotted(key, "answer")) != 1:
        raise SettingsInvalid(dotted(key, "answer"), f"must say {_ROWS} once, where the list of rows belongs")
    none = {"type": read.none.type, "title": read.none.title, "status": read.none.status}
    limit = max_rows if read.rows == "many" else 1
    binders = tuple(made[one] for one in statement.order)
    return Plan(key, statement, binders, limit, read, msgspec.json.encode(none))


class SqlSource:
    """A database behind declared statements. See `adapters.port.Source`."""

    def __init__(
        self,
        settings: SqlSettings,
        database: Database,
        plans: Mapping[str, Plan],
        observer: SourceObserver,
        write_back: WriteBack | None = None,
    ) -> None:
        self._settings = settings
        self._database = database
        self._plans = plans
        self._observer = observer
        self._write_back = write_back
        self._updated = frozenset() if write_back is None else write_back.operations
        self._converters: dict[str, Converter] = converters(settings.enums)
        self._shapers: dict[str, tuple[tuple[str, ...], Shaper]] = {}

    async def open(self) -> None:
        """Make the pool; the database need not be there.

        Raises:
            SettingsInvalid: A secret file cannot be used.
        """
        await self._database.open()
        if self._write_back is not None:
            await self._write_back.open()

    async def close(self) -> None:
        """Close all connections."""
        await self._database.close()
        if self._write_back is not None:
            await self._write_back.close()

    @property
    def write_back(self) -> WriteBack | None:
        """What takes updates; None when none are declared."""
        return self._write_back

    async def check(self) -> None:
        """Let the database look at every statement, and compare its columns with the templates.

        Raises:
            AdapterError: The database is not there, or a statement does not fit it.
        """
        for plan in self._plans.values():
            try:
                columns = await self._database.describe(plan.statement)
                if columns:
                    self._compiled(plan, columns)
            except MappingInvalid as error:
                raise MappingInvalid(f"{dotted(plan.key, 'statement')}: {error}", acted="no") from error
        if self._write_back is not None:
            await self._write_back.check()

    async def call(self, request: AdapterRequest) -> AdapterAnswer:
        """Answer one call from the database.

        Raises:
            AdapterError: No usable answer; `acted` is `no` for sources that only read.
        """
        began_s = time.monotonic()
        outcome = "answered"
        try:
            return await self._answered(request)
        except AdapterError as error:
            outcome = error.code
            raise
        finally:
            self._observer.called(request.operation, outcome, time.monotonic() - began_s)

    async def _answered(self, request: AdapterRequest) -> AdapterAnswer:
        if self._write_back is not None and request.operation in self._updated:
            return await self._write_back.call(request)
        plan = self._plans.get(request.operation)
        if plan is None:
            raise OperationNotMapped(
                f"operation {request.operation} is not mapped in this source's settings", acted="no"
            )
        if request.deadline_s <= 0:
            raise BackendTimeout("no time was left for the database; it was not asked", acted="no")
        values = [bind(request) for bind in plan.binders]
        fetched = await self._database.fetch(plan.statement, values, plan.limit, request.deadline_s)
        if len(fetched.rows) > plan.limit:
            raise self._unfit(f"{plan.key}: the statement delivers more than {plan.limit} row(s)")
        answer = self._shaped(plan, fetched)
        if len(answer.body) > self._settings.max_answer_bytes:
            raise self._unfit(f"{plan.key}: the answer is larger than {self._settings.max_answer_bytes} bytes")
        if request.method == "HEAD":
            return AdapterAnswer(answer.status, answer.headers, answer.content_type, b"")
        return answer

    def _shaped(self, plan: Plan, fetched: Fetched) -> AdapterAnswer:
        settings, rows = plan.settings, fetched.rows
        if settings.rows == "many":
            item = self._compiled(plan, fetched.columns) if rows else None
            items = [item(row) for row in rows] if item else []
            value: object = _with_rows(settings.answer, items)
        elif rows:
            value = self._compiled(plan, fetched.columns)(rows[0])
        elif settings.rows == "optional":
            return AdapterAnswer(settings.none.status, (), _PROBLEM, plan.none)
        else:
            raise self._unfit(f"{plan.key}: the statement delivers no row, and one is expected")
        return AdapterAnswer(settings.status, (), _JSON, msgspec.json.encode(value))

    def _compiled(self, plan: Plan, columns: tuple[str, ...]) -> Shaper:
        """The shaper for these columns; a statement delivers the same ones each time."""
        known = self._shapers.get(plan.key)
        if known is not None and known[0] == columns:
            return known[1]
        many = plan.settings.rows == "many"
        template = plan.settings.item if many else plan.settings.answer
        try:
            shaper = compile_row(template, columns, self._converters, dotted(plan.key, "item" if many else "answer"))
        except SettingsInvalid as error:
            raise MappingInvalid(str(error), acted="no" if self._settings.read_only else "unknown") from error
        self._shapers[plan.key] = (columns, shaper)
        return shaper

    def _unfit(self, message: str) -> BackendAnswerInvalid:
        return BackendAnswerInvalid(message, acted="no" if self._settings.read_only else "unknown")


def _count_rows_leaves(template: object, key: str) -> int:
    """How often the answer of many rows says `$*`; columns have no place in it."""
    if isinstance(template, dict):
        return sum(_count_rows_leaves(part, dotted(key, name)) for name, part in template.items())
    if isinstance(template, list):
        return sum(_count_rows_leaves(part, f"{key}[{index}]") for index, part in enumerate(template))
    if isinstance(template, str) and template.startswith("$") and not template.startswith("$$"):
        if template not in {_ROWS, _COUNT}:
            raise SettingsInvalid(key, f"only {_ROWS} and {_COUNT} may stand here; columns belong into item")
        return int(template == _ROWS)
    return 0


def _with_rows(template: object, items: list[object]) -> object:
    """The answer of many rows: `$*` is the list, `$#` their number, `$$…` text that begins with `$`."""
    if isinstance(template, dict):
        return {name: _with_rows(part, items) for name, part in template.items()}
    if isinstance(template, list):
        return [_with_rows(part, items) for part in template]
    if template == _ROWS:
        return items
    if template == _COUNT:
        return len(items)
    return template[1:] if isinstance(template, str) and template.startswith("$$") else template
