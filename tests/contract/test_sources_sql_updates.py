"""Write-back of the kind `sql`, the same cases against SQLite and a real PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from test_sources_sql import BASE, Place, postgresql

from adapters.errors import BackendBusy, EffectForgotten, MappingInvalid, RequestUnusable, ReviewRefused
from adapters.kinds.sql import SqlKind, SqlSource
from adapters.port import AdapterAnswer, AdapterRequest, SilentObserver
from console.sample.tables import Table, write_postgresql, write_sqlite

__all__ = ["postgresql"]
PEOPLE = Table("person", ("number", "commune", "marital", "phone"), "number", (),
               [("1", "00001", "1", "0900"), ("2", "00002", "2", None)], versioned=True)  # fmt: skip
COMMUNES = Table("commune", ("code",), "code", (), [("00001",), ("00002",), ("00003",)])
UPDATE: dict[str, Any] = {
    "table": "person",
    "key": "number",
    "state_operation": "getChange",
    "fields": {
        "residence.commune": {"column": "commune", "reference": {"table": "commune", "column": "code"}},
        "maritalStatus": {"column": "marital", "values": ["1", "2", "3"], "person": True},
        "phone": {"column": "phone", "pattern": "[0-9]{4,12}", "max_length": 12, "nullable": True},
    },
}
FIND = {
    "statement": "SELECT number, commune, marital, phone, version FROM person WHERE number = :number",
    "parameters": {"number": {"from": "path.id"}},
    "answer": {"commune": "$commune", "marital": "$marital", "phone": "$phone", "version": "$version"},
}
SETTINGS = {"operations": {"find": FIND}, "updates": {"change": UPDATE}}


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "postgresql":
        address = request.getfixturevalue("postgresql")
        asyncio.run(emptied(address))
        asyncio.run(write_postgresql(address, [PEOPLE, COMMUNES]))
        return Place("postgresql", address)
    write_sqlite(tmp_path / "s.db", [PEOPLE, COMMUNES])
    return Place("sqlite", f"sqlite:///{tmp_path}/s.db")


async def emptied(address: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(address)
    await connection.execute("DROP TABLE IF EXISTS lienthong_effect; DROP TABLE IF EXISTS lienthong_review")
    await connection.close()


@asynccontextmanager
async def source(place: Place, **settings: object) -> AsyncIterator[SqlSource]:
    made = SqlKind().build({"database": place.address, **SETTINGS, **settings}, SilentObserver())
    await made.open()
    try:
        assert made.write_back is not None
        await made.write_back.prepare()
        await made.check()
        yield made
    finally:
        await made.close()


def asked(changes: object, based_on: int = 1, id_: str = "e1", number: str = "1", **more: Any) -> AdapterRequest:
    body = {"basedOn": based_on, "changes": changes, "source": {"number": "12/QĐ"}, "legalGround": "Sample Act"}
    return replace(BASE, operation="change", method="POST", exchange_id=id_, parameters={"id": number},
                   json_body=body, body=json.dumps(body).encode(), **more)  # fmt: skip


def told(answer: AdapterAnswer) -> tuple[int, dict[str, Any]]:
    said = json.loads(answer.body)
    assert answer.content_type == ("application/problem+json" if answer.status >= 400 else "application/json")
    return answer.status, said


async def person(made: SqlSource, number: str = "1") -> dict[str, Any]:
    return json.loads((await made.call(replace(BASE, parameters={"id": number}))).body)


async def state(made: SqlSource, id_: str, **more: Any) -> tuple[int, dict[str, Any]]:
    return told(await made.call(replace(BASE, operation="getChange", parameters={"id": id_}, **more)))


async def test_an_accepted_update_changes_the_fields_and_counts_the_version_up(place: Place) -> None:
    async with source(place) as made:
        answer = await made.call(asked({"residence": {"commune": "00003"}, "phone": None}))
        assert told(answer) == (200, {"state": "accepted", "version": 2})
        assert await person(made) == {"commune": "00003", "marital": "1", "version": 2}
        assert (await person(made, "2"))["version"] == 1
        status, said = await state(made, "e1")
        assert (status, said["state"], said["version"]) == (200, "accepted", 2)


async def test_a_stale_update_is_refused_and_the_current_version_named(place: Place) -> None:
    async with source(place) as made:
        await made.call(asked({"phone": "0901"}, id_="e1"))
        status, said = told(await made.call(asked({"phone": "0902"}, id_="e2")))
        assert (status, said["code"], said["currentVersion"], said["basedOn"]) == (409, "stale", 2, 1)
        assert (await person(made))["phone"] == "0901"
        assert (await state(made, "e2"))[1]["state"] == "stale"


async def test_every_field_that_cannot_be_taken_is_told_with_its_reason_and_nothing_is_changed(place: Place) -> None:
    async with source(place) as made:
        changes = {"residence": {"commune": "00009"}, "maritalStatus": "9", "phone": "secret", "name": "x"}
        status, said = told(await made.call(asked(changes)))
        assert (status, said["code"]) == (422, "fields-rejected")
        assert {one["field"]: one["code"] for one in said["fields"]} == {
            "residence.commune": "reference-unknown", "maritalStatus": "value-not-allowed", "phone": "pattern",
            "(undeclared)": "field-not-updatable",
        }  # fmt: skip
        assert all(one["reason"] for one in said["fields"])
        assert "secret" not in json.dumps(said)
        assert await person(made) == {"commune": "00001", "marital": "1", "phone": "0900", "version": 1}
        status, said = told(await made.call(asked({"residence": {"commune": None}, "phone": 5}, id_="e2")))
        assert {one["field"]: one["code"] for one in said["fields"]} == {
            "residence.commune": "null",
            "phone": "pattern",
        }


async def test_one_field_that_cannot_be_taken_keeps_the_others_from_being_changed(place: Place) -> None:
    async with source(place) as made:
        assert (await made.call(asked({"residence": {"commune": "00009"}, "phone": "0901"}))).status == 422
        assert (await person(made))["phone"] == "0900"


async def test_an_unknown_record_is_told_as_such(place: Place) -> None:
    async with source(place) as made:
        status, said = told(await made.call(asked({"phone": "0901"}, number="7")))
        assert (status, said["code"]) == (404, "record-unknown")


async def test_the_same_exchange_id_again_has_one_effect_and_the_first_answer(place: Place) -> None:
    async with source(place) as made:
        first = await made.call(asked({"phone": "0901"}))
        await made.call(asked({"phone": "0902"}, based_on=2, id_="e2"))
        assert await made.call(asked({"phone": "0901"})) == first
        assert await person(made) == {"commune": "00001", "marital": "1", "phone": "0902", "version": 3}
    async with source(place) as again:
        assert await again.call(asked({"phone": "0901"})) == first


async def test_a_refusal_too_is_the_first_answer_and_stays_it(place: Place) -> None:
    async with source(place) as made:
        stale = await made.call(asked({"phone": "0901"}, based_on=2))
        assert stale.status == 409
        assert (await made.call(asked({"phone": "0902"}, id_="e2"))).status == 200
        assert await made.call(asked({"phone": "0901"}, based_on=2)) == stale  # by now it would not be stale


async def test_the_same_exchange_id_from_another_client_is_another_update(place: Place) -> None:
    async with source(place) as made:
        await made.call(asked({"phone": "0901"}))
        other = asked({"phone": "0902"}, based_on=2, client="VN/GOV/H38/onedoor")
        assert (await made.call(other)).status == 200
        assert (await state(made, "e1", client="VN/GOV/H99/onedoor"))[0] == 404


async def test_the_same_exchange_id_with_other_contents_is_refused(place: Place) -> None:
    async with source(place) as made:
        await made.call(asked({"phone": "0901"}))
        status, said = told(await made.call(asked({"phone": "0902"}, based_on=2)))
        assert (status, said["code"]) == (409, "exchange-id-reused")
        assert (await person(made))["phone"] == "0901"


async def test_many_at_once_with_one_id_have_one_effect_and_one_answer(place: Place) -> None:
    async with source(place) as made:
        answers = await asyncio.gather(*(made.call(asked({"phone": "0901"})) for _ in range(20)))
        assert {answer.body for answer in answers} == {b'{"state":"accepted","version":2}'}
        assert (await person(made))["version"] == 2


async def test_of_many_updates_of_one_version_one_is_accepted(place: Place) -> None:
    async with source(place) as made:
        answers = await asyncio.gather(*(made.call(asked({"phone": f"090{n}"}, id_=f"e{n}")) for n in range(10)))
        assert sorted(answer.status for answer in answers) == [200] + [409] * 9
        assert (await person(made))["version"] == 2


async def test_a_field_for_a_person_waits_and_is_decided_by_one(place: Place) -> None:
    async with source(place) as made:
        desk = made.write_back
        assert desk is not None
        answer = await made.call(asked({"maritalStatus": "2", "phone": "0901"}, official="canbo.an"))
        assert told(answer) == (202, {"state": "queued", "id": "e1"})
        assert (await state(made, "e1"))[1]["state"] == "queued"
        assert (await person(made))["version"] == 1
        (review,) = await desk.reviews()
        assert (review.id, review.record_key, review.based_on, review.current) == ("e1", "1", 1, 1)
        assert review.changes == {"maritalStatus": "2", "phone": "0901"}
        assert (review.official, review.source, review.legal_ground) == ("canbo.an", {"number": "12/QĐ"}, "Sample Act")
        assert await desk.decide("e1", "accept", "thu.ky", "as on the certificate") == ("accepted", 2)
        assert await person(made) == {"commune": "00001", "marital": "2", "phone": "0901", "version": 2}
        _, said = await state(made, "e1")
        assert (said["state"], said["version"], said["reason"]) == ("accepted", 2, "as on the certificate")
        assert await desk.reviews() == ()
        assert await made.call(asked({"maritalStatus": "2", "phone": "0901"}, official="canbo.an")) == answer
        with pytest.raises(ReviewRefused):
            await desk.decide("e1", "accept", "thu.ky", "")


async def test_a_person_rejects_with_a_reason_and_nothing_is_changed(place: Place) -> None:
    async with source(place) as made:
        desk = made.write_back
        assert desk is not None
        await made.call(asked({"maritalStatus": "2"}))
        assert await desk.decide("e1", "reject", "thu.ky", "certificate is missing") == ("rejected", None)
        assert (await person(made))["version"] == 1
        _, said = await state(made, "e1")
        assert (said["state"], said["reason"]) == ("rejected", "certificate is missing")


async def test_what_waited_while_the_record_was_changed_is_accepted_only_onto_a_named_version(place: Place) -> None:
    async with source(place) as made:
        desk = made.write_back
        assert desk is not None
        await made.call(asked({"maritalStatus": "2"}))
        await made.call(asked({"phone": "0905"}, id_="e2"))
        assert (await desk.reviews())[0].current == 2
        with pytest.raises(ReviewRefused, match="version 2"):
            await desk.decide("e1", "accept", "thu.ky", "")
        with pytest.raises(ReviewRefused, match="version 2"):
            await desk.decide("e1", "accept", "thu.ky", "", onto=1)
        assert len(await desk.reviews()) == 1
        assert await desk.decide("e1", "accept", "thu.ky", "", onto=2) == ("accepted", 3)
        assert await person(made) == {"commune": "00001", "marital": "2", "phone": "0905", "version": 3}


async def test_an_injected_value_stays_a_value(place: Place) -> None:
    async with source(place) as made:
        for number, value in enumerate(["'; DROP TABLE person; --", ":value_0", "$1", "' OR '1'='1"]):
            assert (await made.call(asked({"residence": {"commune": value}}, id_=f"e{number}"))).status == 422
        assert (await made.call(asked({"phone": "1111"}, id_="x' OR '1'='1"))).status == 200
        assert (await person(made, "2"))["version"] == 1


async def test_a_missing_table_is_found_by_the_check(place: Place) -> None:
    wrong = {**UPDATE, "effects": "no_such_table"}
    made = SqlKind().build({"database": place.address, "updates": {"change": wrong}}, SilentObserver())
    await made.open()
    try:
        with pytest.raises(MappingInvalid, match=r"updates\.change"):
            await made.check()
        with pytest.raises(MappingInvalid) as refusal:
            await made.call(asked({"phone": "0901"}))
        assert refusal.value.acted == "no"
    finally:
        await made.close()


async def test_a_body_without_changes_is_not_for_this_source(place: Place) -> None:
    async with source(place) as made:
        with pytest.raises(RequestUnusable):
            await made.call(asked({}))


async def test_what_fails_half_way_leaves_nothing_behind_and_the_same_call_works_later(tmp_path: Path) -> None:
    write_sqlite(tmp_path / "s.db", [PEOPLE, COMMUNES])
    async with source(Place("sqlite", f"sqlite:///{tmp_path}/s.db")) as made:
        with contextlib.closing(sqlite3.connect(tmp_path / "s.db", isolation_level=None)) as other:
            other.execute("CREATE TRIGGER full BEFORE UPDATE ON person BEGIN SELECT RAISE(ABORT, 'no'); END")
            with pytest.raises(MappingInvalid):
                await made.call(asked({"phone": "0901"}))
            assert other.execute("SELECT count(*) FROM lienthong_effect").fetchone() == (0,)
            other.execute("DROP TRIGGER full")
        assert (await made.call(asked({"phone": "0901"}))).status == 200


async def test_a_locked_database_is_busy_and_nothing_was_done(tmp_path: Path) -> None:
    write_sqlite(tmp_path / "s.db", [PEOPLE, COMMUNES])
    async with source(Place("sqlite", f"sqlite:///{tmp_path}/s.db"), statement_timeout_s=0.2) as made:
        with contextlib.closing(sqlite3.connect(tmp_path / "s.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(BackendBusy) as refusal:
                await made.call(asked({"phone": "0901"}))
            assert refusal.value.acted == "no"
            other.execute("ROLLBACK")
        assert (await made.call(asked({"phone": "0901"}))).status == 200


# --- forgotten --------------------------------------------------------------------------------------------------------

BEGAN_AT = datetime(2026, 3, 2, tzinfo=UTC)
ID = "019ab3c4-6c1d-7b4e-9d3a-{:012x}"


class Days:
    """The time of a source, moved by a test."""

    def __init__(self, made: SqlSource) -> None:
        self.at = BEGAN_AT
        assert made.write_back is not None
        made.write_back._now = lambda: self.at

    def pass_(self, days: float) -> None:
        self.at += timedelta(days=days)


def keeping(days: int, **more: Any) -> dict[str, Any]:
    return {"updates": {"change": {**UPDATE, "keep_days": days, **more}}}


async def rejected_by_a_person(made: SqlSource, id_: str) -> None:
    assert (await made.call(asked({"maritalStatus": "2"}, id_=id_))).status == 202
    assert made.write_back is not None
    await made.write_back.decide(id_, "reject", "clerk", "no certificate")


async def effect_ids(place: Place) -> list[str]:
    """Remembered exchange ids, the empty one of what was forgotten too."""
    found = "SELECT exchange_id FROM lienthong_effect ORDER BY exchange_id"
    if place.address.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(place.address.removeprefix("sqlite:///"))) as db:
            return [row[0] for row in db.execute(found)]
    import asyncpg

    connection = await asyncpg.connect(place.address)
    try:
        return [row[0] for row in await connection.fetch(found)]
    finally:
        await connection.close()


async def test_an_update_that_comes_again_after_it_was_forgotten_is_not_taken_anew(place: Place) -> None:
    """A dead letter, say, whose first attempt had its effect, and that an operator brings back much later."""
    async with source(place, **keeping(3)) as made:
        days = Days(made)
        await rejected_by_a_person(made, ID.format(1))
        days.pass_(4)
        assert (await made.call(asked({"phone": "0907"}, id_=ID.format(9), number="2"))).status == 200
        assert await effect_ids(place) == ["", ID.format(9)]
        for _ in range(2):
            with pytest.raises(EffectForgotten) as caught:
                await made.call(asked({"maritalStatus": "2"}, id_=ID.format(1)))
            assert (caught.value.acted, caught.value.disposition) == ("unknown", "reject")
        assert made.write_back is not None
        assert await made.write_back.reviews() == ()
        assert await effect_ids(place) == ["", ID.format(9)]


async def test_what_is_newer_is_taken_and_other_clients_are_not_concerned(place: Place) -> None:
    async with source(place, **keeping(3)) as made:
        days = Days(made)
        await made.call(asked({"phone": "0901"}, id_=ID.format(5)))
        days.pass_(4)
        assert (await made.call(asked({"phone": "0902"}, based_on=2, id_=ID.format(6)))).status == 200
        other = asked({"phone": "0903"}, based_on=3, id_=ID.format(4), client="VN/GOV/E66/app")
        assert (await made.call(other)).status == 200
        with pytest.raises(EffectForgotten):
            await made.call(asked({"phone": "0904"}, based_on=4, id_=ID.format(4)))


async def test_a_time_that_was_wrong_or_another_setting_lets_nothing_be_taken_anew(place: Place) -> None:
    async with source(place, **keeping(400)) as made:
        days = Days(made)
        await made.call(asked({"phone": "0901"}, id_=ID.format(1)))
        days.pass_(3_650)  # the clock is ahead for a moment
        await made.call(asked({"phone": "0907"}, id_=ID.format(2), number="2"))
        days.pass_(-3_650)
        with pytest.raises(EffectForgotten):
            await made.call(asked({"phone": "0901"}, id_=ID.format(1)))
    async with source(place, **keeping(36_500)) as made:
        Days(made)
        with pytest.raises(EffectForgotten):
            await made.call(asked({"phone": "0901"}, id_=ID.format(1)))


async def test_what_waits_for_a_person_is_not_forgotten(place: Place) -> None:
    async with source(place, **keeping(3)) as made:
        days = Days(made)
        first = await made.call(asked({"maritalStatus": "2"}, id_=ID.format(1)))
        await made.call(asked({"phone": "0901"}, id_=ID.format(2)))
        days.pass_(30)
        await made.call(asked({"phone": "0902"}, based_on=2, id_=ID.format(3)))
        assert await effect_ids(place) == ["", ID.format(1), ID.format(3)]
        assert await made.call(asked({"maritalStatus": "2"}, id_=ID.format(1))) == first


async def test_very_many_old_effects_are_forgotten_a_few_at_a_time(place: Place) -> None:
    async with source(place, **keeping(3)) as made:
        days = Days(made)
        for number in range(80):
            days.pass_(1e-6)
            await made.call(asked({"phone": "0901"}, based_on=99, id_=ID.format(number + 1)))
        days.pass_(30)
        left = []
        for number, later_days in enumerate((0, 0, 1)):
            days.pass_(later_days)
            await made.call(asked({"phone": "0901"}, based_on=99, id_=ID.format(1000 + number)))
            left.append(len(await effect_ids(place)) - 1)
        assert left == [17, 18, 3], "at most 64 of the oldest, and not at each update"
