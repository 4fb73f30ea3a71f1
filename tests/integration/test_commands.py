"""Commands with real processes: accepted is safe, arrives once, and its fate is known."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner, Result
from commanding import SERVICE, ask, effects, fate, quiet, rows, submit
from fault_world import FaultWorld, pair
from world import ClientSystem, console_main, eventually, wait_until

from evidence.merkle import leaf_hash


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


@pytest.fixture
def shell(world, client, tmp_path) -> Callable[..., Result]:
    """Runs `lienthong call|exchange …` as the client system."""
    (tmp_path / "app.key").write_text(client.key)
    member = world.members["H37"]
    host, port = member.front
    who = ("--gateway", f"https://{host}:{port}", "--client", client.subsystem)
    who += ("--ca", str(member.home / "tls" / "ca.crt"), "--key-file", str(tmp_path / "app.key"))
    return lambda *words: CliRunner().invoke(console_main, [*words, *who])


def test_a_command_is_handed_over_from_a_shell(world, shell) -> None:
    args = ("call", world.service_id(SERVICE), "/notes", "-X", "POST", "-i", "--data", '{"text":"from a shell"}')
    args += ("--purpose", "residence", "--command", "--idempotency-key", "shell-1", "--wait", "30")
    told = [shell(*args) for _ in range(2)]
    (first, second) = [
        dict(line.partition(": ")[::2] for line in one.output.splitlines() if ": " in line) for one in told
    ]
    assert [one.output.splitlines()[0] for one in told] == ["HTTP 200"] * 2, told[0].output
    assert first["Content-Location"] == second["Content-Location"]
    assert effects(world)[first["Content-Location"].rpartition("/")[2]] == 1


def test_its_fate_is_asked_from_a_shell(world, client, shell) -> None:
    record_id = submit(world, client)
    shown = shell("exchange", "show", record_id, "--wait", "30").output.splitlines()
    assert shown[0].split() == ["exchange", record_id]
    assert shown[2].split() == ["state", "completed"]
    assert [line.split()[0] for line in shown[3:]] == ["accepted", "sent", "delivered", "completed", "next"]
    assert [" record " in line for line in shown[3:]] == [True, False, True, True, False]
    assert shell("exchange", "result", record_id).output == '{"ok":true}\n'
    assert record_id in shell("exchange", "list", "--state", "completed", "--limit", "5").output.splitlines()[1]
    assert json.loads(shell("exchange", "show", record_id, "--json").output)["id"] == record_id
    late = shell("exchange", "cancel", record_id)
    assert (late.exit_code, "already-delivered" in late.stderr) == (1, True)
    missing = shell("exchange", "show", "../readyz")
    assert (missing.exit_code, "not-found" in missing.stderr) == (1, True), missing.stderr
    assert shell("exchange", "result", record_id.replace("-7", "-8")).exit_code == 1
    assert "state is one of" in shell("exchange", "list", "--state", "gone").stderr


def test_it_is_taken_back_from_a_shell(world, client, shell) -> None:
    world.stop_broker()
    try:
        record_id = submit(world, client)
        assert "cancelled" in shell("exchange", "cancel", record_id).output.splitlines()[2]
    finally:
        world.start_broker()
    refused = shell("exchange", "result", record_id)
    assert (refused.exit_code, json.loads(refused.output)["code"]) == (1, "command-cancelled")
    assert fate(world, client, submit(world, client))["state"] == "completed"


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


# --- what is away ---------------------------------------------------------------------------------------------------


def test_a_command_is_accepted_while_the_broker_is_down_and_flows_when_it_is_back(world, client) -> None:
    world.stop_broker()
    try:
        record_id = submit(world, client)
        told = ask(world, client, record_id).json()
        assert (told["state"], set(told["times"])) == ("accepted", {"accepted"})
        assert world.metric("H37", "lienthong_outbox_records") == 1
        assert effects(world)[record_id] == 0
    finally:
        world.start_broker()
    assert fate(world, client, record_id)["state"] == "completed"
    assert effects(world)[record_id] == 1
    quiet(world)
    assert world.metric("H37", "lienthong_outbox_records") == 0


def test_a_command_waits_at_the_broker_while_the_providers_gateway_is_down(world, client) -> None:
    world.stop_gateway("G01")
    record_id = submit(world, client)
    wait_until(lambda: ask(world, client, record_id).json()["state"] == "sent", "the broker's word")
    world.start_gateway("G01")
    assert fate(world, client, record_id)["state"] == "completed"
    assert effects(world)[record_id] == 1
    quiet(world)


def test_a_command_that_nobody_takes_expires_and_the_evidence_says_so(world, client) -> None:
    world.stop_gateway("G01")
    world.configure("H37", "commands", life_s=1.0)
    world.restart_gateway("H37")
    try:
        record_id = submit(world, client)
        told = fate(world, client, record_id)
        assert told["state"] == "expired"
        assert ask(world, client, f"{record_id}/result").code == "command-expired"
    finally:
        world.configure("H37", "commands", life_s=None)
        world.restart_gateway("H37")
        world.start_gateway("G01")
    wait_until(lambda: world.metric("G01", "lienthong_dropped_total", code="expired") > 0, "the late copy dropped")
    assert effects(world)[record_id] == 0
    quiet(world)


# --- kill -9 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["write_note", "commit"])
@pytest.mark.parametrize("action", ["kill", "kill-after"])
def test_an_asking_gateway_that_is_killed_keeps_what_it_accepted(world, client, step, action) -> None:
    """Killed in the commit of the reply: the provider repeats it until there is a receipt."""
    world.backend.release.clear()
    world.backend.answers["/notes"] = lambda _got: (
        world.backend.release.wait(20), (200, [("Content-Type", "application/json")], b'{"ok":true}')
    )[1]  # fmt: skip
    record_id = submit(world, client)
    wait_until(lambda: effects(world)[record_id] == 1, "the effect's beginning")
    wait_until(lambda: ask(world, client, record_id).json()["state"] == "delivered", "the receipt")
    world.arm("H37", step, action)
    world.backend.release.set()
    assert world.wait_end("H37") < 0
    world.start_gateway("H37")
    assert fate(world, client, record_id)["state"] == "completed"
    world.backend.answers.clear()
    assert effects(world)[record_id] == 1
    quiet(world)


@pytest.mark.parametrize("action", ["kill", "kill-after"])
def test_a_providers_gateway_that_is_killed_while_it_takes_a_command_takes_it_once(world, client, action) -> None:
    world.arm("G01", "commit", action)
    record_id = submit(world, client)
    assert world.wait_end("G01") < 0
    assert effects(world)[record_id] == 0
    world.start_gateway("G01")
    assert fate(world, client, record_id)["state"] == "completed"
    assert effects(world)[record_id] == 1
    quiet(world)


def test_a_result_that_was_logged_just_before_the_kill_is_sent_and_nothing_is_done_again(world, client) -> None:
    world.arm("G01", "commit", "kill-after", nth=2)
    record_id = submit(world, client)
    assert world.wait_end("G01") < 0
    world.start_gateway("G01")
    assert fate(world, client, record_id)["state"] == "completed"
    assert effects(world)[record_id] == 1
    quiet(world)


def test_between_the_effect_and_the_commit_of_its_result_the_source_hears_the_same_id_again(world, client) -> None:
    """The one case in which an effect may be done twice: the source can tell, because the exchange id is the same."""
    world.arm("G01", "commit", "kill", nth=2)
    record_id = submit(world, client)
    assert world.wait_end("G01") < 0
    assert effects(world)[record_id] == 1
    world.start_gateway("G01")
    assert fate(world, client, record_id)["state"] == "completed"
    assert effects(world)[record_id] == 2
    quiet(world)


# --- who may look, and what a stranger can do ------------------------------------------------------------------------


def test_another_subsystem_cannot_tell_whether_there_is_a_command(world, client) -> None:
    record_id = submit(world, client)
    fate(world, client, record_id)
    stranger = world.clients["H37/archive-app"]
    for target in (record_id, f"{record_id}/result"):
        seen = ask(world, stranger, target)
        unknown = ask(world, stranger, target.replace(record_id[-12:], "0" * 12))
        assert (seen.status, seen.code) == (unknown.status, unknown.code) == (404, "not-found")
        assert ask(world, client, target).status == 200
    named = ask(world, stranger, record_id, **{"X-Road-Client": client.subsystem})
    assert (named.status, named.code) == (403, "client-forbidden")
    assert ask(world, client, record_id, **{"X-LienThong-Key": ""}).status == 401


async def test_a_replayed_command_on_the_real_broker_has_no_second_effect(world, client) -> None:
    world.stop_gateway("G01")
    record_id = submit(world, client)
    wait_until(lambda: ask(world, client, record_id).json()["state"] == "sent", "the broker's word")
    spy = await world.nats_connection(as_node="G01")
    caught: list[bytes] = []

    async def catch(message) -> None:
        if message.subject.startswith("lt.c."):
            caught.append(message.data)

    await spy.subscribe("_I.GOV~G01~n1.spy", cb=catch)
    wanted = json.dumps({"batch": 1, "expires": 5_000_000_000}).encode()
    await spy.publish("$JS.API.CONSUMER.MSG.NEXT.CMD_GOV~G01.own", wanted, "_I.GOV~G01~n1.spy")
    await eventually(lambda: caught, "a copy of the command")
    await spy.close()
    world.start_gateway("G01")
    assert fate(world, client, record_id)["state"] == "completed"
    replayer = await world.nats_connection(as_node="H37")
    before = world.metric("G01", "lienthong_dropped_total", code="replayed")
    for _ in range(3):
        await replayer.publish("lt.c.GOV~G01.GOV~H37", caught[0])
    await replayer.flush()
    await eventually(
        lambda: world.metric("G01", "lienthong_dropped_total", code="replayed") >= before + 3, "three drops"
    )
    await replayer.close()
    assert effects(world)[record_id] == 1
    quiet(world)


def test_a_refused_command_fails_with_the_providers_reason(world, client) -> None:
    stranger = world.clients["H37/archive-app"]
    record_id = submit(world, stranger)
    told = fate(world, stranger, record_id)
    assert (told["state"], told["code"]) == ("failed", "access-denied")
    result = ask(world, stranger, f"{record_id}/result")
    assert (result.status, result.code) == (403, "access-denied")
    assert effects(world)[record_id] == 0
    quiet(world)


def test_a_back_end_that_fails_makes_a_failed_command_with_its_own_answer(world, client) -> None:
    world.backend.answers["/notes"] = (500, [("Content-Type", "application/json")], b'{"why":"full"}')
    try:
        record_id = submit(world, client)
        assert fate(world, client, record_id)["state"] == "failed"
        result = ask(world, client, f"{record_id}/result")
        assert (result.status, result.body) == (500, b'{"why":"full"}')
    finally:
        world.backend.answers.clear()
    quiet(world)


def test_a_safe_method_is_answered_at_once_although_the_client_prefers_otherwise(world, client) -> None:
    answer = world.call(client, SERVICE, "/notes/1", headers={"Prefer": "respond-async"})
    assert answer.status == 200
    assert "preference-applied" not in answer.headers
