"""Write-back of a source: updates that others propose, and the decisions of the persons they wait for.

It has connections of its own that may write; those that answer queries stay read-only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec

from adapters.errors import BackendTimeout, MappingInvalid, OperationNotMapped, ReviewRefused
from adapters.kinds.settings import dotted
from adapters.kinds.sql.applying import Applier, check, propose, step
from adapters.kinds.sql.database import Database, Steps
from adapters.kinds.sql.effects import tables
from adapters.kinds.sql.text import read_statement
from adapters.kinds.sql.updates import Update
from adapters.port import AdapterAnswer, AdapterRequest

_PERSON_S = 30.0
_MAX_REASON = 500
_FORGET_EVERY = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Review:
    """Changes that wait for a person.

    Attributes:
        id: Exchange id of the update.
        client: Subsystem that proposed it.
        operation: Operation that took it.
        received_at: ISO 8601, UTC.
        record_key: Key of the record.
        based_on: Version that the changes were based on.
        current: The record's version now; None when it is gone.
        changes: As they came.
        official: Who proposed it there.
        source: The source document as it was named.
        legal_ground: As it was named.
    """

    id: str
    client: str
    operation: str
    received_at: str
    record_key: str
    based_on: int
    current: int | None
    changes: Any
    official: str
    source: Any
    legal_ground: str


class WriteBack:
    """All updates of one source.

    Args:
        updates: By the operation that takes them.
        database: Opened for writing.
        now: Aware UTC time.
    """

    def __init__(
        self,
        updates: Mapping[str, Update],
        database: Database,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._now = now
        self._forgot_at: dict[str, datetime] = {}
        self._appliers = {name: Applier(update) for name, update in updates.items()}
        self._states = {
            one.update.settings.state_operation: one
            for one in self._appliers.values()
            if one.update.settings.state_operation
        }

    @property
    def operations(self) -> frozenset[str]:
        """Operations that are answered here."""
        return frozenset(self._appliers) | frozenset(self._states)

    async def open(self) -> None:
        """Make the connections; the database need not be there.

        Raises:
            SettingsInvalid: A secret file cannot be used.
        """
        await self._database.open()

    async def close(self) -> None:
        """Close them."""
        await self._database.close()

    async def call(self, request: AdapterRequest) -> AdapterAnswer:
        """Take an update, or tell what became of one.

        Raises:
            AdapterError: Nothing was decided, or (`acted: unknown`) it cannot be told; the same call again is safe.
        """
        if request.deadline_s <= 0:
            raise BackendTimeout("no time was left for the database; it was not asked", acted="no")
        if (asked := self._states.get(request.operation)) is not None:
            return await self._database.transact(asked.ask(request), request.deadline_s)
        applier = self._appliers.get(request.operation)
        if applier is None:
            raise OperationNotMapped(f"operation {request.operation} takes no updates", acted="no")
        proposal = propose(applier.update, request)
        now = self._now()
        steps = applier.apply(request, proposal, _digest(request), now.isoformat(), self._before(applier, now))
        return await self._database.transact(steps, request.deadline_s)

    def _before(self, applier: Applier, now: datetime) -> str | None:
        """What is older is forgotten with this update; None when that was done with another one just now."""
        settings, name = applier.update.settings, applier.update.operation
        if name in self._forgot_at and abs(now - self._forgot_at[name]) < _FORGET_EVERY:
            return None
        self._forgot_at[name] = now
        return (now - timedelta(days=settings.keep_days)).isoformat()

    async def check(self) -> None:
        """Let the database look at the tables.

        Raises:
            AdapterError: The database is not there, or a table or column is missing.
        """
        for name, applier in self._appliers.items():
            try:
                await self._database.transact(_look(applier), _PERSON_S)
            except MappingInvalid as error:
                told = "a table or column is missing; lienthong writeback prepare makes those that are ours"
                raise MappingInvalid(f"{dotted('updates', name)}: {told} ({error})", acted="no") from error

    async def prepare(self) -> tuple[str, ...]:
        """Make the effects and review tables where they are not there; the statements.

        Raises:
            AdapterError: The database is not there, or does not let this user make tables.
        """
        done: list[str] = []
        for applier in self._appliers.values():
            update = applier.update
            for text in tables(update.settings):
                await self._database.transact(_run(text, update), _PERSON_S)
                done.append(text)
        return tuple(done)

    # --- persons --------------------------------------------------------------------------------------------------

    async def reviews(self) -> tuple[Review, ...]:
        """What waits for a person, oldest first; at most 1,000 of each kind.

        Raises:
            AdapterError: The database is not there, or does not fit.
        """
        found: list[Review] = []
        for applier in self._appliers.values():
            found.extend(await self._database.transact(_reviews(applier), _PERSON_S))
        return tuple(sorted(found, key=lambda review: review.received_at))

    async def decide(
        self, id_: str, verdict: Literal["accept", "reject"], person: str, reason: str, onto: int | None = None
    ) -> tuple[str, int | None]:
        """A person's decision on one that waits; state and version after it.

        Args:
            id_: Exchange id of the update.
            verdict: What the person says.
            person: Who decides; kept with the effect.
            reason: Kept, and told to the sender.
            onto: Accept although the record was changed since, if it still has this version.

        Raises:
            ReviewRefused: It does not wait (any more), the record was changed since, a field is not possible now, or
                the reason is too long.
            AdapterError: The database is not there, or does not fit.
        """
        if len(reason) > _MAX_REASON:
            raise ReviewRefused(f"a reason has at most {_MAX_REASON} characters")
        now = self._now().isoformat()
        for applier in self._appliers.values():
            steps = _decision(applier, id_, verdict, person, reason, onto, now)
            made = await self._database.transact(steps, _PERSON_S)
            if made is not None:
                return made
        raise ReviewRefused(f"nothing waits under the id {id_}; lienthong writeback list shows what does")


def _digest(request: AdapterRequest) -> str:
    digest = hashlib.sha256(f"{request.method} {request.path}?{request.query}\n".encode("utf-8", "surrogateescape"))
    digest.update(request.body)
    return digest.hexdigest()


def _run(text: str, update: Update) -> Steps[None]:
    yield step(read_statement(text, update.dialect), {})


def _look(applier: Applier) -> Steps[None]:
    """Every table and column is named once; nothing is found or changed."""
    statements, fields = applier.statements, applier.update.fields
    nothing = dict.fromkeys(("client", "exchange_id", "operation", "record_key", "value", "before"), None)
    for statement in statements.described:
        yield step(statement, nothing)
    yield step(statements.lock, nothing)
    columns = tuple(field.settings.column for field in fields.values())
    none = {f"value_{place}": None for place in range(len(columns))}
    yield step(statements.change(columns), {**none, "record_key": None, "version": None})
    for field in fields.values():
        if (reference := field.settings.reference) is not None:
            yield step(statements.reference(reference.table, reference.column), nothing)


def _reviews(applier: Applier) -> Steps[list[Review]]:
    found = yield step(applier.statements.waiting, {"operation": applier.update.operation})
    made = []
    for row in found.rows:
        one = _review(applier, dict(zip(found.columns, row, strict=True)))
        current = yield from applier.version(applier.key_of(one.record_key))
        made.append(replace(one, current=current))
    return made


def _review(applier: Applier, row: Mapping[str, Any]) -> Review:
    return Review(
        id=row["exchange_id"],
        client=row["client"],
        operation=applier.update.operation,
        received_at=row["received_at"],
        record_key=row["record_key"],
        based_on=row["based_on"],
        current=None,
        changes=msgspec.json.decode(row["changes"]),
        official=row["official"] or "",
        source=msgspec.json.decode(row["source"] or "null"),
        legal_ground=row["legal_ground"] or "",
    )


def _decision(
    applier: Applier, id_: str, verdict: str, person: str, reason: str, onto: int | None, now: str
) -> Steps[tuple[str, int | None] | None]:
    statements = applier.statements
    found = yield step(statements.one, {"operation": applier.update.operation, "exchange_id": id_})
    if not found.rows:
        return None
    if len(found.rows) > 1:
        raise ReviewRefused(f"two senders use the id {id_}; decide in the database itself")
    review = _review(applier, dict(zip(found.columns, found.rows[0], strict=True)))
    who = {"client": review.client, "exchange_id": id_}
    removed = yield step(statements.unqueue, who)
    if not removed.rows:
        raise ReviewRefused(f"{id_} has just been decided by somebody else")
    state, version = "rejected", None
    if verdict == "accept":
        version = yield from _accepted(applier, review, onto)
        state = "accepted"
    told = {"state": state, "version": version, "reason": reason, "now": now, "decided_by": person}
    yield step(statements.decide, {**who, **told})
    return state, version


def _accepted(applier: Applier, review: Review, onto: int | None) -> Steps[int]:
    key = applier.key_of(review.record_key)
    current = yield from applier.version(key)
    if current is None:
        raise ReviewRefused("the record is gone; reject this update")
    if current != (review.based_on if onto is None else onto):
        raise ReviewRefused(
            f"the record was changed since: it has version {current}, the update is based on {review.based_on}; look"
            f" at it, then reject, or accept with --onto {current}"
        )
    values, known = check(applier.update, review.changes)
    reasons = yield from applier.reasons(values, known)
    if reasons:
        told = ", ".join(f"{name} ({code})" for name, code in sorted(reasons.items()))
        raise ReviewRefused(f"not possible any more: {told}; reject this update")
    return (yield from applier.change(key, current, values))
