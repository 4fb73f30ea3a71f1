"""Trust withdrawn while everything runs: how soon both sides refuse, and what a thief still can do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from forging import HandNode, message
from world import Answer, ClientSystem, World, eventually, wait_until

SERVICE = "G01/desk/notes"
LIMIT_S = 2.0


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """H37 and K44 ask, G01 answers; E66 is hand-made: a thief has its keys."""
    with World(tmp_path_factory.mktemp("revocation")) as world:
        for code in ("H37", "K44", "G01", "E66"):
            world.add_member(code)
        world.add_subsystem("G01", "desk")
        world.publish("G01", "desk/notes")
        for code in ("H37", "K44"):
            client = world.add_client(code, "onedoor")
            world.grant(client.subsystem, "G01", "desk/notes")
        world.add_subsystem("E66", "onedoor")
        world.grant(f"{world.member_id('E66')}/onedoor", "G01", "desk/notes")
        for code in ("H37", "K44", "G01"):
            world.start_gateway(code)
        yield world


def until_refused(world: World, client: ClientSystem, acknowledged_s: float) -> tuple[Answer, float]:
    """The first refusal of a call, and how long after the acknowledgement it came."""

    def refused() -> Answer | None:
        answer = world.call(client, SERVICE, "/notes/1", purpose="residence")
        return None if answer.status == 200 else answer

    found: Answer = wait_until(refused, "a refusal", 10)
    return found, time.monotonic() - acknowledged_s


async def test_a_stolen_node_key_is_worth_nothing_once_the_node_is_revoked(shared: World) -> None:
    view = shared.admin("G01", "/status").json()["directory"]["view"]
    thief = HandNode(shared, "E66", view)
    connection = await shared.nats_connection("E66")
    try:

        async def steal() -> bytes | None:
            draft = thief.query()
            inbox = thief.inbox
            got = await connection.subscribe(inbox)
            await connection.publish(thief.subject(), message(draft, thief.log(draft.leaf)), inbox)
            reply = await got.next_msg(5)
            await got.unsubscribe()
            return bytes(reply.data)

        answer = await steal()
        assert answer is not None
        assert thief.open_answer(answer)[0].class_ == "ok", "before the revocation the thief is believed"
        reached = len(shared.backend.received)
        home = str(shared.member("E66").home)
        await asyncio.to_thread(shared.command, "node", "revoke", "n1", "--home", home, "--reason", "stolen")
        acknowledged_s = time.monotonic()

        async def hinted() -> bool:
            data = await steal()
            return data is not None and len(data) < 128 and b"node-revoked" in data

        while not await hinted():
            assert time.monotonic() - acknowledged_s < LIMIT_S, "still believed"
        served = len(shared.backend.received)
        await eventually(lambda: shared.dropped("G01")["node-revoked"] >= 1, "the drop is counted")
        await eventually(lambda: connection.is_closed, "the broker shows it out, too")
        assert len(shared.backend.received) == served >= reached, "nothing reached the back end"
    finally:
        await connection.close()


def test_a_consumer_that_revokes_itself_is_refused_everywhere_within_seconds(shared: World) -> None:
    client = shared.clients["K44/app"]
    assert shared.call(client, SERVICE, "/notes/1", purpose="residence").status == 200
    shared.command("member", "revoke", "--home", str(shared.member("K44").home), "--reason", "closed")
    answer, took_s = until_refused(shared, client, time.monotonic())
    assert took_s < LIMIT_S
    assert (answer.status, answer.code) in {(503, "own-node-revoked"), (502, "provider-dropped")}
    wait_until(lambda: shared.call(client, SERVICE, "/notes/1").code == "own-node-revoked", "its own gateway says so")
    readiness = shared.admin("K44", "/readyz")
    assert readiness.status == 503
    assert "own-node-revoked" in readiness.body.decode()


def test_nobody_revokes_a_stranger(shared: World) -> None:
    home = str(shared.member("H37").home)
    from world import CommandFailed

    with pytest.raises(CommandFailed) as refused:
        shared.command("member", "revoke", shared.member_id("G01"), "--home", home, "--reason", "spite")
    assert refused.value.code == "operator-signature-missing"
    with pytest.raises(CommandFailed) as unknown:
        shared.command("node", "revoke", "n9", "--home", home, "--reason", "typing error")
    assert unknown.value.code == "home-invalid"
    ahead = ("--since", "2199-01-01", "--reason", "later")
    with pytest.raises(CommandFailed):
        shared.command("node", "revoke", "n1", "--home", home, *ahead)
    dry = shared.command("node", "revoke", "n1", "--home", home, "--reason", "exercise", "--dry-run")
    assert dry["revoked"] is False
    assert shared.call(shared.clients["H37/app"], SERVICE, "/notes/1", purpose="residence").status == 200


def test_a_provider_that_the_operator_revokes_is_not_called_any_more(shared: World) -> None:
    client = shared.clients["H37/app"]
    assert shared.call(client, SERVICE, "/notes/1", purpose="residence").status == 200
    made = shared.command(
        "member", "revoke", shared.member_id("G01"), "--home", str(shared.home), "--reason", "taken over"
    )
    answer, took_s = until_refused(shared, client, time.monotonic())
    assert made["revoked"] is True
    assert took_s < LIMIT_S
    wait_until(lambda: shared.call(client, SERVICE, "/notes/1").code == "provider-revoked", "the clear code")
    assert answer.status in {502, 503}


def test_the_keys_of_a_member_are_listed_with_their_one_use(shared: World) -> None:
    home: Path = shared.member("H37").home
    rows = shared.command("key", "list", "--home", str(home))["keys"]
    assert {row["use"] for row in rows} == {"broker", "log", "member-signing", "sealing"}
