"""Commands with real processes: accepted is safe, arrives once, and its fate is known."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_evidence import check_evidence
from fault_world import FaultWorld, pair
from world import Answer, ClientSystem, eventually, wait_until

from evidence.merkle import leaf_hash
from evidence.reconcile import reconcile

SERVICE = "G01/desk/notes"
FINAL = {"completed", "failed", "expired"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultWorld]:
    with FaultWorld(tmp_path_factory.mktemp("commands")) as made:
        pair(made, "H37", "G01", join_every_s=0.5, clock_skew_s=1.0)
        made.add_client("H37", "archive", "archive-app")
        for code in ("H37", "G01"):
            made.configure(code, "commands", retry_s=1.0, retry_max_s=4.0)
            made.options[code] = ["--clock-offset-s", "0"]
        made.start_gateways("H37", "G01")
        made.until_ok(made.clients["H37/app"], SERVICE)
        yield made


@pytest.fixture
def client(world: FaultWorld) -> ClientSystem:
    return world.clients["H37/app"]


def submit(world: FaultWorld, client: ClientSystem, text: str = "a dossier", **headers: str) -> str:
    """Submits a command; its id."""
    answer = world.call(
        client, SERVICE, "/notes", method="POST", body=json.dumps({"text": text}).encode(),
        headers={"Prefer": "respond-async", **headers},
    )  # fmt: skip
    assert answer.status == 202, answer.body
    assert answer.headers["preference-applied"] == "respond-async"
    record_id = answer.json()["id"]
    assert answer.headers["location"] == f"/exchanges/{record_id}"
    assert answer.headers["x-road-request-id"] == record_id
    return str(record_id)


def ask(world: FaultWorld, client: ClientSystem, target: str, **headers: str) -> Answer:
    """A question about a command."""
    named = {"X-Road-Client": client.subsystem, "X-LienThong-Key": client.key, **headers}
    return world.request(world.members[client.member], "GET", f"/exchanges/{target}", named)


def fate(world: FaultWorld, client: ClientSystem, record_id: str, deadline_s: float = 30.0) -> dict:
    """The command once its state is final."""

    def final() -> dict | None:
        answer = ask(world, client, record_id, Prefer="wait=2")
        return answer.json() if answer.status == 200 and answer.json()["state"] in FINAL else None

    return wait_until(final, f"the fate of {record_id}", deadline_s)


def effects(world: FaultWorld) -> Counter[str]:
    """How often the back end was asked to add a note, by exchange id."""
    return Counter(
        str(one.header("X-Road-Request-Id")) for one in world.backend.received if one.target.startswith("/notes")
        and one.method == "POST"
    )  # fmt: skip


def rows(world: FaultWorld, code: str, sql: str) -> list[tuple]:
    with contextlib.closing(sqlite3.connect(f"file:{world.members[code].log_db}?mode=ro", uri=True)) as db:
        return db.execute(sql).fetchall()


def quiet(world: FaultWorld) -> None:
    """Waits until nothing is on its way between the two; then all evidence is there."""
    for code in ("H37", "G01"):
        wait_until(lambda code=code: rows(world, code, "SELECT count(*) FROM outbox") == [(0,)], f"outbox of {code}")
        assert rows(world, code, "SELECT count(*) FROM task") == [(0,)]
    check_evidence(world, "H37", "G01")


def test_a_command_is_taken_done_and_answered_with_four_records_on_each_side(world, client) -> None:
    record_id = submit(world, client)
    told = fate(world, client, record_id)
    assert told["state"] == "completed"
    times = told["times"]
    assert times["accepted"] <= times["sent"] <= times["delivered"] <= times["completed"]
    result = ask(world, client, told["result"].removeprefix("/exchanges/"))
    assert (result.status, result.body, result.headers["content-type"]) == (200, b'{"ok":true}', "application/json")
    assert effects(world)[record_id] == 1
    quiet(world)
    for code in ("H37", "G01"):
        (hashed,) = rows(world, "H37", f"SELECT leaf_hash FROM command WHERE id = '{record_id}'")[0]
        found = [
            json.loads(data.partition(b"\n")[2])
            for (data,) in rows(world, code, "SELECT data FROM leaf")
            if data.startswith(b"lienthong/v1/exchange\n")
        ]
        results = [one for one in found if one.get("inreplyto") == hashed.hex()]
        assert sorted(one["type"] for one in results) == ["receipt", "result"]
        closing = next(leaf for (leaf,) in rows(world, code, "SELECT data FROM leaf") if b'"result"' in leaf
                       and hashed.hex().encode() in leaf)  # fmt: skip
        assert [one["type"] for one in found if one.get("inreplyto") == leaf_hash(closing).hex()] == ["receipt"]
