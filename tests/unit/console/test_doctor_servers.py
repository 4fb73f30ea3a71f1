"""What doctor says of the servers of a broker."""

from __future__ import annotations

import pytest

from console.doctor.servers import check_servers

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
