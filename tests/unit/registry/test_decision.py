from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from registry_world import CLIENT, PROVIDER, RIGHT, SERVICE, START, World, time_at

from registry.decision import Decision, authorise, authorise_coarse, authorise_fine, quota_exceeded
from registry.quota import DAY_S, Quota, QuotaBook
from registry.view import QuotaLimit

AT = START + timedelta(hours=5)


def ask(world: World, **changes: object) -> Decision:
    values: dict[str, object] = {
        "client": CLIENT,
        "service": SERVICE,
        "operation": "getCitizen",
        "purpose": "residence",
        "ground": "Decree 1/2026",
        "official": "official-7",
        "at": AT,
    }
    return authorise(world.directory, **{**values, **changes})


def test_a_granted_call_names_its_rule(world: World) -> None:
    decision = ask(world)
    assert decision.allowed
    assert (decision.code, decision.rule, decision.author) == ("granted", RIGHT, PROVIDER)
    assert decision.since_at == START + timedelta(minutes=8)
    assert decision.granted == frozenset()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"client": "VN-TEST/GOV/H37/other"}, "client-unknown"),
        ({"service": f"{SERVICE}x"}, "service-unknown"),
        ({"client": f"{PROVIDER}/population"}, "no-access-right"),
        ({"operation": "deleteCitizen"}, "operation-unknown"),
        ({"operation": "confirmCitizen"}, "operation-not-granted"),
        ({"purpose": "curiosity"}, "purpose-not-granted"),
        ({"purpose": ""}, "purpose-not-granted"),
        ({"ground": "because"}, "ground-not-granted"),
        ({"official": ""}, "official-required"),
        ({"at": START}, "right-expired"),
        ({"at": START + timedelta(days=400)}, "right-expired"),
    ],
)
def test_every_refusal_has_its_code_and_a_reason(world: World, change: dict[str, object], code: str) -> None:
    world.put(
        world.access(operations=("getCitizen",), official_required=True, until="2027-01-01T00:00:00.000000Z"),
        world.provider,
    )
    decision = ask(world, **change)
    assert not decision.allowed
    assert decision.code == code
    assert decision.reason
    assert "curiosity" not in decision.reason
    assert "because" not in decision.reason
    assert (decision.rule is None) == (
        code in {"client-unknown", "service-unknown", "operation-unknown", "no-access-right"}
    )


def test_a_client_of_an_inactive_or_revoked_member_is_refused(world: World) -> None:
    world.put(world.member(world.consumer, status="suspended"), world.operator)
    assert ask(world).code == "client-suspended"
    world.put(world.member(world.consumer), world.operator)
    world.put(world.revocation(f"member:{world.consumer.id}"), world.operator)
    assert ask(world).code == "own-node-revoked", "its own gateway does not send it"
    coarse = authorise_coarse(world.directory, client=CLIENT, service=SERVICE, at=AT)
    assert coarse.code == "client-suspended", "nor does a provider answer"


def test_a_service_of_an_inactive_provider_is_disabled(world: World) -> None:
    world.put(world.member(world.provider, status="left"), world.operator)
    assert ask(world).code == "service-disabled"
    world.put(world.member(world.provider), world.operator)
    world.put(world.service(enabled=False, notice="until Monday"), world.provider)
    assert ask(world).reason.endswith("off: until Monday")
    world.put(world.service(enabled=False), world.provider)
    assert ask(world).reason.endswith("off")
    world.put(world.service(until=time_at(60)), world.provider)
    assert ask(world).code == "service-disabled"
    assert ask(world, at=START + timedelta(minutes=59)).allowed


def test_a_view_without_the_member_refuses(world: World) -> None:
    del world.directory._members[world.consumer.id]
    assert ask(world).code == "client-unknown"
    del world.directory._members[world.provider.id]
    assert ask(world, client=f"{PROVIDER}/population").code == "client-unknown"


def test_any_operation_and_wildcards_are_explicit(world: World) -> None:
    assert ask(world, operation=None).allowed
    world.put(world.access(purposes=("*",), grounds=("*",), fields=("*",)), world.provider)
    decision = ask(world, purpose="", ground="")
    assert decision.allowed
    assert decision.granted == {"address", "religion"}


def test_the_right_with_the_most_fields_decides_and_rights_are_not_combined(world: World) -> None:
    world.put(world.access(f"{SERVICE}#a", fields=("address",)), world.provider)
    world.put(world.access(f"{SERVICE}#b", fields=("religion",), purposes=("census",)), world.provider)
    world.put(world.access(f"{SERVICE}#c"), world.provider)
    assert ask(world).rule == f"{SERVICE}#a"
    assert ask(world).granted == {"address"}
    assert ask(world, purpose="census").granted == {"religion"}
    assert ask(world, purpose="census", ground="other").code == "ground-not-granted"


def test_the_closest_right_explains_the_refusal(world: World) -> None:
    world.put(world.access(f"{SERVICE}#a", purposes=("census",), official_required=True), world.provider)
    decision = ask(world, purpose="census", official="")
    assert (decision.code, decision.rule) == ("official-required", f"{SERVICE}#a")
    assert ask(world, purpose="x").code == "purpose-not-granted"


def test_the_newest_of_expired_rights_is_named(world: World) -> None:
    world.put(world.access(valid_from=time_at(600)), world.provider)
    assert "begins" in ask(world).reason
    world.put(world.access(until=time_at(60)), world.provider)
    assert "ended" in ask(world).reason


def test_the_coarse_stage_gives_the_most_generous_quota(world: World) -> None:
    def coarse() -> QuotaLimit:
        return authorise_coarse(world.directory, client=CLIENT, service=SERVICE, at=AT).quota

    world.put(world.access(quota=QuotaLimit(per_second=2, per_day=10)), world.provider)
    assert coarse() == QuotaLimit(per_second=2, per_day=10)
    world.put(world.access(f"{SERVICE}#a", quota=QuotaLimit(per_second=1, per_day=20)), world.provider)
    assert coarse() == QuotaLimit(per_second=2, per_day=20)
    world.put(world.access(f"{SERVICE}#b"), world.provider)
    assert coarse() == QuotaLimit()


def test_the_fine_stage_alone_still_asks_for_a_valid_right(world: World) -> None:
    arguments: dict[str, object] = {"operation": None, "purpose": "", "ground": "", "official": "", "at": AT}
    decision = authorise_fine(world.directory, client=CLIENT, service="x", **arguments)  # type: ignore[arg-type]
    assert decision.code == "no-access-right"


def test_a_field_wildcard_of_a_vanished_service_grants_nothing_more(world: World) -> None:
    world.put(world.access(fields=("*",)), world.provider)
    del world.directory._services[SERVICE]
    decision = authorise_fine(
        world.directory, client=CLIENT, service=SERVICE, operation=None, purpose="residence",
        ground="Decree 1/2026", official="", at=AT,
    )  # fmt: skip
    assert decision.granted == {"*"}


def test_an_exceeded_quota_names_the_rule(world: World) -> None:
    refusal = quota_exceeded(ask(world), CLIENT, SERVICE)
    assert (refusal.allowed, refusal.code, refusal.rule) == (False, "quota-exceeded", RIGHT)


# Counting ---------------------------------------------------------------------------------------------------------


def test_a_rate_refills_with_the_clock() -> None:
    quota = Quota(QuotaLimit(per_second=2), 100.0)
    assert [quota.take(100.0) for _ in range(3)] == [True, True, False]
    assert quota.retry_after_s() == pytest.approx(0.5)
    assert not quota.take(100.4)
    assert quota.take(100.5)
    assert not quota.take(90.0), "a clock that goes back refills nothing"
    assert quota.take(200.0)


def test_a_day_refills_evenly() -> None:
    quota = Quota(QuotaLimit(per_day=24), 0.0)
    assert sum(quota.take(0.0) for _ in range(30)) == 24
    assert quota.retry_after_s() == pytest.approx(3600.0)
    assert quota.take(3600.0)
    assert not quota.take(3600.0)
    assert sum(quota.take(10 * DAY_S) for _ in range(30)) == 24


def test_a_slow_rate_allows_one_call_at_once() -> None:
    quota = Quota(QuotaLimit(per_second=0.1), 0.0)
    assert quota.take(0.0)
    assert not quota.take(9.0)
    assert quota.take(10.0)


def test_a_quota_of_nothing_allows_nothing() -> None:
    for limit in (QuotaLimit(per_second=0), QuotaLimit(per_day=0)):
        quota = Quota(limit, 0.0)
        assert not quota.take(1e9)
        assert quota.retry_after_s() == DAY_S


@given(st.lists(st.floats(0, 10), max_size=80), st.floats(0.5, 20), st.integers(1, 100))
def test_no_more_calls_than_the_quota(gaps: list[float], rate: float, per_day: int) -> None:
    quota, now_s, taken = Quota(QuotaLimit(per_second=rate, per_day=per_day), 0.0), 0.0, 0
    for gap in gaps:
        now_s += gap
        taken += quota.take(now_s)
    assert taken <= max(1.0, rate) + rate * now_s + 1e-6
    assert taken <= per_day + per_day * now_s / DAY_S + 1e-6


def test_the_book_counts_by_client_and_service_and_is_bounded() -> None:
    book, limit = QuotaBook(capacity=2), QuotaLimit(per_second=1)
    assert book.take("a", "s", QuotaLimit(), 0.0) is None
    assert len(book) == 0
    assert book.take("a", "s", limit, 0.0) is None
    assert book.take("a", "s", limit, 0.0) == pytest.approx(1.0)
    assert book.take("b", "s", limit, 0.0) is None
    assert book.take("a", "s", limit, 0.0) is not None
    assert book.take("c", "s", limit, 0.0) is None
    assert len(book) == 2
    assert book.take("a", "s", limit, 0.0) is not None, "the least recently used one is forgotten"
    assert book.take("a", "s", QuotaLimit(per_second=2), 0.0) is None, "a new limit starts afresh"


def test_instants_are_aware() -> None:
    assert isinstance(AT, datetime)
    assert AT.tzinfo is not None


def test_a_caller_whose_nodes_nobody_trusts_is_told_so(world: World) -> None:
    (node,) = world.directory.nodes_of(world.consumer.id)
    world.put(world.revocation(f"node:{node.node}"), world.operator)
    decision = ask(world)
    assert decision.code == "own-node-revoked"
    assert world.consumer.id in decision.reason


@pytest.mark.parametrize("target", [f"node:{PROVIDER}/@n1", f"member:{PROVIDER}"])
def test_a_provider_that_nobody_trusts_is_not_asked(world: World, target: str) -> None:
    assert ask(world).allowed
    world.put(world.revocation(target), world.operator)
    assert ask(world).code == "provider-revoked"
