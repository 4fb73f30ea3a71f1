"""The judge and the schedule, against books made by hand: each invariant is broken once, and must be seen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .judge import FINAL, LONG_S, OPEN, Books, excused, judge, out_of_order
from .lines import LineFile, read
from .schedule import CALM_S, FIRST_S, KINDS, plan

KEY = "dossier-1"


def sent(what: str, key: str, sequence: int, told: str = "", at: float = 0.0) -> dict:
    return {"what": what, "key": key, "sequence": sequence, "told": told, "at": at}


def effect(record_id: str, key: str, sequence: int) -> dict:
    return {"id": record_id, "key": key, "sequence": sequence, "at": 0.0}


def books(**changed: object) -> Books:
    """Three commands of one key, all well."""
    made = Books(
        [
            line
            for number in (1, 2, 3)
            for line in (sent("trying", KEY, number), sent("accepted", KEY, number, f"id{number}"))
        ],
        [effect(f"id{number}", KEY, number) for number in (1, 2, 3)],
        [{"id": f"id{number}", "at": float(number)} for number in (1, 2, 3)],
        [],
        {f"id{number}": "completed" for number in (1, 2, 3)},
    )
    for name, value in changed.items():
        setattr(made, name, value)
    return made


def test_a_run_without_a_fault_has_no_problem() -> None:
    verdict = judge(books(), ("order", "idempotency"))
    assert verdict.problems == []
    assert (verdict.accepted, verdict.states["completed"], verdict.effects, verdict.lost) == (3, 3, 3, 0)


@pytest.mark.parametrize("state", [*FINAL, *OPEN])
def test_every_state_is_counted_once(state: str) -> None:
    done = [effect("id1", KEY, 1), effect("id2", KEY, 2)]
    verdict = judge(books(states={"id1": "completed", "id2": "completed", "id3": state}, effects=done))
    assert sum(verdict.states.values()) == verdict.accepted == 3
    assert bool(verdict.problems) == (state == "completed")


def test_a_command_that_its_gateway_does_not_know_any_more_is_lost() -> None:
    verdict = judge(books(states={"id1": "completed", "id2": "completed", "id3": ""}))
    assert verdict.lost == 1
    assert any("not known any more" in one for one in verdict.problems)


def test_a_completed_command_without_an_effect_is_lost() -> None:
    verdict = judge(books(effects=[effect("id1", KEY, 1), effect("id2", KEY, 2)]))
    assert (verdict.lost, len(verdict.problems)) == (1, 1)


def test_an_effect_done_twice_is_seen_under_one_id_and_under_two() -> None:
    twice = books()
    twice.effects.append(effect("id3", KEY, 3))
    assert judge(twice).effects_twice == 1
    other = books()
    other.effects.append(effect("id4", KEY, 3))
    assert judge(other).effects_twice == 1


@pytest.mark.parametrize("state", ["cancelled", "expired"])
def test_what_was_cancelled_or_expired_must_not_be_done(state: str) -> None:
    verdict = judge(books(states={"id1": "completed", "id2": "completed", "id3": state}))
    assert any("done all the same" in one for one in verdict.problems)


def test_order_is_judged_only_where_it_is_promised() -> None:
    turned = books(effects=[effect("id2", KEY, 2), effect("id1", KEY, 1), effect("id3", KEY, 3)])
    assert judge(turned).problems == []
    assert judge(turned).order_violations == 1
    assert len(judge(turned, ("order",)).problems) == 1


def test_an_effect_that_nobody_sent_is_seen_and_one_of_a_call_that_broke_off_is_not() -> None:
    stray = books()
    stray.effects.append(effect("id4", KEY, 4))
    assert any("never sent" in one for one in judge(stray).problems)
    stray.sent += [sent("trying", KEY, 4), sent("unknown", KEY, 4)]
    verdict = judge(stray)
    assert (verdict.problems, verdict.unknown_done) == ([], 1)
    assert any("left unknown" in one for one in judge(stray, ("idempotency",)).problems)


def test_asking_the_source_again_needs_a_reason() -> None:
    again = books()
    again.asked.append({"id": "id3", "at": 9.0})
    assert judge(again).asked_again_unexplained == 1
    again.faults = [{"fault": "kill", "target": "G01", "began": 4.0, "ended": 5.0}]
    assert judge(again).problems == []
    again.faults = [{"fault": "kill", "target": "H37", "began": 4.0, "ended": 5.0}]
    assert judge(again).asked_again_unexplained == 1


def test_a_careless_backend_may_do_twice_what_was_asked_twice_with_reason() -> None:
    again = books(faults=[{"fault": "kill", "target": "backend", "began": 4.0, "ended": 5.0}])
    again.asked.append({"id": "id3", "at": 9.0})
    again.effects.append(effect("id3", KEY, 3))
    assert judge(again, careless=True).problems == []
    assert judge(again).effects_twice == 1
    again.faults = []
    assert judge(again, careless=True).effects_twice == 1


@pytest.mark.parametrize("what", [429, 502, 503, 504, "broken", 200])
def test_a_passing_answer_of_the_backend_is_a_reason_and_only_for_the_request_after_it(what: int | str) -> None:
    again = books()
    again.asked.append({"id": "id3", "at": 9.0})
    again.answered = [{"id": "id3", "what": what, "asked": 3.0, "at": 3.1, "poison": ""}]
    assert judge(again).asked_again_unexplained == (1 if what == 200 else 0)
    again.asked.append({"id": "id3", "at": 12.0})
    assert judge(again).asked_again_unexplained == 1


def test_an_answer_that_came_too_late_for_the_gateway_is_a_reason() -> None:
    again = books()
    again.asked.append({"id": "id3", "at": 6.0})
    again.answered = [{"id": "id3", "what": 200, "asked": 3.0, "at": 3.0 + LONG_S + 0.1, "poison": ""}]
    assert judge(again).problems == []


def test_what_was_discarded_must_have_failed_and_must_not_be_done() -> None:
    acts = [{"act": "discard", "id": "id3", "fate": fate} for fate in ("trying", "discarded")]
    done = [effect("id1", KEY, 1), effect("id2", KEY, 2)]
    states = {"id1": "completed", "id2": "completed", "id3": "failed"}
    verdict = judge(books(acts=acts, effects=done, states=states))
    assert (verdict.problems, verdict.discarded) == ([], 1)
    assert any("not failed" in one for one in judge(books(acts=acts)).problems)
    assert any("done all the same" in one for one in judge(books(acts=acts, states=states)).problems)


def test_commands_without_an_order_key_may_overtake_each_other() -> None:
    turned = [effect("id2", "loose-1", 2), effect("id1", "loose-1", 1)]
    sent_lines = [sent("accepted", "loose-1", number, f"id{number}") for number in (1, 2)]
    loose = books(sent=sent_lines, effects=turned, asked=[], states={"id1": "completed", "id2": "completed"})
    assert judge(loose, ("order",)).problems == []


def test_a_fault_long_before_excuses_nothing() -> None:
    faults = [{"fault": "kill", "target": "G01", "began": 1.0, "ended": 2.0}]
    assert excused(faults, 3.0, 4.0)
    assert not excused(faults, 30.0, 31.0)
    assert not excused(faults, 0.1, 0.9)


def test_a_repeated_effect_is_no_violation_of_order() -> None:
    assert out_of_order([effect("a", KEY, 1), effect("b", KEY, 2), effect("a", KEY, 1)]) == []


@given(st.integers(), st.floats(5, 300))
def test_a_schedule_follows_from_its_seed_and_never_breaks_one_target_twice_at_a_time(seed: int, length: float) -> None:
    faults = plan(seed, length)
    assert faults == plan(seed, length)
    free_at = dict.fromkeys({one.target for one in faults}, FIRST_S)
    for one in faults:
        assert one.target in KINDS[one.kind][1]
        assert one.at_s >= free_at[one.target]
        assert one.until_s <= length - CALM_S + 0.001
        free_at[one.target] = one.until_s


def test_a_line_torn_by_a_kill_does_not_swallow_the_next(tmp_path) -> None:
    path = tmp_path / "book.jsonl"
    path.write_bytes(b'{"a":1}\n{"a":')
    LineFile(path).add(a=3)
    assert [line["a"] for line in read(path)] == [1, 3]
