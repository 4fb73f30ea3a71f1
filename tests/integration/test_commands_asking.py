"""Commands as a client system uses them, with real processes: keys, order, taking back, lists, webhooks, kill -9."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator

import pytest
from commanding import SERVICE, ask, effects, fate, quiet, rows, submit
from fault_world import FaultWorld, pair
from world import CONTRACT, Answer, Backend, ClientSystem, wait_until

FORMS = "G01/desk/forms"
SECRET: list[bytes] = []
FORMS_CONTRACT = CONTRACT.replace(
    "      operationId: addNote", "      operationId: addNote\n      x-lienthong-delivery: command"
)
FORMS_CONTRACT = FORMS_CONTRACT.replace(
    "      operationId: getNote", "      operationId: getNote\n      x-lienthong-delivery: both"
).replace("      operationId: dropNote", "      operationId: dropNote\n      x-lienthong-delivery: query")


@pytest.fixture(scope="module")
def desk() -> Iterator[Backend]:
    """The client system's receiver of webhooks."""
    made = Backend()
    yield made
    made.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, desk: Backend) -> Iterator[FaultWorld]:
    with FaultWorld(tmp_path_factory.mktemp("asking")) as made:
        pair(made, "H37", "G01", join_every_s=0.5, clock_skew_s=1.0)
        made.publish("G01", "desk/forms", contract=FORMS_CONTRACT)
        made.grant(made.clients["H37/app"].subsystem, "G01", "desk/forms")
        home = str(made.members["H37"].home)
        told = made.command("client", "webhook", "app", f"{desk.url}/hook", "--home", home)
        SECRET.append(base64.b64decode(told["secret"].removeprefix("whsec_")))
        for code in ("H37", "G01"):
            made.configure(code, "commands", retry_s=1.0, retry_max_s=4.0)
            made.options[code] = ["--clock-offset-s", "0"]
        made.start_gateways("H37", "G01")
        made.until_ok(made.clients["H37/app"], SERVICE)
        yield made


@pytest.fixture
def client(world: FaultWorld) -> Iterator[ClientSystem]:
    yield world.clients["H37/app"]
    world.backend.answers.clear()
    world.backend.release.set()


def post(world: FaultWorld, client: ClientSystem, service: str = SERVICE, text: str = "a", **headers: str) -> Answer:
    body = json.dumps({"text": text}).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return world.call(client, service, "/notes", method="POST", body=body, headers=named)


def delete(world: FaultWorld, client: ClientSystem, record_id: str) -> Answer:
    named = {"X-Road-Client": client.subsystem, "X-LienThong-Key": client.key}
    return world.request(world.members[client.member], "DELETE", f"/exchanges/{record_id}", named)


def hold(world: FaultWorld) -> threading.Event:
    """The back end answers once the event is set."""
    release = threading.Event()
    world.backend.answers["/notes"] = lambda _got: (
        release.wait(20), (200, [("Content-Type", "application/json")], b'{"ok":true}')
    )[1]  # fmt: skip
    return release


# --- keys and waiting -------------------------------------------------------------------------------------------------


def test_who_waits_gets_the_result_itself_and_the_same_key_the_same_command(world, client) -> None:
    headers = {"Prefer": "respond-async, wait=20", "Idempotency-Key": "waits-1"}
    first = post(world, client, **headers)
    assert (first.status, first.json()) == (200, {"ok": True})
    place = first.headers["content-location"]
    assert first.headers["preference-applied"] == "wait=20"
    record_id = place.removeprefix("/exchanges/")
    again = post(world, client, **headers)
    assert (again.status, again.headers["content-location"]) == (200, place)
    told = post(world, client, Prefer="respond-async", Idempotency_Key="waits-1")
    assert (told.status, told.json()["state"], told.headers["location"]) == (202, "completed", place)
    other = post(world, client, text="another", **headers)
    assert (other.status, other.code) == (422, "idempotency-key-reused")
    assert effects(world)[record_id] == 1
    world.backend.answers["/notes"] = (500, [("Content-Type", "application/json")], b'{"why":"full"}')
    failed = post(world, client, Prefer="respond-async, wait=20")
    assert (failed.status, failed.body) == (500, b'{"why":"full"}')
    assert failed.headers["content-location"].startswith("/exchanges/")


def test_who_does_not_get_it_in_time_is_told_where_to_ask(world, client) -> None:
    release = hold(world)
    answer = post(world, client, Prefer="respond-async, wait=1")
    assert (answer.status, answer.headers["preference-applied"]) == (202, "respond-async, wait=1")
    release.set()
    assert fate(world, client, answer.json()["id"])["state"] == "completed"


def test_who_sends_a_deprecated_command_is_told_and_counted(world, client) -> None:
    home = ("--home", str(world.members["G01"].home))

    def counted() -> float:
        name, labels = "lienthong_deprecated_calls_total", {"operation": "addNote", "client": client.subsystem}
        return world.metric("G01", name, **labels)

    assert "deprecation" not in post(world, client, Prefer="respond-async, wait=20").headers
    before = counted()
    world.command("service", "deprecate", SERVICE.partition("/")[2], "addNote", "--sunset", "2036-01-02", *home)
    try:
        wait_until(lambda: "deprecation" in post(world, client, Prefer="respond-async").headers, "the word of it")
        sent = post(world, client, Prefer="respond-async")
        record_id = sent.json()["id"]
        assert fate(world, client, record_id)["state"] == "completed"
        named = {"X-Road-Client": client.subsystem, "X-LienThong-Key": client.key}
        place = f"/exchanges/{record_id}"
        state, result = (world.request(world.members["H37"], "GET", place + more, named) for more in ("", "/result"))
        waited = post(world, client, Prefer="respond-async, wait=20")
        assert (sent.status, waited.status, result.status) == (202, 200, 200)
        for answer in (sent, waited, result):
            assert answer.headers["deprecation"] == sent.headers["deprecation"]
            assert answer.headers["sunset"] == "Wed, 02 Jan 2036 00:00:00 GMT"
        assert "deprecation" not in state.headers, "the exchange itself stays"
        # the provider's gateway looks at its own documents from time to time
        wait_until(lambda: post(world, client, Prefer="respond-async, wait=20") and counted() > before, "the count")
    finally:
        world.command("service", "deprecate", SERVICE.partition("/")[2], "addNote", "--undo", *home)


@pytest.mark.parametrize("header", ["Idempotency-Key", "X-LienThong-Order-Key"])
def test_what_goes_with_commands_is_refused_on_a_query(world, client, header) -> None:
    answer = post(world, client, **{header: "one"})
    assert (answer.status, answer.code) == (400, "request-malformed")
    assert "respond-async" in answer.json()["detail"]


@pytest.mark.parametrize("action", ["kill", "kill-after"])
def test_a_client_whose_gateway_was_killed_may_send_it_again_under_its_key(world, client, action) -> None:
    key = f"killed-{action}"
    before = len(effects(world))
    world.arm("H37", "commit", action)
    with pytest.raises((OSError, EOFError, Exception)):
        post(world, client, Prefer="respond-async", Idempotency_Key=key)
    assert world.wait_end("H37") < 0
    world.start_gateway("H37")
    answer = post(world, client, Prefer="respond-async", Idempotency_Key=key)
    assert answer.status == 202
    assert fate(world, client, answer.json()["id"])["state"] == "completed"
    quiet(world)
    assert len(effects(world)) == before + 1


# --- order ------------------------------------------------------------------------------------------------------------


def test_one_dossiers_commands_keep_their_order_though_the_gateway_is_killed(world, client) -> None:
    release = hold(world)
    order = {"X-LienThong-Order-Key": "H37.2026.000123"}
    made = [submit(world, client, **order) for _ in range(4)]
    wait_until(lambda: effects(world)[made[0]] == 1, "the first effect's beginning")
    wait_until(lambda: ask(world, client, made[0]).json()["state"] == "delivered", "the receipt")
    free = submit(world, client, **{"X-LienThong-Order-Key": "H37.2026.000124"})
    wait_until(lambda: effects(world)[free] == 1, "another dossier's effect")
    world.kill_gateway("H37")
    world.start_gateway("H37")
    assert all(ask(world, client, one).json()["waits_for"] == made[0] for one in made[1:])
    assert not any(effects(world)[one] for one in made[1:])
    release.set()
    assert [fate(world, client, one)["state"] for one in made] == ["completed"] * 4
    heard = [one.header("X-Road-Request-Id") for one in world.backend.received]
    assert sorted(made, key=heard.index) == made
    assert all(effects(world)[one] == 1 for one in made)
    quiet(world)


# --- taking back ------------------------------------------------------------------------------------------------------


def test_what_was_never_sent_is_taken_back_at_once(world, client) -> None:
    world.stop_broker()
    try:
        record_id = submit(world, client)
        answer = delete(world, client, record_id)
        assert (answer.status, answer.json()["state"]) == (200, "cancelled")
    finally:
        world.start_broker()
    follows = submit(world, client)
    assert fate(world, client, follows)["state"] == "completed"
    assert effects(world)[record_id] == 0
    assert ask(world, client, f"{record_id}/result").code == "command-cancelled"
    quiet(world)


def test_what_the_provider_has_is_not_taken_back(world, client) -> None:
    record_id = submit(world, client)
    fate(world, client, record_id)
    answer = delete(world, client, record_id)
    assert (answer.status, answer.code) == (409, "already-delivered")


# --- the contract's word ----------------------------------------------------------------------------------------------


def test_the_contract_says_what_is_a_command(world, client) -> None:
    world.until_ok(client, FORMS)
    answer = post(world, client, FORMS)
    assert (answer.status, answer.code) == (400, "command-required")
    assert post(world, client, FORMS, Prefer="respond-async, wait=20").status == 200
    read = world.call(client, FORMS, "/notes/1", headers={"Prefer": "respond-async"})
    assert read.status == 202
    assert fate(world, client, read.json()["id"])["state"] == "completed"
    dropped = world.call(client, FORMS, "/notes/1", method="DELETE", headers={"Prefer": "respond-async"})
    assert (dropped.status, dropped.code) == (400, "query-required")


# --- lists ------------------------------------------------------------------------------------------------------------


def test_commands_are_listed_page_by_page(world, client) -> None:
    made = [submit(world, client) for _ in range(3)]
    for one in made:
        fate(world, client, one)
    first = ask(world, client, "").status
    assert first == 404
    named = {"X-Road-Client": client.subsystem, "X-LienThong-Key": client.key}
    page = world.request(world.members["H37"], "GET", "/exchanges?limit=2&state=completed", named).json()
    assert [one["id"] for one in page["exchanges"]] == [made[2], made[1]]
    page = world.request(world.members["H37"], "GET", page["next"], named).json()
    assert page["exchanges"][0]["id"] == made[0]
    wrong = world.request(world.members["H37"], "GET", "/exchanges?state=odd", named)
    assert (wrong.status, wrong.code) == (400, "request-malformed")
    assert world.request(world.members["H37"], "GET", "/exchanges", {"X-Road-Client": client.subsystem}).status == 401


# --- webhooks ---------------------------------------------------------------------------------------------------------


def test_the_end_is_told_though_the_receiver_fails_and_the_gateway_is_killed(world, client, desk) -> None:
    def told(record_id: str) -> list:
        return [one for one in list(desk.received) if json.loads(one.body)["id"] == record_id]

    desk.answers["/hook"] = (503, [], b"")
    record_id = submit(world, client, **{"X-LienThong-Order-Key": "H37.2026.000125"})
    fate(world, client, record_id)
    wait_until(lambda: told(record_id), "a first attempt")
    world.kill_gateway("H37")
    desk.answers.clear()
    world.start_gateway("H37")
    wait_until(lambda: len(told(record_id)) > 1, "another attempt")
    for one in told(record_id):
        body = json.loads(one.body)
        assert (one.method, body["type"], body["order_key"]) == ("POST", "command.completed", "H37.2026.000125")
        signed = f"{one.header('webhook-id')}.{one.header('webhook-timestamp')}.".encode() + one.body
        expected = base64.b64encode(hmac.new(SECRET[0], signed, hashlib.sha256).digest()).decode()
        assert one.header("webhook-signature") == f"v1,{expected}"
    assert len({one.header("webhook-id") for one in told(record_id)}) == 1
    follows = submit(world, client)
    fate(world, client, follows)
    wait_until(lambda: told(follows), "the next one")
    wait_until(lambda: rows(world, "H37", "SELECT count(*) FROM webhook WHERE state = 'completed'")[0][0] <= 2, "rows")


# --- taking back what was sent ----------------------------------------------------------------------------------------
# Last, because the broker takes repeats of what it has lost for duplicates for a while: the outbox is not empty after it.


@pytest.mark.parametrize("killed", [False, True])
async def test_what_the_broker_lost_is_taken_back_by_a_wish_and_never_done(world, client, killed) -> None:
    world.stop_gateway("G01")
    record_id = submit(world, client)
    wait_until(lambda: ask(world, client, record_id).json()["state"] == "sent", "the broker's word")
    await lose(world)
    answer = delete(world, client, record_id)
    assert (answer.status, answer.json()["state"]) == (202, "sent")
    if killed:
        world.kill_gateway("H37")
        world.start_gateway("H37")
    world.start_gateway("G01")
    told = await asyncio.to_thread(fate, world, client, record_id)
    assert told["state"] in ("cancelled", "completed")
    # the outbox repeats the command itself meanwhile: what comes first decides, and there is no third end
    assert effects(world)[record_id] == (told["state"] == "completed")


async def lose(world: FaultWorld) -> None:
    """The broker forgets what it has for G01."""
    thief = await world.nats_connection(as_node="G01")
    got = asyncio.get_running_loop().create_future()

    async def catch(message) -> None:
        if message.reply and not got.done():
            await thief.publish(message.reply, b"+ACK")
            got.set_result(message)

    await thief.subscribe("_I.GOV~G01~n1.thief", cb=catch)
    wanted = json.dumps({"batch": 1, "expires": 5_000_000_000}).encode()
    await thief.publish("$JS.API.CONSUMER.MSG.NEXT.CMD_GOV~G01.own", wanted, "_I.GOV~G01~n1.thief")
    await asyncio.wait_for(got, 10)
    await thief.flush()
    await thief.close()


def test_an_operator_sets_a_webhook_and_takes_it_away(world) -> None:
    home = world.members["H37"].home
    secret = home / "keys" / "webhooks" / "app.secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    with pytest.raises(AssertionError):
        world.command("client", "webhook", "app", "ftp://x/", "--home", str(home))
    with pytest.raises(AssertionError):
        world.command("client", "webhook", "nobody", "https://x/", "--home", str(home))
    world.command("client", "webhook", "app", "--remove", "--home", str(home))
    world.reload_gateway("H37")
    assert not secret.exists()
    listed = world.command("client", "list", "--home", str(home))["clients"]
    assert [one["webhook_url"] for one in listed] == [""]
