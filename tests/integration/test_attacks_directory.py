"""A registry that turns against its members, with all its genuine keys: what the gateways make of it.

The genuine registry of this world stopped; `hostile` goes on with its log. What a gateway once took over cannot be taken
back, so each test leaves a directory that the next can go on with, or makes the gateways forget theirs (`fresh_copies`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fault_world import FaultWorld, pair
from forging import HandNode, message
from hostile_registry import HostileRegistry, root_of
from world import CONTRACT, World, eventually

from console.demo.forgeries import FORGERIES, TOO_FEW, Forgery, skipped_code, try_forgeries
from console.homes import MemberHome
from console.membership import Speaker
from evidence.header import encode_time
from evidence.leaf import DIRECTORY, wrap
from registry import documents as d
from registry.envelope import sign_document

SERVICE, EVIL = "G01/desk/notes", "E66"
GATEWAYS = ("H37", "G01", EVIL)
MAX_AGE_S = 3.0


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultWorld]:
    """H37 asks G01; E66 is a member like others, with a client system that nobody granted anything."""
    with FaultWorld(tmp_path_factory.mktemp("directory")) as made:
        pair(made, "H37", "G01", join_every_s=0.3)
        made.grant(f"{made.member_id('H37')}/onedoor", "G01", "desk/notes", "--any")  # the right has a past
        made.add_member(EVIL)
        made.add_client(EVIL, "onedoor", "evil")
        made.add_subsystem(EVIL, "desk")
        made.configure(EVIL, "limits", join_every_s=0.3)
        made.add_member("F77")  # its node is hand-made: a thief has its keys
        made.add_subsystem("F77", "onedoor")
        made.grant(f"{made.member_id('F77')}/onedoor", "G01", "desk/notes", "--any")
        made.start_gateways(*GATEWAYS)
        made.until_ok(made.clients["H37/app"], SERVICE)
        made.stop_registry()
        yield made


@pytest.fixture(scope="module")
def hostile(world: FaultWorld) -> HostileRegistry:
    return HostileRegistry(world)


def directory_size(world: World, code: str) -> int:
    return int(world.metric(code, "lienthong_directory_size"))


def alarms(world: World, code: str, alarm: str) -> float:
    return world.metric(code, "lienthong_alarms_total", code=alarm)


async def followed(world: World, size: int, *codes: str) -> None:
    for code in codes or GATEWAYS:
        await eventually(lambda code=code: directory_size(world, code) == size, f"{code} at {size}")


def served(world: FaultWorld) -> None:
    """The honest call is served, the other member's is not."""
    assert world.timed(world.clients["H37/app"], SERVICE).status == 200
    reached = len(world.backend.received)
    refused = world.timed(world.clients[f"{EVIL}/evil"], SERVICE)
    assert (refused.status, refused.code) == (403, "access-denied")
    assert len(world.backend.received) == reached


async def fresh_copies(world: FaultWorld, hostile: HostileRegistry, *codes: str) -> None:
    """The gateways begin again with what the registry shows now, as after a restore by hand."""
    await hostile.show()
    for code in codes:
        world.stop_gateway(code)
        for path in world.member(code).data.glob("directory.db*"):
            path.unlink()
    world.start_gateways(*codes)
    await followed(world, len(hostile.leaves), *codes)


# --- forged documents -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("forgery", FORGERIES, ids=lambda forgery: forgery.name.replace(" ", "-"))
async def test_a_forged_document_is_skipped_with_an_alarm_and_changes_nothing(
    world: FaultWorld, hostile: HostileRegistry, forgery: Forgery
) -> None:
    forger = hostile.forger(EVIL, "G01")
    jws = forgery.make(forger)
    assert skipped_code(forger, jws) == forgery.code
    before = {code: alarms(world, code, f"directory-{forgery.code}") for code in GATEWAYS}
    await hostile.append(jws)
    await followed(world, len(hostile.leaves))
    assert {
        code: alarms(world, code, f"directory-{forgery.code}") - before[code] for code in GATEWAYS
    } == dict.fromkeys(GATEWAYS, 1)
    served(world)


async def test_a_right_under_the_providers_own_stolen_key_is_not_enforced_and_raises_an_alarm(
    world: FaultWorld, hostile: HostileRegistry
) -> None:
    thief = Speaker.member(MemberHome(world.member("G01").home))
    right = d.Access(
        instance=world.instance, subject=f"{world.service_id(SERVICE)}#stolen", seq=0,
        issued=encode_time(datetime.now(UTC)), client=f"{world.member_id(EVIL)}/onedoor",
        service=world.service_id(SERVICE), purposes=("*",), grounds=("*",),
    )  # fmt: skip
    await hostile.append(sign_document(right, thief.signer, thief.chain, world.genesis))
    await followed(world, len(hostile.leaves))
    before = world.metric("G01", "lienthong_log_size")
    served(world)
    assert world.metric("G01", "lienthong_log_size") > before, "the provider itself refused, and signed the refusal"
    await eventually(lambda: alarms(world, "G01", "stranger-in-own-name") == 1, "the alarm")


async def test_a_withheld_withdrawal_is_enforced_by_its_author_and_missed_aloud(tmp_path: Path) -> None:
    """The registry took a right's withdrawal and a node's revocation, and shows a directory without them."""
    with FaultWorld(tmp_path / "world") as own:
        client = pair(own, "H37", "G01", join_every_s=0.3)
        own.add_member("K44")
        own.configure("K44", "limits", join_every_s=0.3)
        own.start_gateways("H37", "G01", "K44")
        own.until_ok(client, SERVICE)
        for code in ("H37", "G01", "K44"):
            own.stop_gateway(code)
        shown = len(HostileRegistry(own).leaves)
        own.command("access", "revoke", client.subsystem, "desk/notes", "--home", str(own.member("G01").home))
        own.command("node", "revoke", "n1", "--home", str(own.member("K44").home), "--reason", "stolen")
        own.stop_registry()
        withholding = HostileRegistry(own)
        assert len(withholding.leaves) > shown
        await withholding.show(withholding.leaves[:shown])
        own.start_gateways("H37", "G01")
        assert (own.timed(client, SERVICE).code, own.backend.received[1:]) == ("access-denied", [])
        own.start_gateway("K44", ready=False)  # the broker lets the node in no more
        for code in ("G01", "K44"):
            await eventually(lambda code=code: alarms(own, code, "own-document-missing") == 1, f"the alarm of {code}")


async def test_a_stolen_node_key_is_worth_nothing_after_the_revocation_though_the_broker_lets_the_thief_in(
    world: FaultWorld, hostile: HostileRegistry
) -> None:
    """The registry tells the broker nothing, so that the thief stays connected: the gateways refuse by themselves."""
    thief = HandNode(world, "F77", world.admin("G01", "/status").json()["directory"]["view"])
    owner = Speaker.member(MemberHome(world.member("F77").home))
    connection = await world.nats_connection("F77")
    try:

        async def steal() -> bytes:
            draft, inbox = thief.query(), thief.inbox
            got = await connection.subscribe(inbox)
            await connection.publish(thief.subject(), message(draft, thief.log(draft.leaf)), inbox)
            return bytes((await got.next_msg(5)).data)

        assert thief.open_answer(await steal())[0].class_ == "ok", "before the revocation the thief is believed"
        now = encode_time(datetime.now(UTC))
        target = f"node:{world.member('F77').node}"
        revoked = d.Revocation(instance=world.instance, subject=target, seq=0, issued=now, since=now, reason="stolen")
        await hostile.append(sign_document(revoked, owner.signer, owner.chain, world.genesis))
        await followed(world, len(hostile.leaves))
        reached = len(world.backend.received)
        assert b"node-revoked" in await steal()
        world.restart_gateway("G01")
        await eventually(lambda: world.readiness("G01")[0] == 200, "G01")
        assert b"node-revoked" in await steal()
        assert len(world.backend.received) == reached
    finally:
        await connection.close()


# --- withheld, old, frozen --------------------------------------------------------------------------------------------


async def test_a_rollback_is_refused_also_after_a_restart_and_the_newer_directory_stays(
    world: FaultWorld, hostile: HostileRegistry
) -> None:
    size, older = len(hostile.leaves), hostile.leaves[:-3]
    for restart in (False, True):
        await hostile.show(older)
        if restart:
            world.restart_gateway("H37")
        await eventually(
            lambda: world.log_lines("H37", "directory.update-failed")[-1]["code"] == "directory-rollback", "the refusal"
        )
        assert world.admin("H37", "/status").json()["directory"]["view"].startswith(f"{size} ")
        served(world)
    assert kept(world, "H37", "directory-rollback") == 1
    await hostile.show()
    # a restarted gateway tells the size when the registry confirmed it
    await followed(world, size)


def kept(world: World, code: str, kind: str) -> int:
    """Pieces of evidence in a gateway's copy."""
    copy = sqlite3.connect(world.member(code).data / "directory.db")
    try:
        return int(copy.execute("SELECT COUNT(*) FROM alarm WHERE kind = ?", (kind,)).fetchone()[0])
    finally:
        copy.close()


async def test_a_frozen_directory_ends_the_calls_when_it_is_too_old_and_they_come_back_within_ten_seconds(
    world: FaultWorld, hostile: HostileRegistry
) -> None:
    frozen = await hostile.show()
    world.configure("H37", "directory", max_age_s=MAX_AGE_S)
    world.reload_gateway("H37")
    try:
        client = world.clients["H37/app"]
        await hostile.show(note=frozen)
        await eventually(lambda: world.readiness("H37") == (503, {"directory-stale"}), "staleness", MAX_AGE_S + 5)
        await hostile.show(note=frozen)
        assert world.timed(client, SERVICE).code == "directory-stale"
        pid = world.process("H37").pid
        await hostile.show()
        began_at = datetime.now(UTC)
        world.until_ok(client, SERVICE, deadline_s=10)
        assert datetime.now(UTC) - began_at < timedelta(seconds=10)
        assert world.process("H37").pid == pid, "by itself"
    finally:
        world.configure("H37", "directory", max_age_s=900.0)
        world.reload_gateway("H37")


# --- forks ------------------------------------------------------------------------------------------------------------


def other_end(hostile: HostileRegistry, text: bytes = b"another end") -> list[bytes]:
    """A history of the same size that differs in its last leaf."""
    return [*hostile.leaves[:-1], wrap(DIRECTORY, text)]


async def test_a_fork_is_refused_for_good_also_after_a_restart_and_the_evidence_is_kept(
    world: FaultWorld, hostile: HostileRegistry
) -> None:
    await hostile.show(other_end(hostile))
    for code in GATEWAYS:
        await eventually(lambda code=code: alarms(world, code, "directory-fork") >= 1, f"the alarm of {code}")
    served(world)
    world.restart_gateway("H37")
    await hostile.append(b"goes on as if nothing had been")
    await eventually(lambda: alarms(world, "H37", "directory-fork") >= 1, "the alarm after the restart")
    view = world.admin("H37", "/status").json()["directory"]["view"]
    assert view.startswith(f"{len(hostile.leaves) - 1} "), (
        "nothing new is taken from a registry that contradicted itself"
    )
    assert kept(world, "H37", "directory-fork") == 1
    served(world)
    await fresh_copies(world, hostile, *GATEWAYS)


async def test_two_members_that_were_shown_two_histories_find_out_at_their_first_call_and_after_a_restart(
    world: FaultWorld, hostile: HostileRegistry
) -> None:
    client = world.clients["H37/app"]
    world.stop_gateway("G01")
    await hostile.append(b"what H37 is shown")
    await followed(world, len(hostile.leaves), "H37")
    world.stop_gateway("H37")
    await hostile.show(other_end(hostile, b"what G01 is shown"))
    world.start_gateway("G01")
    await followed(world, len(hostile.leaves), "G01")
    await hostile.hide()
    world.start_gateway("H37")
    for restart in (False, True):
        if restart:
            world.restart_gateway("G01")
        assert world.timed(client, SERVICE).status == 200
        for here, there in (("G01", "H37"), ("H37", "G01")):
            raised = world.metric(
                here, "lienthong_alarms_total", code="directory-two-histories", member=world.member_id(there)
            )
            assert raised >= 1, here
    await fresh_copies(world, hostile, *GATEWAYS)


async def test_a_first_contact_with_a_frozen_fork_never_serves(world: FaultWorld, hostile: HostileRegistry) -> None:
    """A gateway that knows nothing yet: an old fork is too old to work with, however often it is shown."""
    world.stop_gateway(EVIL)
    for path in world.member(EVIL).data.glob("directory.db*"):
        path.unlink()
    await hostile.hide()
    frozen = datetime.now(UTC) - timedelta(seconds=1000)
    world.kill_gateway("G01")
    world.kill_gateway("H37")
    await hostile.show(other_end(hostile), at=frozen)
    world.start_gateway(EVIL, ready=False)
    await followed(world, len(hostile.leaves), EVIL)
    assert world.readiness(EVIL) == (503, {"directory-stale"})
    assert world.timed(world.clients[f"{EVIL}/evil"], SERVICE).code == "directory-stale"
    await hostile.show()
    await eventually(lambda: alarms(world, EVIL, "directory-fork") >= 1, "the honest directory convicts the fork")
    world.start_gateways("H37", "G01")
    await fresh_copies(world, hostile, EVIL)
    served(world)


# --- too much, or rubbish ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["huge", "endless", "not-a-checkpoint", "not-a-bundle", "other-entries", "future"])
async def test_a_directory_that_no_honest_registry_serves_is_refused_and_calls_go_on(
    world: FaultWorld, hostile: HostileRegistry, kind: str
) -> None:
    size, last = len(hostile.leaves), (len(hostile.leaves) - 1) // 64
    root, junk = root_of(hostile.leaves), [wrap(DIRECTORY, b"x" * 60_000)] * 64
    marks = {code: len(world.log_lines(code, "directory.update-failed")) for code in GATEWAYS}
    await hostile.put("checkpoint", b"x")
    for code in GATEWAYS:
        await eventually(
            lambda code=code: len(world.log_lines(code, "directory.update-failed")) > marks[code], f"{code} refuses"
        )
    match kind:
        case "huge":
            await hostile.show(note=hostile.checkpoint(10**9, root))
        case "endless":
            await hostile.show([*hostile.leaves, *junk * 4], note=hostile.checkpoint(1_999_999, root))
        case "not-a-checkpoint":
            await hostile.put("checkpoint", b"\xff" * 100_000)
        case "not-a-bundle":
            await hostile.put(f"entries.{last}", b"\xff\xff")
            await hostile.put("checkpoint", hostile.checkpoint(size + 1, root))
        case "other-entries":
            await hostile.show([*hostile.leaves, b"something else"], note=hostile.checkpoint(size + 1, root))
        case _:
            await hostile.show(at=datetime.now(UTC) + timedelta(days=1))
    served(world)
    assert directory_size(world, "H37") == size
    assert alarms(world, "H37", "directory-fork") == 0
    await hostile.append(b"and honest again")
    await followed(world, len(hostile.leaves))
    served(world)


# --- at the registry itself -------------------------------------------------------------------------------------------


async def test_the_genuine_registry_takes_none_of_the_forgeries(tmp_path: Path) -> None:
    with World(tmp_path / "world") as world:
        for code in ("G01", EVIL):
            world.add_member(code)
        world.add_subsystem("G01", "desk")
        world.add_subsystem(EVIL, "onedoor")
        world.publish("G01", "desk/notes", CONTRACT)
        for _ in range(2):
            world.grant(f"{world.member_id(EVIL)}/onedoor", "G01", "desk/notes", "--any")
        found = await try_forgeries(world.home, world.member(EVIL).home, world.member_id("G01"))
        assert (found.tried, found.refused, found.let_in) == (len(FORGERIES), len(FORGERIES), ())
        assert TOO_FEW not in FORGERIES
