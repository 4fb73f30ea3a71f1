"""What the scene of trust calls a problem."""

from console.demo.cast import MEMBERS
from console.demo.forgeries import FORGERIES, Forgeries
from console.demo.intrusions import Intrusions
from console.demo.trust import MAX_REVOCATION_MS, WhoMaySpeak

REFUSED = {member.code: 40.0 for member in MEMBERS}


FORGED, BROKEN = Forgeries(10, 10, ()), Intrusions(66, 66, ())


def scene(
    forgeries: Forgeries = FORGED, intrusions: Intrusions = BROKEN, refused_ms: dict[str, float] = REFUSED
) -> WhoMaySpeak:
    return WhoMaySpeak(forgeries, intrusions, refused_ms)


def test_a_scene_in_which_everything_was_refused_has_no_problems() -> None:
    assert scene().problems() == []


def test_the_slowest_gateway_is_the_figure() -> None:
    assert scene(refused_ms={**REFUSED, "G05": 81.25}).effective_ms == 81.2


def test_whatever_was_let_in_is_a_problem_by_name() -> None:
    found = scene(Forgeries(10, 9, ("a false right",)), Intrusions(66, 65, ("another's queue",))).problems()
    assert ["a false right" in found[0], "another's queue" in found[1]] == [True, True]


def test_a_scene_that_tried_nothing_is_a_problem() -> None:
    assert scene(forgeries=Forgeries(0, 0, ())).problems()
    assert scene(intrusions=Intrusions(0, 0, ())).problems()


def test_a_gateway_that_was_late_or_not_looked_at_is_a_problem() -> None:
    assert scene(refused_ms={**REFUSED, "G05": MAX_REVOCATION_MS}).problems()
    assert scene(refused_ms={"H37": 40.0}).problems()
    assert scene(refused_ms={}).problems()


def test_every_forgery_has_a_name_and_a_code_of_its_own_lie() -> None:
    assert len({one.name for one in FORGERIES}) == len(FORGERIES)
    assert len({one.code for one in FORGERIES}) >= 5
