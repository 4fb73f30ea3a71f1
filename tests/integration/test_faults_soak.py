"""Two thousand mixed calls while the provider's gateway and the broker are killed: what clients were told is on record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import psutil
import pytest
from fault_evidence import check_evidence, exchange_records
from fault_world import MIXED, FaultWorld, Load, pair
from world import wait_until

SERVICE = "G01/desk/notes"
CALLS = 2_000
GROWTH_MIB = 48


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultWorld]:
    with FaultWorld(tmp_path_factory.mktemp("soak")) as made:
        pair(made, "H37", "G01", deadline_s=3.0, join_every_s=0.5)
        made.backend.answers["/fail/503"] = (503, [("Content-Type", "application/json")], b'{"said":"no"}')
        made.backend.answers["/notes/3"] = (204, [], b"")
        made.start_gateways("H37", "G01")
        made.until_ok(made.clients["H37/app"], SERVICE)
        yield made


def resident_mib(world: FaultWorld, code: str) -> float:
    return float(psutil.Process(world.process(code).pid).memory_info().rss) / 2**20


def test_two_thousand_calls_with_kills_in_between_are_all_accounted_for(world: FaultWorld) -> None:
    client = world.clients["H37/app"]
    with Load(world, client, SERVICE, threads=8, limit=CALLS, requests=MIXED) as load:
        wait_until(lambda: len(load.outcomes) > 300, "calls", 30)
        before_mib = resident_mib(world, "H37")
        world.kill_gateway("G01")
        world.start_gateway("G01")
        made = len(load.outcomes)
        wait_until(lambda: load.done or len(load.outcomes) > made + 300, "calls", 30)
        world.kill_broker()
        world.start_broker()
        wait_until(lambda: load.done, "the end of the load", 60)
    assert len(load.outcomes) == CALLS
    world.until_ok(client, SERVICE)
    world.wait_closed("H37")
    statuses = {status: load.count(status) for status in {outcome.status for outcome in load.outcomes}}
    assert 0 not in statuses, "the client's own gateway never went away"
    assert 500 not in statuses
    assert statuses[200] > CALLS // 4, statuses
    codes = Counter((outcome.status, outcome.code) for outcome in load.outcomes)
    assert statuses.keys() <= {200, 204, 400, 404, 503, 504}, codes
    retryable = [outcome for outcome in load.outcomes if outcome.status == 504]
    assert all(outcome.acted == "unknown" for outcome in retryable)
    check_evidence(world, "H37", "G01", acknowledged=load.acknowledged)
    queries = [record for record in exchange_records(world.members["H37"].log_db).values() if record.type == "query"]
    assert len({record.id for record in queries}) == len(queries)
    assert resident_mib(world, "H37") < before_mib + GROWTH_MIB
    assert world.metric("H37", "lienthong_in_flight", side="client") == 0
    assert world.metric("G01", "lienthong_in_flight", side="provider") == 0
