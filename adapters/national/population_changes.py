"""Kind `population-changes`: proposed changes of population records taken into a table of citizens, over kind `sql`.

The contract is `schemas/population-changes`. Settings that are not named here are those of the kind `sql`, without
`operations`, `updates` and `enums`. The table is the one of the kind `population`, with a version column.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from adapters.errors import SettingsInvalid
from adapters.kinds.settings import Settings, decode
from adapters.kinds.sql import SqlKind, SqlSource
from adapters.national.population_mapping import ENUMS, TABLE
from adapters.port import SourceObserver

_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_TABLE = re.compile(r"[a-z_][a-z0-9_]{0,62}(?:\.[a-z_][a-z0-9_]{0,62})?")
_OWN = ("table", "version", "columns", "communes", "person", "effects", "reviews")
_TAKEN = ("operations", "updates", "enums")
_PARTS = ("province", "commune", "detail")
COLUMNS = (
    "number", "marital_status", "permanent_province", "permanent_commune", "permanent_detail", "current_province",
    "current_commune", "current_detail",
)  # fmt: skip
GET_RECORD = """
SELECT {number} AS number, {version} AS version, {marital_status} AS marital_status,
       {permanent_province} AS permanent_province, {permanent_commune} AS permanent_commune,
       {permanent_detail} AS permanent_detail, {current_province} AS current_province,
       {current_commune} AS current_commune, {current_detail} AS current_detail
FROM {table}
WHERE {number} = :number
"""


class PopulationChangesSettings(Settings, frozen=True):
    """What an agency may name, beside the settings of the kind `sql`.

    Attributes:
        table: Table of citizens, one row a person; `schema.table` too.
        version: Integer column that every change counts up.
        columns: Column names that differ: the name in the documentation → the agency's own.
        communes: Code list of communes, `table.column`; empty for no look-up.
        person: Fields on which a person decides: `permanentResidence`, `currentResidence`, `maritalStatus`.
        effects: Table of what was done, one row an exchange id.
        reviews: Table of changes that wait for a person.
    """

    table: str = TABLE
    version: str = "version"
    columns: dict[str, str] = msgspec.field(default_factory=dict)
    communes: str = "commune.code"
    person: tuple[str, ...] = ("maritalStatus",)
    effects: str = "lienthong_effect"
    reviews: str = "lienthong_review"


class PopulationChangesKind:
    """Makes sources that answer `getRecord`, `proposeChange` and `getChange`."""

    def build(self, settings: Mapping[str, object], observer: SourceObserver) -> SqlSource:
        """Check the settings and make a source that is not open yet.

        Raises:
            SettingsInvalid: With the dotted key that is wrong.
        """
        for taken in _TAKEN:
            if taken in settings:
                raise SettingsInvalid(taken, "this kind brings its own; use kind sql to write them yourself")
        own = decode({key: settings[key] for key in _OWN if key in settings}, PopulationChangesSettings)
        rest = {key: value for key, value in settings.items() if key not in _OWN}
        names = _names(own)
        operation = {
            "statement": GET_RECORD.format_map({**names, "table": own.table, "version": own.version}),
            "rows": "optional",
            "none": {"title": "No citizen has this number"},
            "parameters": {"number": {"from": "path.number"}},
            "answer": _RECORD,
        }
        mapping = {
            "operations": {"getRecord": operation},
            "updates": {"proposeChange": _update(own, names)},
            "enums": {"marital-status": ENUMS["marital-status"]},
        }
        return SqlKind().build({**rest, **mapping}, observer)


_RECORD: dict[str, object] = {
    "number": "$number",
    "version": "$version",
    "maritalStatus": "$marital_status:marital-status",
    **{f"{place}Residence": {part: f"${place}_{part}" for part in _PARTS} for place in ("permanent", "current")},
}


def _names(own: PopulationChangesSettings) -> dict[str, str]:
    """Names to put into the statement, each a plain identifier."""
    for key, allowed, name in (("table", _TABLE, own.table), ("version", _NAME, own.version)):
        if allowed.fullmatch(name) is None:
            raise SettingsInvalid(key, "must be a plain name ([a-z_][a-z0-9_]*)")
    for known, name in own.columns.items():
        if known not in COLUMNS:
            raise SettingsInvalid(f"columns.{known}", f"is not a column of this mapping; those: {', '.join(COLUMNS)}")
        if _NAME.fullmatch(name) is None:
            raise SettingsInvalid(f"columns.{known}", "must be a plain name ([a-z_][a-z0-9_]*)")
    return {**{column: column for column in COLUMNS}, **own.columns}


def _update(own: PopulationChangesSettings, names: Mapping[str, str]) -> dict[str, object]:
    for name in own.person:
        if name not in {"permanentResidence", "currentResidence", "maritalStatus"}:
            raise SettingsInvalid("person", "names permanentResidence, currentResidence or maritalStatus")
    table, _, column = own.communes.rpartition(".")
    if own.communes and not table:
        raise SettingsInvalid("communes", "is table.column, or empty")
    known = {"commune": {"reference": {"table": table, "column": column}}} if table else {}
    fields: dict[str, dict[str, object]] = {
        f"{place}Residence.{part}": {
            "column": names[f"{place}_{part}"],
            "person": f"{place}Residence" in own.person,
            **known.get(part, {}),
        }
        for place in ("permanent", "current")
        for part in _PARTS
    }
    fields["maritalStatus"] = {
        "column": names["marital_status"],
        "codes": {str(said): code for code, said in ENUMS["marital-status"].items() if said != "unknown"},
        "person": "maritalStatus" in own.person,
    }
    return {
        "table": own.table, "key": names["number"], "version": own.version, "identifier": {"from": "path.number"},
        "state_operation": "getChange", "effects": own.effects, "reviews": own.reviews, "fields": fields,
    }  # fmt: skip
