import itertools

import pytest
from log_world import G01, H37, ORIGIN, ORIGIN_G01, SIGNER_G01, opened, record, reply

from evidence.leaf import ADMIN, EXCHANGE, wrap
from evidence.log import LogReader
from evidence.reconcile import reconcile


@pytest.fixture
def books(tmp_path):
    """Writes the leaves of H37 and of G01 into a log each (None: no log) and matches them."""
    counter = itertools.count()

    async def write(h37, g01):
        folder = tmp_path / f"{next(counter)}"
        folder.mkdir()
        readers = []
        for name, leaves, how in (("h37", h37, {}), ("g01", g01, {"origin": ORIGIN_G01, "signer": SIGNER_G01})):
            if leaves is not None:
                async with opened(folder / f"{name}.db", **how) as log:
                    if leaves:
                        await log.append(leaves)
                readers.append(LogReader(folder / f"{name}.db"))
        report = reconcile(readers)
        for reader in readers:
            reader.close()
        return report

    return write


def reasons(report):
    return [(one.reason, one.type) for one in report.unmatched]


async def test_a_query_and_its_answer_in_both_logs_match(books):
    query = record()
    answer = reply(query)
    report = await books([query, answer], [query, answer])
    assert (report.matched, report.explained, report.unmatched) == (2, 0, [])
    assert report.logs == {ORIGIN: 2, ORIGIN_G01: 2}


async def test_a_query_that_its_addressee_does_not_have_is_unacknowledged(books):
    query = record()
    report = await books([query], [])
    assert reasons(report) == [("not-received", "query")]
    (one,) = report.unmatched
    assert (one.origin, one.index, one.node, one.to) == (ORIGIN, 1, f"{H37}/@n1", f"{G01}/sub")


async def test_a_received_record_that_its_author_does_not_have_is_named(books):
    query = record()
    answer = reply(query)
    report = await books([query], [query, answer])
    assert reasons(report) == [("not-received", "answer")]
    report = await books([query, answer], [query])
    assert reasons(report) == [("not-said", "answer")]


async def test_logs_that_were_not_given_are_named_as_such(books):
    query = record()
    answer = reply(query)
    assert reasons(await books([query, answer], None)) == [
        ("receiver-log-not-given", "query"),
        ("author-log-not-given", "answer"),
    ]


async def test_an_outcome_explains_its_request_every_reply_and_itself(books):
    lost = record()
    outcome = reply(lost, "outcome", H37, G01, "timedout")
    late = reply(lost)
    report = await books([lost, outcome], [late])
    assert (report.matched, report.explained, report.unmatched) == (0, 3, [])


async def test_an_outcome_explains_also_a_request_that_no_given_log_has(books):
    lost = record()
    report = await books([reply(lost, "outcome", H37, G01, "unknown")], [])
    assert (report.explained, report.unmatched) == (1, [])


async def test_nobody_explains_away_somebody_else_s_request(books):
    query = record()
    denial = reply(query, "outcome", G01, H37, "undelivered")
    report = await books([query], [denial])
    assert reasons(report) == [("not-received", "query"), ("not-received", "outcome")]


async def test_an_outcome_in_a_stranger_s_log_explains_nothing(books):
    query = record()
    forged = reply(query, "outcome", H37, G01, "undelivered")
    report = await books([query], [forged])
    assert reasons(report) == [("not-received", "query"), ("not-said", "outcome")]


@pytest.mark.parametrize(("speaker", "to"), [(H37, G01), (G01, H37)])  # as nodes write it; as its speaker would
async def test_a_node_that_gave_up_what_it_had_received_explains_its_receipt_and_nothing_else(books, speaker, to):
    command, other = record("command"), record("command")
    given_up = reply(command, "outcome", speaker, to, "undelivered", node=f"{G01}/@n1")
    receipt, result = reply(command, "receipt"), reply(command, "result")
    report = await books([command], [command, receipt, given_up])
    assert (report.matched, report.explained, report.unmatched) == (1, 2, [])
    report = await books([command, other], [command, other, given_up, result, reply(other, "receipt")])
    assert (report.matched, report.explained) == (2, 1)
    assert reasons(report) == [("not-received", "result"), ("not-received", "receipt")]


@pytest.mark.parametrize(("speaker", "to"), [(H37, G01), (G01, H37)])
async def test_who_has_not_received_a_request_gives_nothing_up(books, speaker, to):
    command = record("command")
    report = await books([command], [reply(command, "outcome", speaker, to, "undelivered", node=f"{G01}/@n1")])
    assert [kind for _, kind in reasons(report)] == ["command", "outcome"]


async def test_other_kinds_of_leaves_are_not_counted(books):
    report = await books([wrap(ADMIN, b"x")], [])
    assert (report.matched, report.explained, report.unmatched) == (0, 0, [])
    assert report.logs == {ORIGIN: 0, ORIGIN_G01: 0}


async def test_malformed_records_are_listed(books):
    report = await books([wrap(EXCHANGE, b"{}")], [])
    assert report.malformed == [(ORIGIN, 1)]


async def test_a_log_without_a_node_receives_only(tmp_path):
    query = record()
    async with opened(tmp_path / "log.db", origin="example.vn/log") as log:
        await log.append([query])
    with LogReader(tmp_path / "log.db") as reader:
        assert reasons(reconcile([reader])) == [("author-log-not-given", "query")]
