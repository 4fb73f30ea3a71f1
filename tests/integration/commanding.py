"""Commands as a client system gives them and asks about them, and what the stores and the back end know of them."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections import Counter

from fault_evidence import check_evidence
from fault_world import FaultWorld
from world import Answer, ClientSystem, wait_until

SERVICE = "G01/desk/notes"
FINAL = {"completed", "failed", "expired", "cancelled"}


def submit(
    world: FaultWorld, client: ClientSystem, text: str = "a dossier", *, service: str = SERVICE, through: str = "",
    **headers: str,
) -> str:  # fmt: skip
    """Submits a command, through its member's only node or the named one; its id."""
    named = {
        "X-Road-Client": client.subsystem, "X-LienThong-Key": client.key, "Content-Type": "application/json",
        "Prefer": "respond-async", **headers,
    }  # fmt: skip
    target = f"/r1/{world.service_id(service)}/notes"
    answer = world.request(
        world.members[through or client.member], "POST", target, named, json.dumps({"text": text}).encode()
    )
    assert answer.status == 202, answer.body
    assert answer.headers["preference-applied"] == "respond-async"
    record_id = answer.json()["id"]
    assert answer.headers["location"] == f"/exchanges/{record_id}"
    assert answer.headers["x-road-request-id"] == record_id
    return str(record_id)


def ask(world: FaultWorld, client: ClientSystem, target: str, through: str = "", **headers: str) -> Answer:
    """A question about a command."""
    named = {"X-Road-Client": client.subsystem, "X-LienThong-Key": client.key, **headers}
    return world.request(world.members[through or client.member], "GET", f"/exchanges/{target}", named)


def fate(world: FaultWorld, client: ClientSystem, record_id: str, through: str = "", deadline_s: float = 40.0) -> dict:
    """The command once its state is final."""

    def final() -> dict | None:
        answer = ask(world, client, record_id, through, Prefer="wait=2")
        return answer.json() if answer.status == 200 and answer.json()["state"] in FINAL else None

    return wait_until(final, f"the fate of {record_id}", deadline_s)


def effects(world: FaultWorld) -> Counter[str]:
    """How often the back end was asked to add a note, by exchange id."""
    return Counter(
        str(one.header("X-Road-Request-Id")) for one in world.backend.received if one.target.startswith("/notes")
        and one.method == "POST"
    )  # fmt: skip


def rows(world: FaultWorld, code: str, sql: str, *params: object) -> list[tuple]:
    """What a node's store says."""
    with contextlib.closing(sqlite3.connect(f"file:{world.members[code].log_db}?mode=ro", uri=True)) as db:
        return db.execute(sql, params).fetchall()


def settled(world: FaultWorld, *codes: str) -> None:
    """Waits until nothing is open at these nodes."""
    for code in codes:
        for table in ("outbox", "task"):
            wait_until(
                lambda code=code, table=table: rows(world, code, f"SELECT count(*) FROM {table}") == [(0,)],
                f"an empty {table} of {code}", 30,
            )  # fmt: skip


def quiet(world: FaultWorld) -> None:
    """Waits until nothing is on its way between the two; then all evidence is there."""
    settled(world, "H37", "G01")
    check_evidence(world, "H37", "G01")
