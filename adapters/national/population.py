"""Kind `population`: the population contract answered from a table of citizens, over the kind `sql`.

An agency names its table, its columns and its codes; the statements stay as they are. Settings that are not named here
are those of the kind `sql`, without `operations` and `enums`.
"""

import re
from collections.abc import Mapping

import msgspec

from adapters.errors import SettingsInvalid
from adapters.kinds.settings import Settings, decode
from adapters.kinds.sql import SqlKind, SqlSource
from adapters.national.population_mapping import COLUMNS, ENUMS, OPERATIONS, TABLE
from adapters.port import SourceObserver

_COLUMN = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_TABLE = re.compile(r"[a-z_][a-z0-9_]{0,62}(?:\.[a-z_][a-z0-9_]{0,62})?")
_OWN = ("table", "columns", "codes")
_TAKEN = ("operations", "enums")


class PopulationSettings(Settings, frozen=True):
    """What an agency may name, beside the settings of the kind `sql`.

    Attributes:
        table: Table or view of citizens, one row a person; `schema.table` too.
        columns: Column names that differ: the name in the documentation → the agency's own.
        codes: Stored codes that differ, by list (`sex`, `marital-status`, `blood-group`): stored code → value.
    """

    table: str = TABLE
    columns: dict[str, str] = msgspec.field(default_factory=dict)
    codes: dict[str, dict[str, str]] = msgspec.field(default_factory=dict)


class PopulationKind:
    """Makes sources that answer `confirmCitizen` and `lookUpCitizen`."""

    def build(self, settings: Mapping[str, object], observer: SourceObserver) -> SqlSource:
        """Check the settings and make a source that is not open yet.

        Raises:
            SettingsInvalid: With the dotted key that is wrong.
        """
        for taken in _TAKEN:
            if taken in settings:
                raise SettingsInvalid(taken, "the kind population brings its own; use kind sql to write them yourself")
        own = decode({key: settings[key] for key in _OWN if key in settings}, PopulationSettings)
        rest = {key: value for key, value in settings.items() if key not in _OWN}
        mapping = {"operations": _operations(_names(own)), "enums": _enums(own.codes)}
        return SqlKind().build({**rest, **mapping}, observer)


def _names(own: PopulationSettings) -> dict[str, str]:
    """Names to put into the statements, each a plain identifier."""
    if _TABLE.fullmatch(own.table) is None:
        raise SettingsInvalid("table", "must be a plain name ([a-z_][a-z0-9_]*), with its schema or without")
    for known, name in own.columns.items():
        if known not in COLUMNS:
            raise SettingsInvalid(
                f"columns.{known}", f"is not a column of this mapping; those are {', '.join(COLUMNS)}"
            )
        if _COLUMN.fullmatch(name) is None:
            raise SettingsInvalid(f"columns.{known}", "must be a plain name ([a-z_][a-z0-9_]*)")
    return {**{column: column for column in COLUMNS}, **own.columns, "table": own.table}


def _operations(names: Mapping[str, str]) -> dict[str, dict[str, object]]:
    return {
        name: {**operation, "statement": str(operation["statement"]).format_map(names)}
        for name, operation in OPERATIONS.items()
    }


def _enums(codes: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, object]]:
    for name, values in codes.items():
        if name not in ENUMS:
            raise SettingsInvalid(f"codes.{name}", f"is not a code list of this mapping; those are {', '.join(ENUMS)}")
        for code, value in values.items():
            if value not in ENUMS[name].values():
                known = ", ".join(map(str, ENUMS[name].values()))
                raise SettingsInvalid(f"codes.{name}.{code}", f"must be one of the contract's values: {known}")
    return {name: dict(codes.get(name, values)) for name, values in ENUMS.items()}
