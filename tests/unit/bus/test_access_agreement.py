"""What `access why` says is what a call gets: random directories, one decision, real exchanges between two nodes."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from bus_world import (
    CLIENT,
    G01,
    H37,
    NODE_G01,
    NODE_H37,
    NOW,
    SERVICE,
    access_entry,
    call,
    member_entry,
    node_entry,
    origin_of,
    running_bus,
    service_entry,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from bus import errors
from registry.decision import authorise
from registry.view import SubsystemEntry

GROUP, OTHER = "VN#offices", f"{H37}/archive"
PURPOSES, GROUNDS = ("residence", "tax", "*"), ("Law 1", "Law 2", "*")
PATHS = {"getCitizen": "/citizens/042091004444", "confirm": "/confirmations", "nothing": "/nowhere"}
INSTANTS = [None, NOW - timedelta(days=1), NOW, NOW + timedelta(seconds=1)]

words = st.frozensets
rights = st.builds(
    lambda number, **changes: access_entry(**{"subject": f"{SERVICE}#r{number}", **changes}),
    st.integers(0, 99),
    client=st.sampled_from([CLIENT, OTHER, H37, GROUP]),
    operations=st.none() | words(st.sampled_from(["getCitizen", "confirm"]), max_size=2),
    purposes=words(st.sampled_from(PURPOSES), min_size=1),
    grounds=words(st.sampled_from(GROUNDS), min_size=1),
    official_required=st.booleans(),
    fields=st.sampled_from([frozenset(), frozenset({"religion"}), frozenset({"*"})]),
    since_at=st.sampled_from([NOW - timedelta(days=3), NOW - timedelta(days=2)]),
    valid_from_at=st.sampled_from(INSTANTS[1:]),
    until_at=st.sampled_from(INSTANTS),
)
services = st.builds(
    service_entry,
    enabled=st.sampled_from([True, True, True, False]),
    notice=st.sampled_from(["", "until Monday"]),
    until_at=st.sampled_from([None, None, *INSTANTS]),
    resumes_at=st.sampled_from(INSTANTS),
)
calls = st.fixed_dictionaries(
    {
        "client": st.sampled_from([CLIENT, CLIENT, OTHER, f"{H37}/nobody"]),
        "service": st.sampled_from([SERVICE, SERVICE, SERVICE, f"{SERVICE}x"]),
        "operation": st.sampled_from(["getCitizen", "getCitizen", "confirm", "nothing"]),
        "purpose": st.sampled_from(["residence", "tax", ""]),
        "ground": st.sampled_from(["Law 1", "Law 2", ""]),
        "official": st.sampled_from(["", "nguyen.an"]),
    }
)
statuses = st.sampled_from(["active", "active", "active", "suspended"])
trust = st.fixed_dictionaries(
    {
        "nodes": st.frozensets(st.sampled_from([NODE_H37, NODE_G01])),
        "members": st.frozensets(st.sampled_from([H37, G01])),
    }
)
trusted = st.just({"nodes": frozenset(), "members": frozenset()})
gateway_facts = st.fixed_dictionaries(
    {"unknown": st.booleans(), "withdrawn": st.frozensets(st.just(G01)), "maintenance": st.booleans()}
)
plain = st.just({"unknown": False, "withdrawn": frozenset(), "maintenance": False})


@pytest.fixture(scope="module")
def bus(tmp_path_factory):
    """One pair of nodes for all examples, with the loop that they live in."""
    with asyncio.Runner() as runner:
        opened = running_bus(tmp_path_factory.mktemp("bus"))
        made = runner.run(opened.__aenter__())
        made.directory.subsystems[OTHER] = SubsystemEntry(id=OTHER, member=H37, names={})
        yield made, runner
        runner.run(opened.__aexit__(None, None, None))


def prepare(view, found, groups, service, statuses_of, withdrawn):
    view.services[SERVICE] = service
    view.revoked = {("member", member) for member in withdrawn["members"]}
    for node in (NODE_H37, NODE_G01):  # as the fold has it: with its member a node is revoked, too
        gone = node in withdrawn["nodes"] or node.rpartition("/")[0] in withdrawn["members"]
        view.nodes[origin_of(node)] = node_entry(node, status="revoked" if gone else "active")
    for member, status in zip((H37, G01), statuses_of, strict=True):
        view.members[member] = member_entry(member, status=status)

    def rights_of(client, wanted):
        mine = {client, client.rpartition("/")[0]} | ({GROUP} if client in groups else set())
        return tuple(right for right in found if right.client in mine and right.service == wanted)

    view.rights = rights_of


def refused_for(known, decision):
    """Codes with which a call may be refused: those of what only a gateway knows, and the decision's own."""
    codes = set() if decision.allowed else {decision.code}
    codes |= {"revocation-unknown"} if known["unknown"] else set()
    codes |= {"provider-revoked"} if known["withdrawn"] else set()
    return codes | ({"maintenance"} if known["maintenance"] else set())


@settings(max_examples=400, deadline=None)
@given(
    st.lists(rights, max_size=4, unique_by=lambda right: right.subject),
    words(st.sampled_from([CLIENT, OTHER])),
    services,
    st.tuples(statuses, statuses),
    st.one_of(trusted, trusted, trust),
    st.one_of(plain, plain, gateway_facts),
    calls,
)
def test_a_call_gets_what_the_decision_says(bus, found, groups, service, statuses_of, withdrawn, known, asked):
    made, runner = bus
    view = made.directory
    prepare(view, found, groups, service, statuses_of, withdrawn)
    made.standing.unknown, made.standing.withdrawn = known["unknown"], known["withdrawn"]
    made.maintenance[:] = [errors.Maintenance("until Monday")] if known["maintenance"] else []
    decision = authorise(view, at=made.clock.now(), **asked)
    posted = {"method": "POST", "content_type": "application/json", "body": b'{"id":"1"}'}
    more = {} if asked["operation"] != "confirm" else posted
    request = call(
        client=asked["client"], service=asked["service"], path=PATHS[asked["operation"]], purpose=asked["purpose"],
        legal_basis=asked["ground"], official=asked["official"], **more,
    )  # fmt: skip
    made.clock.pass_time(0.001)
    made.clock.at = NOW
    possible = refused_for(known, decision)
    if possible - {decision.code}:
        with pytest.raises(errors.BusError) as refused:
            runner.run(made.asker.ask(request))
        assert (refused.value.reason_code or refused.value.code) in possible
        return
    if not decision.allowed:
        with pytest.raises(errors.BusError) as refused:
            runner.run(made.asker.ask(request))
        assert (refused.value.reason_code or refused.value.code) == decision.code
        assert refused.value.rule == (decision.rule or "")
        return
    answer = runner.run(made.asker.ask(request))
    assert answer.status == 200
    if asked["operation"] == "getCitizen":
        assert (b"religion" in answer.body) == ("religion" in decision.granted)
