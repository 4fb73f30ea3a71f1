from datetime import UTC, date, datetime

import pytest
from adapter_requests import asked
from hypothesis import given
from hypothesis import strategies as st

from adapters.errors import RequestUnusable, SettingsInvalid
from adapters.kinds.settings import decode
from adapters.kinds.sql.binding import Binder, ParameterSettings, make_binder, name_key

REQUEST = asked(
    parameters={"number": "001", "limit": 5, "X-Kind": "k", "flag": True},
    json_body={"a": {"b": "deep", "n": 1.5}, "day": "2026-02-28", "at": "2026-02-28T10:00:00+07:00", "list": [1]},
)


def binder(place: str, *, dates_as_text: bool = False, **rest: object) -> Binder:
    return make_binder(decode({"from": place, **rest}, ParameterSettings), "p", dates_as_text=dates_as_text)


@pytest.mark.parametrize(
    ("place", "kind", "value"),
    [
        ("path.number", "text", "001"),
        ("query.limit", "integer", 5),
        ("header.x-kind", "text", "k"),
        ("query.flag", "boolean", True),
        ("body.a.b", "text", "deep"),
        ("body.a.n", "number", 1.5),
        ("body.day", "date", date(2026, 2, 28)),
        ("body.at", "timestamp", datetime(2026, 2, 28, 3, tzinfo=UTC)),
        ("body.day", "partial-date", "20260228"),
        ("identity.official", "text", "official-1"),
        ("identity.client", "text", "VN/GOV/H37/onedoor"),
    ],
)
def test_a_value_is_taken_from_its_place_in_its_type(place: str, kind: str, value: object) -> None:
    assert binder(place, type=kind)(REQUEST) == value


def test_dates_are_bound_as_text_where_the_database_has_none() -> None:
    assert binder("body.day", type="date", dates_as_text=True)(REQUEST) == "2026-02-28"
    assert binder("body.at", type="timestamp", dates_as_text=True)(REQUEST) == "2026-02-28T10:00:00+07:00"


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("path.number", "integer"), ("query.limit", "text"), ("query.flag", "integer"), ("query.flag", "number"),
        ("query.limit", "boolean"), ("body.a", "text"), ("body.list", "text"), ("body.a.b", "date"),
        ("body.day", "timestamp"), ("body.a.b", "partial-date"), ("body.a.n", "integer"),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_refused_and_not_repeated(place: str, kind: str) -> None:
    with pytest.raises(RequestUnusable) as refusal:
        binder(place, type=kind)(REQUEST)
    assert refusal.value.place == place
    assert refusal.value.acted == "no"
    assert "deep" not in str(refusal.value)
    assert "001" not in str(refusal.value)


@pytest.mark.parametrize("text", ["2020-W01-1", "20200101", "2020-02-30", "2020-1-01", "٢٠٢٠-٠١-٠١"])
def test_only_plain_calendar_dates_are_dates(text: str) -> None:
    with pytest.raises(RequestUnusable):
        binder("body.d", type="date")(asked(json_body={"d": text}))


@pytest.mark.parametrize(("text", "bound"), [("1960", "1960"), ("1960-05", "196005"), ("1960-05-12", "19600512")])
def test_partial_dates_are_bound_as_far_as_known(text: str, bound: str) -> None:
    assert binder("body.d", type="partial-date")(asked(json_body={"d": text})) == bound


@pytest.mark.parametrize("text", ["196", "1960-5", "1960-13", "1960-02-30", "196005", "1960-0512", "19-60", "1960-"])
def test_partial_dates_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(RequestUnusable):
        binder("body.d", type="partial-date")(asked(json_body={"d": text}))


@pytest.mark.parametrize("text", ["a\x00b", "\ud800"])
def test_text_that_no_database_can_hold_is_refused(text: str) -> None:
    with pytest.raises(RequestUnusable):
        binder("body.d")(asked(json_body={"d": text}))


def test_integers_beyond_64_bits_are_refused() -> None:
    with pytest.raises(RequestUnusable):
        binder("body.d", type="integer")(asked(json_body={"d": 2**63}))


def test_what_is_absent_is_refused_unless_the_mapping_allows_it() -> None:
    with pytest.raises(RequestUnusable):
        binder("body.none")(REQUEST)
    with pytest.raises(RequestUnusable):
        binder("body.a.b.c")(REQUEST)
    assert binder("body.none", optional=True)(REQUEST) is None
    assert binder("query.none", type="integer", default=20)(REQUEST) == 20
    assert binder("identity.issue", optional=True)(REQUEST) is None


@pytest.mark.parametrize("place", ["number", "cookie.x", "identity.password", "body.", ""])
def test_a_place_that_is_none_is_refused_at_load(place: str) -> None:
    with pytest.raises(SettingsInvalid) as refusal:
        binder(place)
    assert refusal.value.key == "p.from"


def test_a_default_of_another_type_is_refused_at_load() -> None:
    for kind, default in (("integer", "x"), ("text", 1), ("date", "2020-01-01")):
        with pytest.raises(SettingsInvalid) as refusal:
            binder("query.x", type=kind, default=default)
        assert refusal.value.key == "p.default"


def test_names_are_compared_in_one_form() -> None:
    assert name_key("  nguyễn   văn A ") == name_key("NGUYỄN VĂN A") == "NGUYỄN VĂN A"


@given(st.text())
def test_the_form_of_a_name_is_stable(text: str) -> None:
    assert name_key(name_key(text)) == name_key(text)
