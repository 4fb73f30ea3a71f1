"""Settings of write-back: which fields of a table others may update, under which checks. Pure; it writes nothing.

`[updates.<operationId>]` beside `[operations.…]`: the operation takes proposed changes of one record. What happens with
them is in `applying`; the two tables that it needs are in `effects`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from adapters.errors import SettingsInvalid
from adapters.kinds.settings import Settings, decode, dotted
from adapters.kinds.sql.binding import Binder, ParameterSettings, ParameterType, make_binder
from adapters.kinds.sql.text import Dialect

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}(?:\.[A-Za-z_][A-Za-z0-9_]{0,62})?")
_MAX_FIELDS = 256


class ReferenceSettings(Settings, frozen=True):
    """Where an allowed value must be found.

    Attributes:
        table: Table or view of the code list.
        column: Its column of codes.
    """

    table: str
    column: str


class FieldSettings(Settings, frozen=True):
    """One field that may be updated.

    Attributes:
        column: Its column in the table.
        type: What the value must be; the types of `parameters`.
        nullable: JSON null empties the column.
        values: The only values that are allowed, as text.
        codes: The only values that are allowed, each with the code that is stored for it.
        pattern: Regular expression (Python's) that the whole text must match.
        max_length: Longest text; 0 for no limit of its own.
        reference: A code list in the same database that must have the value.
        person: A person decides on changes of this field.
    """

    column: str
    type: ParameterType = "text"
    nullable: bool = False
    values: tuple[str, ...] = ()
    codes: dict[str, str] = msgspec.field(default_factory=dict)
    pattern: str = ""
    max_length: int = 0
    reference: ReferenceSettings | None = None
    person: bool = False


class UpdateSettings(Settings, frozen=True):
    """Write-back to one table.

    Attributes:
        table: The table; `schema.table` too.
        key: Column that tells one record from the others.
        fields: By their place in `changes`, dotted (`residence.commune`).
        version: Integer column that is counted up by every change.
        identifier: Where the record's key stands in the request, as in `parameters`.
        based_on: Where the version stands that the changes were based on.
        changes: Where the changed fields stand; an object in the body.
        source: Where the source document stands; kept with the effect.
        legal_ground: Where the legal ground stands; kept with the effect.
        state_operation: Operation by which the sender asks what became of an update.
        state_id: Where the update's id stands in that operation.
        effects: Table of what was done, one row an exchange id.
        reviews: Table of changes that wait for a person.
        keep_days: How long effects are remembered; longer than commands live and are tried, or late ones are refused.
    """

    table: str
    key: str
    fields: dict[str, dict[str, object]]
    version: str = "version"
    identifier: dict[str, object] = msgspec.field(default_factory=lambda: {"from": "path.id"})
    based_on: str = "body.basedOn"
    changes: str = "body.changes"
    source: str = "body.source"
    legal_ground: str = "body.legalGround"
    state_operation: str = ""
    state_id: str = "path.id"
    effects: str = "lienthong_effect"
    reviews: str = "lienthong_review"
    keep_days: int = 400


@dataclass(frozen=True, slots=True)
class Field:
    """A field, checked.

    Attributes:
        name: Dotted place in `changes`.
        settings: As declared.
        pattern: Compiled; None when there is none.
    """

    name: str
    settings: FieldSettings
    pattern: re.Pattern[str] | None


@dataclass(frozen=True, slots=True)
class Update:
    """One kind of update, checked and compiled.

    Attributes:
        operation: The operation that takes it.
        settings: As declared.
        dialect: The database's.
        fields: By name.
        key_type: Type of the record's key.
        identifier: Takes it.
        based_on: Takes the version.
        legal_ground: Takes the legal ground; empty when the request has none.
        state_id: Takes the id that is asked about.
        changes: Steps to the changes in the body; so for the next one.
        source: Steps to the source document.
    """

    operation: str
    settings: UpdateSettings
    dialect: Dialect
    fields: Mapping[str, Field]
    key_type: ParameterType
    identifier: Binder
    based_on: Binder
    legal_ground: Binder
    state_id: Binder
    changes: tuple[str, ...]
    source: tuple[str, ...]

    @property
    def dates_as_text(self) -> bool:
        """Whether dates are bound as text."""
        return self.dialect == "sqlite"


def read_updates(updates: Mapping[str, Mapping[str, object]], dialect: Dialect) -> dict[str, Update]:
    """Read and check all updates of a source, by the operations that take them.

    Raises:
        SettingsInvalid: With the dotted key that is wrong.
    """
    made = {name: _update(name, settings, dialect) for name, settings in updates.items()}
    asked = [one.settings.state_operation for one in made.values() if one.settings.state_operation]
    if len(set(asked)) != len(asked):
        raise SettingsInvalid("updates", "two updates name the same state_operation; give each one of its own")
    if taken := sorted(made.keys() & set(asked)):
        raise SettingsInvalid(f"updates.{taken[0]}", "is named as a state_operation too")
    return made


def _update(name: str, settings: Mapping[str, object], dialect: Dialect) -> Update:
    key = dotted("updates", name)
    read = decode(settings, UpdateSettings, key)
    for attribute in ("table", "effects", "reviews"):
        _check(_TABLE, getattr(read, attribute), dotted(key, attribute))
    for attribute in ("key", "version"):
        _check(_NAME, getattr(read, attribute), dotted(key, attribute))
    if not 0 < len(read.fields) <= _MAX_FIELDS:
        raise SettingsInvalid(dotted(key, "fields"), f"name 1 to {_MAX_FIELDS} fields that may be updated")
    if not 1 <= read.keep_days <= 36_500:
        raise SettingsInvalid(dotted(key, "keep_days"), "must be between 1 and 36500")
    fields = {one: _field(one, told, dotted(dotted(key, "fields"), one)) for one, told in read.fields.items()}
    columns = [field.settings.column for field in fields.values()]
    if len(set(columns)) != len(columns) or {read.key, read.version} & set(columns):
        raise SettingsInvalid(dotted(key, "fields"), "each needs a column of its own, which is neither key nor version")
    text = dialect == "sqlite"
    identifier = decode(read.identifier, ParameterSettings, dotted(key, "identifier"))
    if identifier.optional or identifier.default is not None:
        raise SettingsInvalid(dotted(key, "identifier"), "cannot be optional")
    if identifier.type not in {"text", "integer"}:
        raise SettingsInvalid(dotted(key, "identifier"), "must be of type text or integer")
    return Update(
        operation=name,
        settings=read,
        dialect=dialect,
        fields=fields,
        key_type=identifier.type,
        identifier=make_binder(identifier, dotted(key, "identifier"), dates_as_text=text),
        based_on=_binder(read.based_on, dotted(key, "based_on"), "integer"),
        legal_ground=_binder(read.legal_ground, dotted(key, "legal_ground"), "text", optional=True),
        state_id=_binder(read.state_id, dotted(key, "state_id"), "text"),
        changes=_steps(read.changes, dotted(key, "changes")),
        source=_steps(read.source, dotted(key, "source")),
    )


def _binder(place: str, key: str, type_: ParameterType, *, optional: bool = False) -> Binder:
    return make_binder(ParameterSettings(place=place, type=type_, optional=optional), key, dates_as_text=True)


def _steps(place: str, key: str) -> tuple[str, ...]:
    where, _, rest = place.partition(".")
    if where != "body" or not rest:
        raise SettingsInvalid(key, "must be a place in the body, like body.changes")
    return tuple(rest.split("."))


def _field(name: str, settings: Mapping[str, object], key: str) -> Field:
    read = decode(settings, FieldSettings, key)
    _check(_NAME, read.column, dotted(key, "column"))
    if read.reference is not None:
        _check(_TABLE, read.reference.table, dotted(key, "reference.table"))
        _check(_NAME, read.reference.column, dotted(key, "reference.column"))
    if (read.pattern or read.max_length) and read.type not in {"text", "name"}:
        raise SettingsInvalid(key, "pattern and max_length are for text")
    if read.codes and (read.values or read.type != "text"):
        raise SettingsInvalid(dotted(key, "codes"), "says the allowed values itself, and is for text")
    try:
        pattern = re.compile(read.pattern) if read.pattern else None
    except re.error as error:
        raise SettingsInvalid(dotted(key, "pattern"), f"is no regular expression: {error.msg}") from None
    return Field(name, read, pattern)


def _check(allowed: re.Pattern[str], name: str, key: str) -> None:
    if allowed.fullmatch(name) is None:
        raise SettingsInvalid(key, "must be a plain name (letters, digits, _), a table with its schema or without")
