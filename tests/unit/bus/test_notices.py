"""What a provider tells beside its answers: what is left of a quota, and what is deprecated."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest
from bus_world import CLIENT, NOW, SERVICE, Clock, access_entry, call, running_bus, service_entry
from hypothesis import given
from hypothesis import strategies as st

from bus import errors
from bus.exchange.notices import deprecation_fields, quota_fields
from bus.gateway.maintenance import Maintenance
from registry.quota import Quota, QuotaBook
from registry.view import DeprecatedOperation, QuotaLimit


@given(
    st.floats(0.01, 1000) | st.none(),
    st.integers(1, 100_000) | st.none(),
    st.lists(st.floats(0, 5000), min_size=1, max_size=40),
)
def test_what_is_left_is_never_more_than_may_be_taken(per_second, per_day, waits):
    quota, now_s = Quota(QuotaLimit(per_second=per_second, per_day=per_day), 0.0), 0.0
    for wait_s in waits:
        now_s += wait_s
        quota.take(now_s)
        told = quota.left()
        assert all(0 <= one.left <= one.calls and one.more_s >= 1 and one.window_s >= 1 for one in told)
        rates = {"second": per_second or 0, "day": (per_day or 0) / 86_400}
        assert all((one.more_s - 1) * rates[one.name] <= 1 for one in told), "no later than the next call"
        usable = min((one.left for one in told), default=0)
        trial = Quota(quota.limit, now_s)
        trial._second, trial._day, trial._at_s = quota._second, quota._day, quota._at_s
        assert all(trial.take(now_s) for _ in range(min(usable, 50)))


def test_fields_have_the_form_of_their_specifications():
    quota = Quota(QuotaLimit(per_second=0.5, per_day=10), 0.0)
    quota.take(0.0)
    assert quota_fields(quota.left()) == (
        ("RateLimit-Policy", '"second";q=1;w=2, "day";q=10;w=86400'),
        ("RateLimit", '"second";r=0;t=2, "day";r=9;t=8640'),
    )
    sunset_at = datetime(2036, 1, 2, 3, 4, 5, tzinfo=UTC)
    (_, since), (name, until) = deprecation_fields(DeprecatedOperation(datetime(2026, 1, 1, tzinfo=UTC), sunset_at))
    assert since == "@1767225600"
    assert (name, parsedate_to_datetime(until)) == ("Sunset", sunset_at)


def test_with_several_rights_the_tightest_is_told_of_each_window():
    book = QuotaBook()
    generous, narrow = QuotaLimit(per_second=50, per_day=1000), QuotaLimit(per_second=1, per_day=2000)
    for _ in range(2):
        assert book.take(CLIENT, SERVICE, generous, 0.0) is None
    assert book.take(CLIENT, f"{SERVICE}#narrow", narrow, 0.0) is None
    told = book.left(CLIENT, SERVICE, f"{SERVICE}#narrow")
    assert [(one.name, one.calls, one.left) for one in told] == [("second", 1, 0), ("day", 1000, 998)]
    assert [one.calls for one in book.left(CLIENT, SERVICE)] == [50, 1000]
    assert book.left(CLIENT, "another", f"{SERVICE}#other") == []


async def test_the_right_that_decided_is_told_and_not_the_generous_one(tmp_path):
    async with running_bus(tmp_path) as bus:
        quota = QuotaLimit(per_day=2)
        bus.directory.access = {
            "wide": access_entry(operations=frozenset({"confirm"}), quota=QuotaLimit(per_day=5000)),
            "narrow": access_entry(subject=f"{SERVICE}#n", operations=frozenset({"getCitizen"}), quota=quota),
        }
        for left in (1, 0):
            told = dict((await bus.ask()).headers)
            assert told["RateLimit"] == f'"day";r={left};t=43200'
            assert told["RateLimit-Policy"] == '"day";q=2;w=86400'
        with pytest.raises(errors.QuotaExceeded) as refused:
            await bus.ask()
        assert dict(refused.value.headers)["RateLimit"] == '"day";r=0;t=43200'
        assert refused.value.retry_after_s == 43_200, "never before the window that is told ends"


async def test_answers_and_refusals_carry_the_fields_and_callers_are_counted(tmp_path):
    async with running_bus(tmp_path) as bus:
        bus.directory.services[SERVICE] = service_entry(deprecated={"getCitizen": DeprecatedOperation(NOW)})
        bus.directory.access[SERVICE] = access_entry(quota=QuotaLimit(per_day=2))
        names = [[name for name, _ in (await bus.ask()).headers] for _ in range(2)]
        assert names == [["x-source", "RateLimit-Policy", "RateLimit", "Deprecation"]] * 2
        with pytest.raises(errors.QuotaExceeded) as refused:
            await bus.ask()
        assert [name for name, _ in refused.value.headers] == ["RateLimit-Policy", "RateLimit", "Deprecation"]
        assert bus.g01.heard.deprecations == [(SERVICE, "getCitizen", CLIENT)] * 3


async def test_a_stranger_is_no_label_of_a_metric(tmp_path):
    async with running_bus(tmp_path) as bus:
        bus.directory.services[SERVICE] = service_entry(deprecated={"getCitizen": DeprecatedOperation(NOW)})
        known = bus.directory.subsystems.pop(CLIENT)
        asked = bus.broker.exchange

        async def vanish(*args):
            bus.directory.subsystems.pop(CLIENT, None)
            return await asked(*args)

        bus.directory.subsystems[CLIENT] = known
        bus.broker.exchange = vanish
        with pytest.raises(errors.BusError):
            await bus.asker.ask(call())
        assert bus.g01.heard.deprecations == []


def test_maintenance_is_kept_and_tells_when_to_try_again(tmp_path):
    clock = Clock()
    maintenance = Maintenance(tmp_path / "maintenance.json", clock)
    maintenance.refuse()
    maintenance.begin("new disks", clock.now() + timedelta(hours=1))
    again = Maintenance(tmp_path / "maintenance.json", clock)
    with pytest.raises(errors.Maintenance, match="new disks") as refused:
        again.refuse()
    assert refused.value.retry_after_s == 3601
    clock.pass_time(7200)
    with pytest.raises(errors.Maintenance) as refused:
        again.refuse()
    assert refused.value.retry_after_s == 60
    again.end()
    again.refuse()
    Maintenance(tmp_path / "maintenance.json", clock).refuse()
    (tmp_path / "maintenance.json").write_bytes(b"{}")
    with pytest.raises(errors.SettingsInvalid, match="remove it"):
        Maintenance(tmp_path / "maintenance.json", clock)
