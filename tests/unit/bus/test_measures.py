"""Metrics and the clock."""

from datetime import UTC, datetime
from typing import get_args

from prometheus_client.exposition import generate_latest

from bus.clock import SystemClock
from bus.metrics import GatewayMetrics, SourceMetrics
from bus.ports import Side

LABELS = {"side", "service", "peer", "outcome", "direction", "code", "member", "name", "le"}


def told(metrics: GatewayMetrics) -> dict[tuple[str, tuple], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
    }


def test_every_observation_reaches_its_metric():
    metrics = GatewayMetrics()
    for _ in range(2):
        metrics.ended("client", "S", "P", "ok", 0.01, 10, 20)
    metrics.ended("client", "S", "P", "timedout", 0.01, 0, 0)
    metrics.refused("client", "timeout")
    metrics.dropped("replayed")
    metrics.hinted("replayed")
    metrics.clock_offset("P", -0.5)
    metrics.in_flight("provider", 1)
    metrics.alarm("peer-forked", "P")
    metrics.committed(7, 0.001)
    metrics.failed()
    metrics.connected(True)
    metrics.denied()
    metrics.overloaded()
    found = told(metrics)
    side = ("side", "client")
    where = (("peer", "P"), ("service", "S"), side)
    total = "lienthong_exchanges_total"
    assert found[total, (("outcome", "ok"), *where)] == 2
    assert found[total, (("outcome", "timedout"), *where)] == 1
    assert found["lienthong_exchange_bytes_total", (("direction", "sent"), ("service", "S"), side)] == 20
    assert found["lienthong_exchange_bytes_total", (("direction", "received"), ("service", "S"), side)] == 40
    assert found["lienthong_exchange_seconds_count", where] == 3
    assert found["lienthong_refusals_total", (("code", "timeout"), side)] == 1
    assert found["lienthong_dropped_total", (("code", "replayed"),)] == 1
    assert found["lienthong_hints_total", (("code", "replayed"),)] == 1
    assert found["lienthong_clock_offset_seconds", (("member", "P"),)] == -0.5
    assert found["lienthong_in_flight", (("side", "provider"),)] == 1
    assert found["lienthong_in_flight", (side,)] == 0
    assert found["lienthong_alarms_total", (("code", "peer-forked"), ("member", "P"))] == 1
    assert found["lienthong_log_batch_leaves_sum", ()] == 7
    assert found["lienthong_log_failures_total", ()] == 1
    assert found["lienthong_broker_connected", ()] == 1
    metrics.connected(False)
    assert told(metrics)["lienthong_broker_connected", ()] == 0
    assert found["lienthong_broker_denied_total", ()] == found["lienthong_overloaded_total", ()] == 1


def test_labels_are_bounded_and_name_no_person_or_exchange():
    metrics = GatewayMetrics()
    metrics.ended("provider", "S", "P", "ok", 1, 1, 1)
    names = {name for (_, labels) in told(metrics) for name, _ in labels}
    assert names <= LABELS
    assert metrics._children.cache_info().maxsize == 8192
    assert set(get_args(Side)) == {"client", "provider"}
    assert b"_created" not in generate_latest(metrics.registry)


def test_a_source_is_counted_under_its_service():
    metrics = GatewayMetrics()
    source = SourceMetrics(metrics, "S")
    source.called("getCitizen", "answered", 0.2)
    source.breaker_changed("half-open")
    labels = (("outcome", "answered"), ("service", "S"))
    assert told(metrics)["lienthong_source_seconds_count", labels] == 1
    assert told(metrics)["lienthong_breaker_open", (("service", "S"),)] == 1
    source.breaker_changed("closed")
    assert told(metrics)["lienthong_breaker_open", (("service", "S"),)] == 0


def test_the_system_clock_is_aware_and_its_randomness_never_repeats():
    clock = SystemClock()
    assert clock.now().tzinfo is UTC
    assert abs((clock.now() - datetime.now(UTC)).total_seconds()) < 60
    assert clock.monotonic() <= clock.monotonic()
    taken = [clock.random(32) for _ in range(300)]
    assert len(set(taken)) == 300
    assert {len(item) for item in taken} == {32}
    assert len(clock.random(10_000)) == 10_000
    assert clock.random(0) == b""
