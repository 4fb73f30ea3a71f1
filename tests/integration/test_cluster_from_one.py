"""A broker of one server becomes a cluster of three, as the operations guide says, while commands wait everywhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cluster_world import GrowingWorld
from commanding import SERVICE, effects, fate, quiet, rows, submit
from fault_world import pair
from world import wait_until

from bus.transport import subjects


@pytest.fixture
def world(tmp_path) -> Iterator[GrowingWorld]:
    with GrowingWorld(tmp_path / "growing") as made:
        pair(made, "H37", "G01", join_every_s=0.5, clock_skew_s=1.0)
        for code in ("H37", "G01"):
            made.configure(code, "commands", retry_s=1.0, retry_max_s=4.0)
        made.start_gateways("H37", "G01")
        made.until_ok(made.clients["H37/app"], SERVICE)
        yield made


@pytest.mark.slow
def test_what_waits_while_one_broker_becomes_three_is_done_once(world) -> None:
    client = world.clients["H37/app"]
    before = submit(world, client)
    assert fate(world, client, before)["state"] == "completed"
    world.stop_gateway("G01")
    in_the_stream = submit(world, client)
    wait_until(lambda: world.metric("H37", "lienthong_outbox_records") == 1, "the command in the outbox", 10)
    world.stop_broker()
    in_the_outbox = submit(world, client)
    world.start_broker()
    world.stop_gateway("H37")
    assert rows(world, "H37", "SELECT count(*) FROM outbox") == [(2,)]

    world.grow()
    world.start_gateways("H37", "G01")

    after = submit(world, client)
    for record_id in (in_the_stream, in_the_outbox, after):
        assert fate(world, client, record_id)["state"] == "completed"
        assert effects(world)[record_id] == 1
    stream = world.stream(subjects.command_stream(world.member_id("G01")))
    assert stream is not None
    assert (stream["config"]["num_replicas"], len(stream["cluster"]["replicas"])) == (3, 2)
    told = world.answer("doctor", "--home", str(world.home))
    assert {one["check"]: one["state"] for one in told["checks"]}["broker-servers"] == "ok"
    quiet(world)
