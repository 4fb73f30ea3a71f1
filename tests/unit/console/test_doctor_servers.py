"""What doctor says of the servers of a broker."""

from __future__ import annotations

import pytest

from bus.transport.copies import Copies
from console.doctor.servers import check_copies, check_servers

URLS = ("tls://a:1", "tls://b:1", "tls://c:1")


@pytest.mark.parametrize(
    ("there", "state", "said"),
    [
        (URLS, "ok", "all 3 servers"),
        (URLS[:2], "warn", "2 of 3 servers of the broker are reached; not tls://c:1"),
        (URLS[:1], "fail", "too few to store commands"),
        ((), "fail", "0 of 3"),
    ],
)
def test_a_server_that_is_away_is_named(there, state, said):
    (found,) = check_servers(URLS, lambda url: url in there, "start it")
    assert (found.check, found.state) == ("broker-servers", state)
    assert said in found.seen
    assert found.do == ("" if state == "ok" else "start it")


def test_a_broker_of_one_server_gets_no_line_of_its_own():
    assert list(check_servers(URLS[:1], lambda _url: False, "start it")) == []


@pytest.mark.parametrize(
    ("copies", "state", "said"),
    [
        (Copies(9, (), (), ()), "ok", "all 9 streams"),
        (
            Copies(9, ("A > own", "B"), (), ("server-3",)),
            "warn",
            "2 of 9 streams and consumers lack a current copy, at server-3",
        ),
        (Copies(9, ("A",), ("B > own",), ("server-3",)), "fail", "1 of 9 streams stand still: B > own"),
    ],
)
def test_before_another_server_is_stopped_it_is_told_what_is_not_copied_yet(copies, state, said):
    (found,) = check_copies(copies)
    assert (found.check, found.state) == ("broker-copies", state)
    assert said in found.seen
    assert ("stop no other server" in found.do) == (state != "ok")
