"""Hand-made commands on the real broker against a provider's real gateway, of a member that takes no reply."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from commanding import submit
from fault_world import FaultWorld
from forging import HandNode, build_stand, message, sealing_pair
from world import ClientSystem, eventually

from bus.sealing.contents import Particulars
from evidence import header

ROOM, REPLIES, AT_ONCE = 16, 4, 4


@pytest.fixture
def world(tmp_path: Path) -> Iterator[FaultWorld]:
    with FaultWorld(tmp_path / "world") as running:
        build_stand(running)
        client = running.add_client("G01", "archive")
        running.grant(client.subsystem, "E66", "desk/notes")
        running.configure("G01", "commands", waiting=ROOM, at_once=AT_ONCE)
        running.restart_gateway("G01")
        yield running


def command(evil: HandNode) -> bytes:
    """One that its sender has no right to: it is refused, and the refusal waits for a receipt."""
    provider = evil.world.member_id("G01")
    draft = evil.sealed(
        Particulars(method="POST", path="/notes", content_type="application/json", body_bytes=2), b"{}",
        to=f"{provider}/desk/narrow", receiver=provider, pair=sealing_pair(evil.world, "G01", "query"), use="command",
        type="command", source=f"{evil.member.id}/onedoor", operation="addNote",
        expires=header.encode_time(datetime.now(UTC) + timedelta(hours=1)),
    )  # fmt: skip
    return message(draft, evil.log(draft.leaf))


async def test_a_member_that_takes_no_replies_stops_neither_the_providers_own_commands_nor_fills_its_memory(
    world: FaultWorld,
) -> None:
    client: ClientSystem = next(one for name, one in world.clients.items() if name.startswith("G01"))
    view = world.admin("G01", "/status").json()["directory"]["view"]
    evil = HandNode(world, "E66", view)
    sender = await world.nats_connection(as_node="E66")
    for _ in range(2 * ROOM):
        await sender.publish("lt.c.GOV~G01.GOV~E66", command(evil))
    await sender.flush()
    await sender.close()
    await eventually(lambda: world.metric("G01", "lienthong_outbox_records") >= REPLIES, "its refusals", 15)
    for _ in range(ROOM // 2):  # under the eyes of the provider's own client system
        submit(world, client, service="E66/desk/notes")
    waiting = world.metric("G01", "lienthong_outbox_records")
    # what was being taken from the two streams when the number was reached is answered
    assert ROOM // 2 + REPLIES <= waiting <= ROOM // 2 + REPLIES + 2 * AT_ONCE
