"""What waits in the outbox, by member: sums, and a bound on names."""

from __future__ import annotations

from bus.delivery.depths import OTHERS, Depth, bounded
from bus.transport import subjects


def test_streams_of_one_member_are_one_depth_with_the_age_of_the_oldest() -> None:
    found = bounded([Depth("VN/GOV/G1", "command", 3, 50), Depth("VN/GOV/G1", "command", 2, 40)])
    assert found == [Depth("VN/GOV/G1", "command", 5, 40)]


def test_no_more_members_are_named_than_agreed_and_nothing_is_left_out() -> None:
    told = [Depth(f"VN/GOV/G{number}", "command", number, 1_000 - number) for number in range(1, 200)]
    found = bounded(told, most=10)
    assert [one.member for one in found[:10]] == [f"VN/GOV/G{number}" for number in range(199, 189, -1)]
    assert [one.member for one in found[10:]] == [OTHERS]
    assert sum(one.records for one in found) == sum(one.records for one in told)
    assert found[-1].oldest_s == 1_000 - 189


def test_a_member_is_read_from_the_token_of_its_subject() -> None:
    token = subjects.member_token("VN/GOV/H.37_x")
    assert subjects.member_of_token(token, "VN") == "VN/GOV/H.37_x"
    assert subjects.member_of_token("large", "VN") is None
    assert subjects.member_of_token("GOV~=FF", "VN") is None
