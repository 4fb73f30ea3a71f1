"""The count of commands, from notes and applications' files that lack something or hold something twice."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from console.demo.cast import DOSSIERS
from console.demo.delivery import Tally, tally


def note(what: str, id_: str, **told: object) -> dict[str, object]:
    return {"what": what, "id": id_, "service": DOSSIERS.id, "status": 0, **told}


BOTH = [note("accepted", "a"), note("accepted", "b"), note("ended", "a", state="completed")]
NOTES = [*BOTH, note("ended", "b", state="dead"), {"what": "looked-up", "service": DOSSIERS.id}]


@pytest.fixture
def count(tmp_path: Path) -> Any:
    def counted(notes: list[dict[str, object]], effects: list[str]) -> Tally:
        (tmp_path / "notes").write_text("".join(json.dumps(line) + "\n" for line in notes))
        done = tmp_path / "effects-dossiers"
        done.write_text("".join(json.dumps({"exchange_id": one}) + "\n" for one in effects))
        files = SimpleNamespace(effects=lambda service: done if service is DOSSIERS else tmp_path / "none")
        return tally(SimpleNamespace(applications=files), tmp_path / "notes")  # type: ignore[arg-type]

    return counted


def test_what_has_its_effect_or_is_a_dead_letter_is_not_lost(count) -> None:
    found = count(NOTES, ["a"])
    assert (found.accepted, found.states, found.pending) == (2, {"completed": 1, "dead": 1}, 0)
    assert (found.lost, found.effects_twice, found.lookups, found.problems()) == (0, 0, 1, [])


def test_a_dead_letter_that_was_brought_back_counts_with_its_last_state(count) -> None:
    found = count([*NOTES, note("ended", "b", state="completed")], ["a", "b"])
    assert (found.states, found.lost) == ({"completed": 2}, 0)


def test_done_by_its_state_but_without_effect_is_lost(count) -> None:
    assert count(NOTES, []).lost == 1


def test_a_result_that_refuses_needs_no_effect(count) -> None:
    refused = note("ended", "a", state="completed", status=422)
    assert count([*NOTES, refused], []).lost == 0


def test_accepted_and_never_heard_of_again_is_lost(count) -> None:
    found = count(BOTH, ["a"])
    assert (found.lost, found.pending) == (1, 1)
    assert found.problems()


def test_done_twice_is_counted(count) -> None:
    found = count(NOTES, ["a", "a"])
    assert found.effects_twice == 1
    assert found.problems()


def test_what_is_still_on_its_way_is_pending(count) -> None:
    assert count([*BOTH, note("ended", "b", state="delivered")], ["a"]).pending == 1
