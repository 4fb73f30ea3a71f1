"""Commands at the provider's gateway, with real processes: attempts, dead letters, and what its operator does."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from commanding import FINAL, SERVICE, ask, fate, quiet, rows, submit
from fault_world import FaultWorld, pair
from world import ClientSystem, wait_until

from console.cli import main as lienthong

OTHER = "G01/desk/books"
JSON = [("Content-Type", "application/json")]
OK = (200, JSON, b'{"ok":true}')


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultWorld]:
    with FaultWorld(tmp_path_factory.mktemp("provider")) as made:
        client = pair(made, "H37", "G01", join_every_s=0.5, clock_skew_s=1.0)
        made.publish("G01", "desk/books")
        made.grant(client.subsystem, "G01", "desk/books")
        for code in ("H37", "G01"):
            made.configure(code, "commands", retry_s=1.0, retry_max_s=4.0, attempt_s=0.3, attempt_max_s=0.6)
            made.options[code] = ["--clock-offset-s", "0"]
        for code in ("H37", "G01"):
            key = made.command("admin", "key", "add", "ops", "--role", "XROAD_SYSTEM_ADMINISTRATOR", "--home",
                               str(made.members[code].home))["key"]  # fmt: skip
            key_file(made, code).write_text(key)
        made.start_gateways("H37", "G01")
        made.until_ok(client, SERVICE)
        made.until_ok(client, OTHER)
        yield made


@pytest.fixture
def client(world: FaultWorld) -> Iterator[ClientSystem]:
    world.backend.answers.clear()
    world.backend.release.clear()
    yield world.clients["H37/app"]
    world.backend.answers.clear()
    world.backend.release.set()


def key_file(world: FaultWorld, code: str) -> Path:
    return world.folder / f"{code}-ops.key"


def operate(world: FaultWorld, *args: str, code: str = "G01") -> dict:
    """`lienthong commands …` at a member's gateway."""
    return world.command(
        "commands", *args, "--home", str(world.members[code].home), "--key-file", str(key_file(world, code))
    )


def run(world: FaultWorld, *args: str, code: str = "G01") -> Result:
    """`lienthong commands …` as a person types it."""
    told = ["--home", str(world.members[code].home), "--key-file", str(key_file(world, code))]
    return CliRunner().invoke(lienthong, ["commands", *args, *told])


def said(world: FaultWorld, *args: str, code: str = "G01") -> str:
    """What it tells them."""
    return str(run(world, *args, code=code).output)


def listed(world: FaultWorld, *args: str, code: str = "G01") -> dict[str, dict]:
    return {one["id"]: one for one in operate(world, "list", *args, code=code)["commands"]}


def attempts(world: FaultWorld) -> Counter[str]:
    """How often the back end was asked, by exchange id."""
    return Counter(str(one.header("X-Road-Request-Id")) for one in world.backend.received if one.method == "POST")


def replies(world: FaultWorld, record_id: str, code: str = "G01") -> list[tuple[str, str]]:
    """Type and class of what replies to a command in a log, in order."""
    ((hashed,),) = rows(world, "H37", "SELECT leaf_hash FROM command WHERE id = ?", record_id)
    found = [json.loads(leaf.partition(b"\n")[2]) for (leaf,) in rows(world, code, "SELECT data FROM leaf ORDER BY idx")
             if leaf.startswith(b"lienthong/v1/exchange\n")]  # fmt: skip
    return [(one["type"], one["class"]) for one in found if one.get("inreplyto") == hashed.hex()]


def failing(status: int) -> tuple:
    return status, JSON, b"{}"


# --- attempts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_back_end_that_is_away_is_asked_again_with_the_same_id_until_it_is_back(world, client, status) -> None:
    world.backend.answers["/notes"] = failing(status)
    record_id = submit(world, client)
    wait_until(lambda: attempts(world)[record_id] >= 3, "three attempts")
    told = listed(world)[record_id]
    assert (told["state"], told["code"], told["told"]) in [
        (state, f"backend-status-{status}", "processing") for state in ("waiting", "doing")
    ]
    assert told["attempts"] >= 2
    assert told["service"].endswith("desk/notes")
    world.backend.answers.clear()
    assert fate(world, client, record_id)["state"] == "completed"
    assert replies(world, record_id) == [("receipt", "ok"), ("receipt", "ok"), ("result", "ok")]
    assert record_id not in listed(world)
    quiet(world)


def test_a_slow_back_end_of_one_service_holds_up_no_other_service(world, client) -> None:
    world.backend.answers["/notes"] = lambda got: (
        world.backend.release.wait(20) if "books" not in str(got.header("X-Road-Service")) else None, OK
    )[1]  # fmt: skip
    slow = [submit(world, client) for _ in range(20)]
    wait_until(lambda: sum(attempts(world)[one] for one in slow) == 16, "all that may be under way")
    quick = submit(world, client, service=OTHER)
    assert fate(world, client, quick, deadline_s=10)["state"] == "completed"
    assert sum(attempts(world)[one] for one in slow) == 16, "no more of one service than commands.at_backend"
    assert world.metric("G01", "lienthong_commands_taken", state="doing") == 16
    world.backend.release.set()
    assert {fate(world, client, one)["state"] for one in slow} == {"completed"}
    assert all(attempts(world)[one] == 1 for one in slow)
    quiet(world)


def test_the_time_of_the_next_attempt_and_their_number_survive_a_kill(world, client) -> None:
    part = next((world.members["G01"].home / "gateway.d").glob("service-*notes*.toml"))
    kept = part.read_text()
    part.write_text(f"{kept}\n[service.commands]\nattempt_s = 6.0\nattempt_max_s = 6.0\n")
    world.reload_gateway("G01")
    world.backend.answers["/notes"] = failing(503)
    try:
        record_id = submit(world, client)
        wait_until(lambda: listed(world).get(record_id, {}).get("attempts") == 1, "the first attempt")
        due = listed(world)[record_id]["next"]
        world.kill_gateway("G01")
        world.backend.answers.clear()
        world.start_gateway("G01")
        after = listed(world)[record_id]
        assert (after["attempts"], after["next"], after["state"]) == (1, due, "waiting")
        assert attempts(world)[record_id] == 1, "it waits, as before"
        assert fate(world, client, record_id)["state"] == "completed"
        assert attempts(world)[record_id] == 2
    finally:
        part.write_text(kept)
        world.reload_gateway("G01")
    quiet(world)


def test_an_answer_that_is_no_fault_of_the_moment_is_the_result(world, client) -> None:
    world.backend.answers["/notes"] = failing(500)
    record_id = submit(world, client)
    assert fate(world, client, record_id)["state"] == "failed"
    assert attempts(world)[record_id] == 1
    assert replies(world, record_id) == [("receipt", "ok"), ("result", "failed")]
    quiet(world)


# --- dead letters ---------------------------------------------------------------------------------------------------


@pytest.fixture
def two_attempts(world: FaultWorld) -> Iterator[None]:
    """Of the service's commands, each is a dead letter after two attempts."""
    part = next((world.members["G01"].home / "gateway.d").glob("service-*notes*.toml"))
    kept = part.read_text()
    part.write_text(f"{kept}\n[service.commands]\nattempts = 2\n")
    world.reload_gateway("G01")
    yield
    part.write_text(kept)
    world.reload_gateway("G01")


def dead(world: FaultWorld, *ids: str) -> None:
    wait_until(lambda: set(ids) <= listed(world, "--state", "dead").keys(), "dead letters")


@pytest.mark.usefixtures("two_attempts")
def test_a_dead_letter_that_is_re_driven_is_done_once_with_the_same_id(world, client) -> None:
    done: Counter[str] = Counter()
    world.backend.answers["/notes"] = failing(503)
    record_id = submit(world, client)
    dead(world, record_id)
    assert (attempts(world)[record_id], replies(world, record_id)[-1]) == (2, ("receipt", "failed"))
    assert ask(world, client, record_id).json()["state"] not in FINAL
    wait_until(lambda: world.metric("G01", "lienthong_commands_taken", state="dead") == 1, "the gauge")
    assert world.metric("G01", "lienthong_command_dead_total", code="backend-status-503") >= 1
    world.kill_gateway("G01")
    world.start_gateway("G01")
    assert listed(world)[record_id]["state"] == "dead"
    world.backend.answers["/notes"] = lambda got: (done.update([str(got.header("X-Road-Request-Id"))]), OK)[1]
    said = operate(world, "redrive", record_id, "--reason", "đã sửa máy chủ", "--dry-run")
    assert [one["fate"] for one in said["commands"]] == ["would-redrive"]
    assert listed(world)[record_id]["state"] == "dead"
    said = operate(world, "redrive", record_id, "--reason", "đã sửa máy chủ")
    assert [one["fate"] for one in said["commands"]] == ["redriven"]
    assert fate(world, client, record_id)["state"] == "completed"
    assert done == {record_id: 1}
    assert replies(world, record_id)[-2:] == [("receipt", "ok"), ("result", "ok")]
    acts = world.command("audit", "acts", str(world.members["G01"].log_db))["acts"]
    (act,) = [one for one in acts if one["act"] == "commands.redrive" and one["target"] == record_id]
    assert (act["key"], act["outcome"], act["reason"]) == ("ops", "allowed", "đã sửa máy chủ")
    quiet(world)


@pytest.mark.usefixtures("two_attempts")
def test_what_is_discarded_ends_with_the_reason_at_its_sender(world, client) -> None:
    world.backend.answers["/notes"] = failing(502)
    record_id = submit(world, client)
    dead(world, record_id)
    said = operate(world, "discard", record_id, "--reason", "registered by hand as 4711")
    assert [one["fate"] for one in said["commands"]] == ["discarded"]
    told = fate(world, client, record_id)
    assert (told["state"], told["code"]) == ("failed", "command-discarded")
    result = ask(world, client, f"{record_id}/result")
    assert (result.status, result.code) == (502, "command-discarded")
    assert "registered by hand as 4711" in result.json()["detail"]
    again = run(world, "discard", record_id, "--reason", "again", "--json")
    assert (json.loads(again.output)["unknown"], again.exit_code) == ([record_id], 1)
    assert attempts(world)[record_id] == 2
    quiet(world)


@pytest.mark.usefixtures("two_attempts")
def test_many_are_re_driven_at_once_by_service_and_code(world, client) -> None:
    world.backend.answers["/notes"] = lambda got: OK if "books" in str(got.header("X-Road-Service")) else failing(429)
    ids = [submit(world, client) for _ in range(60)]
    dead(world, *ids[-3:])
    wait_until(lambda: len(listed(world, "--state", "dead")) == 60, "all dead")
    options = ["--all", "--service", "desk/notes", "--code", "backend-status-429", "--reason", "it is back"]
    assert operate(world, "redrive", "--all", "--service", "desk/books", "--reason", "none here")["commands"] == []
    assert len(operate(world, "redrive", *options, "--dry-run")["commands"]) == 60
    world.backend.answers.clear()
    assert Counter(one["fate"] for one in operate(world, "redrive", *options)["commands"]) == {"redriven": 60}
    assert {fate(world, client, one)["state"] for one in ids} == {"completed"}
    assert all(attempts(world)[one] == 3 for one in ids)
    quiet(world)


def test_an_operator_sees_at_a_glance_what_waits(world, client) -> None:
    world.backend.answers["/notes"] = failing(503)
    record_id = submit(world, client)
    wait_until(lambda: attempts(world)[record_id] >= 2, "attempts")
    args = ["commands", "list", "--home", str(world.members["G01"].home), "--key-file", str(key_file(world, "G01"))]
    text = CliRunner().invoke(lienthong, args).output
    assert record_id in text
    assert "backend-status-503: the provider's back end answered 503" in text
    assert "G01/desk/notes" in text
    assert listed(world, "--older-than", "1h") == {}
    sent = listed(world, "--outgoing", "--service", "desk/notes", code="H37")
    assert sent[record_id]["client"] == client.subsystem
    said = operate(world, "redrive", record_id, "--reason", "now, please")["commands"]
    assert said[0]["fate"] in ("due-now", "busy")
    world.backend.answers.clear()
    assert fate(world, client, record_id)["state"] == "completed"
    assert listed(world, "--outgoing", code="H37") == {}
    quiet(world)


def test_what_an_operator_asks_wrongly_is_refused_with_what_to_do(world, client) -> None:
    del client
    for args in (
        ("redrive", "--reason", "x"),
        ("redrive", "--all", "--reason", "x"),
        ("redrive", "not-an-id", "--reason", "x"),
        ("discard", "--all", "--service", "S", "--reason", " "),
        ("list", "--older-than", "long"),
        ("list", "--state", "daed"),
        ("list", "--state", "sent"),
        ("list", "--outgoing", "--state", "waiting"),
    ):
        with pytest.raises(AssertionError) as caught:
            operate(world, *args)
        assert getattr(caught.value, "code", "") in ("admin-refused", "home-invalid"), args


# --- shutting down in the middle ---------------------------------------------------------------------------------------


def test_a_gateway_that_is_stopped_in_the_middle_of_an_attempt_asks_again_with_the_same_id(world, client) -> None:
    world.configure("G01", "limits", drain_s=0.2)
    world.restart_gateway("G01")
    world.backend.answers["/notes"] = lambda _got: (world.backend.release.wait(20), OK)[1]
    record_id = submit(world, client)
    wait_until(lambda: attempts(world)[record_id] == 1, "the attempt")
    process = world.process("G01")
    process.send_signal(signal.SIGTERM)
    assert world.wait_end("G01") == 0
    world.backend.release.set()
    world.start_gateway("G01")
    assert fate(world, client, record_id)["state"] == "completed"
    assert attempts(world)[record_id] == 2
    world.configure("G01", "limits", drain_s=None)
    world.restart_gateway("G01")
    quiet(world)


# --- flow and poison ----------------------------------------------------------------------------------------------------


def test_hundreds_of_small_commands_and_a_large_one_wait_at_the_broker_for_a_gateway_that_is_away(
    world, client
) -> None:
    world.stop_gateway("G01")
    ids = [submit(world, client) for _ in range(200)]
    answer = world.call(
        client, SERVICE, "/notes", method="POST", body=json.dumps({"text": "x" * 90_000}).encode(),
        headers={"Prefer": "respond-async"},
    )  # fmt: skip
    ids.append(answer.json()["id"])
    wait_until(lambda: all(one["sent"] for one in _sent(world, ids)), "the broker has them all")
    world.start_gateway("G01")
    assert {fate(world, client, one)["state"] for one in ids} == {"completed"}
    assert all(attempts(world)[one] == 1 for one in ids)
    quiet(world)


def _sent(world: FaultWorld, ids: list[str]) -> list[dict]:
    """As the own outbox knows it; the operator's list has what is stored."""
    found = []
    for record_id in ids:
        told = ask(world, world.clients["H37/app"], record_id).json()
        found.append({"sent": told["times"].get("sent")})
    return found


async def test_poison_in_the_stream_holds_up_nothing(world, client) -> None:
    sender = await world.nats_connection(as_node="H37")
    before = world.dropped("G01").get("envelope-malformed", 0)
    for size in (0, 1, 400, 20_000):
        subject = "lt.c.GOV~G01.GOV~H37" if size < 16_000 else "lt.c.large.GOV~G01.GOV~H37"
        await sender.publish(subject, b"\x95" * size)
    for nested in (b"\x99\x01", b"\x99\x02"):  # what stands behind the version is skipped, at any depth
        await sender.publish("lt.c.GOV~G01.GOV~H37", nested + b"\x91" * 8_000)
    await sender.flush()
    await sender.close()
    record_id = submit(world, client)
    assert fate(world, client, record_id)["state"] == "completed"
    wait_until(lambda: world.dropped("G01").get("envelope-malformed", 0) == before + 6, "six drops")
    quiet(world)


def test_a_back_end_that_is_not_there_is_waited_for_and_blocks_nothing_else(world, client) -> None:
    part = next((world.members["G01"].home / "gateway.d").glob("service-*notes*.toml"))
    kept = part.read_text()
    part.write_text(kept.replace(world.backend.url, "http://127.0.0.1:1"))
    world.reload_gateway("G01")
    try:
        record_id = submit(world, client)
        wait_until(lambda: listed(world).get(record_id, {}).get("code") == "backend-unavailable", "the reason")
        assert fate(world, client, submit(world, client, service=OTHER))["state"] == "completed"
    finally:
        part.write_text(kept)
        world.reload_gateway("G01")
    assert fate(world, client, record_id)["state"] == "completed"
    quiet(world)


def test_an_operator_ends_commands_of_an_own_client_system_that_are_not_delivered(world, client) -> None:
    headers = {"Prefer": "respond-async", "X-LienThong-Order-Key": "H37.dossier-77"}
    world.stop_gateway("G01")
    try:
        first, second = (
            str(
                world.call(client, SERVICE, "/notes", method="POST", body=b'{"text":"x"}', headers=headers).json()["id"]
            )
            for _ in range(2)
        )
        wait_until(lambda: ask(world, client, first).json()["state"] == "sent", "the broker's word")
        assert listed(world, "--outgoing", "--state", "sent", code="H37")[first]["sent"] is not None
        waiting = listed(world, "--outgoing", "--state", "accepted", code="H37")
        assert (first in waiting, waiting[second]["waits_for"]) == (False, first)
        assert f"waits for {first}" in said(world, "list", "--outgoing", code="H37")
        (row,) = operate(world, "discard", second, "--reason", "x", "--dry-run", code="H37")["commands"]
        assert (row["fate"], row["direction"]) == ("would-cancel", "outgoing")
        (row,) = operate(world, "discard", second, "--reason", "withdrawn on paper", code="H37")["commands"]
        assert (row["fate"], row["state"]) == ("cancelled", "cancelled")  # it waits behind the first: never sent
        (row,) = operate(world, "discard", second, "--reason", "again", code="H37")["commands"]
        assert row["fate"] == "closed"
        (row,) = operate(world, "discard", first, "--reason", "withdrawn on paper", code="H37")["commands"]
        assert row["fate"] in ("cancel-asked", "cancelled")  # as the broker was quick or not
    finally:
        world.start_gateway("G01")

    def decided() -> bool:  # it lies in the stream before the wish, so the provider may take it first
        told = ask(world, client, first).json()
        return told["state"] == "cancelled" or told.get("cancel", {}).get("answer") == "already-delivered"

    wait_until(decided, "the provider's word", 20)
    assert attempts(world)[second] == 0
    assert ask(world, client, second).json()["state"] == "cancelled"
    acts = world.command("audit", "acts", str(world.members["H37"].log_db))["acts"]
    told = [(one["act"], one["target"]) for one in acts if one["reason"] == "withdrawn on paper"]
    assert sorted(told) == sorted([("commands.discard", first), ("commands.discard", second)])
    text = CliRunner().invoke(lienthong, ["audit", "acts", str(world.members["H37"].log_db)]).output
    assert f"{second}: withdrawn on paper" in text
    quiet(world)
