"""What happens with proposed changes of one record: the transactions of write-back, as generators. Pure.

An update is taken as a whole or not at all. In this order: the same exchange id as before gets the first answer; one
that may have been forgotten is refused; no such record; the record was changed since (the current version is named);
fields that fail their checks, each with its reason; fields on which a person decides; else it is done, and the version
counted up. All of it, and the memory of it, is one transaction. Answers name fields and reasons, never values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from adapters.errors import BackendAnswerInvalid, EffectForgotten, RequestUnusable
from adapters.kinds.sql.binding import convert
from adapters.kinds.sql.database import Step, Steps
from adapters.kinds.sql.effects import Statements
from adapters.kinds.sql.text import Statement
from adapters.kinds.sql.updates import Field, Update
from adapters.port import AdapterAnswer, AdapterRequest

_JSON, _PROBLEM = "application/json", "application/problem+json"
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Proposal:
    """Proposed changes, taken out of a request.

    Attributes:
        values: Bound values by field, of those that passed the checks that need no database.
        reasons: By field: code of the check that failed.
        changes: The changes as they came.
    """

    record_key: object
    based_on: int
    values: Mapping[str, object]
    reasons: Mapping[str, str]
    changes: object
    source: object
    legal_ground: str


@dataclass(frozen=True, slots=True)
class Decided:
    """What was decided on a proposal."""

    status: int
    state: str
    told: dict[str, object] = field(default_factory=dict)
    version: int | None = None


REASONS = {
    "field-not-updatable": "this field cannot be updated here",
    "type": "the value has another type than this field",
    "null": "this field cannot be emptied",
    "value-not-allowed": "the value is not one of the allowed ones",
    "pattern": "the value does not have the form of this field",
    "too-long": "the value is too long for this field",
    "reference-unknown": "the value is not in the code list of this field",
}


def propose(update: Update, request: AdapterRequest) -> Proposal:
    """Take the changes out of a request and check what can be checked without the database.

    Raises:
        RequestUnusable: Key, version or changes are not there.
    """
    changes = _inside(request.json_body, update.changes)
    if not isinstance(changes, dict) or not changes:
        raise RequestUnusable(update.settings.changes, "no changed field is named")
    values, reasons = check(update, changes)
    based_on: Any = update.based_on(request)
    return Proposal(
        record_key=update.identifier(request),
        based_on=based_on,
        values=values,
        reasons=reasons,
        changes=changes,
        source=_inside(request.json_body, update.source),
        legal_ground=str(update.legal_ground(request) or ""),
    )


def check(update: Update, changes: Mapping[str, object]) -> tuple[dict[str, object], dict[str, str]]:
    """Values to bind, and reasons against those that cannot be taken, by field."""
    values: dict[str, object] = {}
    reasons: dict[str, str] = {}
    for name, value in _flat(update, changes, ""):
        known = update.fields.get(name)
        if known is None:
            reasons["(undeclared)"] = "field-not-updatable"  # its name is the caller's word, and not repeated
            continue
        if (reason := _reason(known, value)) is not None:
            reasons[name] = reason
            continue
        try:
            dates_as_text = update.dates_as_text
            bound = None if value is None else convert(value, known.settings.type, dates_as_text=dates_as_text)
        except (ValueError, TypeError):
            reasons[name] = "type"
        else:
            values[name] = known.settings.codes.get(bound, bound) if isinstance(bound, str) else bound
    return values, reasons


def _flat(update: Update, changes: Mapping[str, object], prefix: str) -> list[tuple[str, object]]:
    """The leaves with their dotted names; a declared field is a leaf whatever its value is."""
    found: list[tuple[str, object]] = []
    for name, value in changes.items():
        full = prefix + name
        if full not in update.fields and isinstance(value, dict) and full.count(".") < 8:
            found.extend(_flat(update, value, full + "."))
        else:
            found.append((full, value))
    return found


def _reason(known: Field, value: object) -> str | None:
    """The check that fails, of those that look at the value as it came."""
    settings = known.settings
    if value is None:
        return None if settings.nullable else "null"
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    if (settings.values and text not in settings.values) or (settings.codes and text not in settings.codes):
        return "value-not-allowed"
    if settings.max_length and len(text) > settings.max_length:
        return "too-long"
    if known.pattern is not None and known.pattern.fullmatch(text) is None:
        return "pattern"
    return None


class Applier:
    """The transactions of one kind of update."""

    def __init__(self, update: Update) -> None:
        self.update = update
        self.statements = Statements(update.settings, update.dialect)
        self._changes: dict[tuple[str, ...], Statement] = {}

    def apply(
        self, request: AdapterRequest, proposal: Proposal, digest: str, now: str, before: str | None
    ) -> Steps[AdapterAnswer]:
        """Decide on a proposal, once for an exchange id.

        Args:
            request: Whose exchange id and client it is.
            proposal: From `propose`.
            digest: Of the request; the same id with another one is refused.
            now: ISO 8601, UTC; so is the next.
            before: Effects older than this are forgotten; None for none at this time.

        Raises:
            EffectForgotten: Whether it was done is not known any more; nothing is done.
        """
        who = {"client": request.client, "exchange_id": request.exchange_id}
        claimed = yield step(
            self.statements.claim, {**who, "operation": request.operation, "digest": digest, "now": now}
        )
        if not claimed.rows:
            return (yield from self._first_answer(who, digest))
        forgotten = yield step(self.statements.forgotten, who)
        if forgotten.rows:
            raise EffectForgotten(
                "whether this update was done is not known any more: it is not newer than others of its client that"
                " were forgotten after keep_days; look at the record, and propose anew"
            )
        if before is not None:
            yield from self._forget(before, now)
        decided = yield from self._decide(proposal, who, now)
        answer = _answer(decided)
        yield step(
            self.statements.settle,
            {
                **who,
                "record_key": str(proposal.record_key),
                "based_on": proposal.based_on,
                "fields": ",".join(sorted(proposal.values)),
                "official": request.official,
                "source": _encode(proposal.source).decode(),
                "legal_ground": proposal.legal_ground or request.legal_basis,
                "status": answer.status,
                "answer": answer.body.decode(),
                "state": decided.state,
                "version": decided.version,
            },
        )
        return answer

    def _forget(self, before: str, now: str) -> Steps[None]:
        aged = yield step(self.statements.aged, {"before": before})
        for client, newest in aged.rows:
            known = {"client": client, "newest": newest}
            yield step(self.statements.remember, {**known, "now": now})
            yield step(self.statements.forget, {**known, "before": before})

    def _first_answer(self, who: Mapping[str, object], digest: str) -> Steps[AdapterAnswer]:
        found = yield step(self.statements.recall, who)
        known, status, answer = found.rows[0]
        if known != digest:
            return _answer(Decided(409, "refused", {"code": "exchange-id-reused", "title": "The exchange id was used"}))
        if not isinstance(status, int) or not isinstance(answer, str):
            raise BackendAnswerInvalid("an effect without an answer; was the table changed by hand?", acted="no")
        return AdapterAnswer(status, (), _PROBLEM if status >= 400 else _JSON, answer.encode())

    def _decide(self, proposal: Proposal, who: Mapping[str, object], now: str) -> Steps[Decided]:
        current = yield from self.version(proposal.record_key)
        if current is None:
            return Decided(404, "refused", {"code": "record-unknown", "title": "No such record"})
        if current != proposal.based_on:
            stale = {"code": "stale", "title": "The record was changed since", "currentVersion": current}
            return Decided(409, "stale", {**stale, "basedOn": proposal.based_on}, current)
        reasons = yield from self.reasons(proposal.values, proposal.reasons)
        if reasons:
            return Decided(422, "rejected", rejection(reasons))
        if any(self.update.fields[name].settings.person for name in proposal.values):
            place = {"record_key": str(proposal.record_key), "based_on": current, "now": now}
            told = {**who, **place, "operation": self.update.operation, "changes": _encode(proposal.changes).decode()}
            yield step(self.statements.queue, told)
            return Decided(202, "queued", {"state": "queued", "id": who["exchange_id"]})
        version = yield from self.change(proposal.record_key, current, proposal.values)
        return Decided(200, "accepted", {"state": "accepted", "version": version}, version)

    def key_of(self, text: str) -> object:
        """A record's key as it is bound, from its text in one of the two tables."""
        return int(text) if self.update.key_type == "integer" else text

    def version(self, record_key: object) -> Steps[int | None]:
        """The record's version, its row locked; None when there is none."""
        found = yield step(self.statements.lock, {"record_key": record_key})
        if not found.rows:
            return None
        version = found.rows[0][0]
        if len(found.rows) > 1 or not isinstance(version, int):
            raise BackendAnswerInvalid("key or version column do not fit: more than one row, or no integer", acted="no")
        return version

    def reasons(self, values: Mapping[str, object], known: Mapping[str, str]) -> Steps[dict[str, str]]:
        """All reasons against a proposal, those of code lists too."""
        reasons = dict(known)
        for name, value in values.items():
            reference = self.update.fields[name].settings.reference
            if reference is None or value is None:
                continue
            found = yield step(self.statements.reference(reference.table, reference.column), {"value": value})
            if not found.rows:
                reasons[name] = "reference-unknown"
        return reasons

    def change(self, record_key: object, version: int, values: Mapping[str, object]) -> Steps[int]:
        """Write the values into the record, which is locked; the new version."""
        names = tuple(sorted(values))
        statement = self._changes.get(names)
        if statement is None:
            if len(self._changes) >= 256:
                self._changes.clear()
            statement = self.statements.change(tuple(self.update.fields[name].settings.column for name in names))
            self._changes[names] = statement
        told = {f"value_{place}": values[name] for place, name in enumerate(names)}
        done = yield step(statement, {**told, "record_key": record_key, "version": version})
        if len(done.rows) != 1:
            raise BackendAnswerInvalid("the record was not changed although its row was locked", acted="no")
        return int(str(done.rows[0][0]))

    def ask(self, request: AdapterRequest) -> Steps[AdapterAnswer]:
        """What became of an update, for the client that sent it."""
        asked: Any = self.update.state_id(request)
        told = {"client": request.client, "exchange_id": asked, "operation": self.update.operation}
        found = yield step(self.statements.ask, told)
        if not found.rows or found.rows[0][0] is None:
            return _answer(Decided(404, "refused", {"code": "update-unknown", "title": "No such update of yours"}))
        state, version, reason, decided_at = found.rows[0]
        said = {"id": asked, "state": state, "version": version, "reason": reason, "decidedAt": decided_at}
        return AdapterAnswer(200, (), _JSON, _encode({key: value for key, value in said.items() if value is not None}))


def rejection(reasons: Mapping[str, str]) -> dict[str, object]:
    """The members of an answer that says why fields were rejected."""
    fields = [{"field": name, "code": code, "reason": REASONS[code]} for name, code in sorted(reasons.items())]
    return {"code": "fields-rejected", "title": "Nothing was changed: fields were rejected", "fields": fields}


def step(statement: Statement, values: Mapping[str, object]) -> Step:
    """A statement with its values by name."""
    return Step(statement, tuple([values[name] for name in statement.order]))


def _answer(decided: Decided) -> AdapterAnswer:
    if decided.status < 400:
        return AdapterAnswer(decided.status, (), _JSON, _encode(decided.told))
    problem = {"type": "about:blank", "status": decided.status, **decided.told}
    return AdapterAnswer(decided.status, (), _PROBLEM, _encode(problem))


def _inside(value: object, steps: tuple[str, ...]) -> object:
    for step in steps:
        value = value.get(step) if isinstance(value, dict) else None
    return value
