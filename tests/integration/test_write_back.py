"""Write-back over the real bus, as commands: accepted, stale, rejected field by field, queued; and once, whatever dies."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_world import FaultWorld
from world import Answer, ClientSystem, CommandFailed, wait_until

from adapters.kinds.sql.effects import tables
from adapters.kinds.sql.updates import UpdateSettings
from console.sample.population import claims, population_tables
from console.sample.tables import write_sqlite

SCHEMAS = Path(__file__).parents[2] / "schemas"
SERVICE = "G01/population/changes"
HOME = {"province": "01", "commune": "00301", "detail": "12 đường Mẫu"}
FIELDS = ("change-permanentResidence", "change-maritalStatus", "maritalStatus")
TABLES = population_tables(3, 60)
NUMBERS = [claim.number for claim in claims(TABLES[0].rows)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultWorld]:
    with FaultWorld(tmp_path_factory.mktemp("write-back")) as made:
        made.add_member("H37")
        made.add_member("G01")
        client = made.add_client("H37", "onedoor")
        made.add_subsystem("G01", "population")
        write_sqlite(made.folder / "population.db", TABLES)
        made.publish(
            "G01", "population/changes", SCHEMAS / "population-changes/1/openapi.yaml", "population-changes",
            {"database": f"sqlite:///{made.folder}/population.db"},
        )  # fmt: skip
        home = str(made.member("G01").home)
        with pytest.raises(AssertionError, match="lienthong writeback prepare"):
            made.command("writeback", "list", "--home", home)
        assert made.command("writeback", "prepare", "--home", home, "--service", "population/changes")["services"]
        made.grant(client.subsystem, "G01", "population/changes", *(f"--field={name}" for name in FIELDS))
        for code in ("H37", "G01"):
            made.configure(code, "commands", retry_s=1.0, retry_max_s=4.0)
            made.options[code] = ["--clock-offset-s", "0"]
        made.start_gateways("H37", "G01")
        wait_until(lambda: record(made, client, NUMBERS[0], quiet=True), "the first answer", 30)
        yield made


@pytest.fixture
def client(world: FaultWorld) -> ClientSystem:
    return world.clients["H37/app"]


def record(world: FaultWorld, client: ClientSystem, number: str, *, quiet: bool = False) -> dict[str, Any]:
    answer = world.call(client, SERVICE, f"/citizens/{number}")
    assert quiet or answer.status == 200, answer.body
    return answer.json() if answer.status == 200 else {}


def propose(
    world: FaultWorld, client: ClientSystem, number: str, changes: dict[str, Any], based_on: int, prefer: str = "respond-async"
) -> Answer:  # fmt: skip
    body = {
        "basedOn": based_on, "changes": changes, "legalGround": "Sample Act 1, Article 7",
        "source": {"number": "12/QĐ-UBND", "issuedBy": "H37.02.02", "issuedOn": "2026-03-02"},
    }  # fmt: skip
    return world.call(client, SERVICE, f"/citizens/{number}/changes", method="POST",
                      body=json.dumps(body).encode(), headers={"Prefer": prefer} if prefer else {})  # fmt: skip


def submit(*arguments: Any, **more: Any) -> str:
    answer = propose(*arguments, **more)
    assert answer.status == 202, answer.body
    return str(answer.json()["id"])


def result(world: FaultWorld, client: ClientSystem, id_: str) -> Answer:
    """The answer to a command, once there is one."""
    named = {"X-Road-Client": client.subsystem, "X-LienThong-Key": client.key}
    member = world.members[client.member]

    def closed() -> bool:
        told = world.request(member, "GET", f"/exchanges/{id_}", {**named, "Prefer": "wait=2"})
        return told.status == 200 and told.json()["state"] in {"completed", "failed"}

    wait_until(closed, f"the fate of {id_}", 30)
    return world.request(member, "GET", f"/exchanges/{id_}/result", named)


def effects(world: FaultWorld, id_: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(world.folder / "population.db")) as db:
        found = "SELECT client, record_key, official, fields, legal_ground, state FROM lienthong_effect"
        return db.execute(f"{found} WHERE exchange_id = ?", (id_,)).fetchall()


def test_an_accepted_change_gives_the_record_a_new_version_and_keeps_where_it_came_from(world, client) -> None:
    number = NUMBERS[1]
    id_ = submit(world, client, number, {"permanentResidence": HOME}, 1)
    answer = result(world, client, id_)
    assert (answer.status, answer.json()) == (200, {"state": "accepted", "version": 2})
    after = record(world, client, number)
    assert (after["version"], after["permanentResidence"]) == (2, HOME)
    fields = "permanentResidence.commune,permanentResidence.detail,permanentResidence.province"
    assert effects(world, id_) == [
        (client.subsystem, number, "", fields, "Sample Act 1, Article 7", "accepted")
    ]  # fmt: skip
    state = world.call(client, SERVICE, f"/changes/{id_}").json()
    assert (state["state"], state["version"]) == ("accepted", 2)


def test_a_stale_change_is_refused_and_the_current_version_named(world, client) -> None:
    number = NUMBERS[2]
    assert result(world, client, submit(world, client, number, {"permanentResidence": HOME}, 1)).status == 200
    elsewhere = {**HOME, "detail": "another street"}
    answer = result(world, client, submit(world, client, number, {"permanentResidence": elsewhere}, 1))
    assert (answer.status, answer.json()["code"], answer.json()["currentVersion"]) == (409, "stale", 2)
    assert record(world, client, number)["permanentResidence"] == HOME


def test_fields_are_rejected_one_by_one_with_reasons(world, client) -> None:
    nowhere = {**HOME, "commune": "99999"}
    answer = result(world, client, submit(world, client, NUMBERS[3], {"permanentResidence": nowhere}, 1))
    assert answer.status == 422
    assert [(one["field"], one["code"]) for one in answer.json()["fields"]] == [
        ("permanentResidence.commune", "reference-unknown")
    ]
    assert record(world, client, NUMBERS[3])["version"] == 1


def test_a_field_that_the_right_does_not_grant_cannot_be_changed(world, client) -> None:
    answer = result(world, client, submit(world, client, NUMBERS[4], {"currentResidence": HOME}, 1))
    assert (answer.status, answer.code) == (400, "request-invalid")
    assert record(world, client, NUMBERS[4])["version"] == 1
    at_once = propose(world, client, NUMBERS[4], {"currentResidence": HOME}, 1, prefer="")
    assert (at_once.status, at_once.code) == (400, "request-invalid")


def test_what_waits_for_a_person_is_decided_by_a_command_and_the_sender_asks_for_it(world, client) -> None:
    home, number = str(world.member("G01").home), NUMBERS[5]
    before = record(world, client, number)["maritalStatus"]
    id_ = submit(world, client, number, {"maritalStatus": "widowed"}, 1)
    answer = result(world, client, id_)
    assert (answer.status, answer.json()) == (202, {"state": "queued", "id": id_})
    assert record(world, client, number)["maritalStatus"] == before
    (waiting,) = world.command("writeback", "list", "--home", home)["waiting"]
    assert (waiting["id"], waiting["stale"]) == (id_, False)
    assert "widowed" not in json.dumps(waiting)
    assert world.command("writeback", "show", id_, "--home", home)["changes"] == {"maritalStatus": "widowed"}
    decided = world.command("writeback", "accept", id_, "--home", home, "--by", "thu.ky", "--reason", "seen")
    assert (decided["state"], decided["version"]) == ("accepted", 2)
    assert record(world, client, number)["maritalStatus"] == "widowed"
    state = world.call(client, SERVICE, f"/changes/{id_}").json()
    assert (state["state"], state["version"], state["reason"]) == ("accepted", 2, "seen")
    with pytest.raises(CommandFailed) as refusal:
        world.command("writeback", "reject", id_, "--home", home, "--reason", "no")
    assert refusal.value.code == "adapter-review-refused"


def test_killed_between_effect_and_result_the_effect_is_there_once_and_the_first_answer_is_told(world, client) -> None:
    """Asked again with the same id after the restart, the source knows it: without its memory this would be stale."""
    number = NUMBERS[6]
    world.arm("G01", "commit", "kill", nth=2)
    id_ = submit(world, client, number, {"permanentResidence": HOME}, 1)
    assert world.wait_end("G01") < 0
    assert [row[-1] for row in effects(world, id_)] == ["accepted"]
    world.start_gateway("G01")
    answer = result(world, client, id_)
    assert (answer.status, answer.json()) == (200, {"state": "accepted", "version": 2})
    assert record(world, client, number)["version"] == 2
    assert len(effects(world, id_)) == 1


def test_the_tables_are_those_of_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "write-back.md").read_text(encoding="utf-8")
    for statement in tables(UpdateSettings(table="t", key="k", fields={})):
        name = statement.partition("EXISTS ")[2].partition(" ")[0]
        assert name in text
