from importlib.metadata import EntryPoint

import pytest

from adapters import kinds
from adapters.errors import KindUnknown
from adapters.kinds import known_kinds, load_kind
from adapters.kinds.http import HttpKind
from adapters.kinds.sql import SqlKind
from adapters.national.business import BusinessKind
from adapters.national.population import PopulationKind


@pytest.mark.parametrize(
    ("name", "kind"), [("http", HttpKind), ("sql", SqlKind), ("population", PopulationKind), ("business", BusinessKind)]
)
def test_a_kind_is_found_by_its_name(name: str, kind: type) -> None:
    assert isinstance(load_kind(name), kind)


def test_an_unknown_kind_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(KindUnknown, match="business, http, population, population-changes, sql") as refusal:
        load_kind("soap")
    assert refusal.value.code == "adapter-kind-unknown"
    assert known_kinds() == ("business", "http", "population", "population-changes", "sql")


def test_two_packages_with_one_name_and_broken_packages_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint("x", "no_such_package:Kind", kinds.GROUP), EntryPoint("x", "other:Kind", kinds.GROUP)]
    monkeypatch.setattr(kinds, "entry_points", lambda **_: points)
    with pytest.raises(KindUnknown, match="several"):
        load_kind("x")
    monkeypatch.setattr(kinds, "entry_points", lambda **_: points[:1])
    with pytest.raises(KindUnknown, match="cannot be imported"):
        load_kind("x")
