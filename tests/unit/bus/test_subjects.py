import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bus.transport import permissions, subjects
from bus.transport.subjects import (
    SMALL_BYTES,
    command,
    command_stream,
    event_stream,
    member_token,
    node_of_token,
    node_token,
    result_stream,
    sized,
    token_part,
    work_stream,
)
from evidence.errors import IdentifierInvalid
from evidence.identifiers import MemberId, NodeId

SAFE = re.compile(r"[A-Za-z0-9=~-]+")


def _is_part(text: str) -> bool:
    try:
        MemberId("VN", "GOV", text)
    except IdentifierInvalid:
        return False
    return True


parts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(_is_part)
codes = st.text("ABCxyz019'()+,-.=", min_size=1, max_size=12).filter(lambda text: text not in {".", ".."})
nodes = st.builds(lambda a, b, node: NodeId(MemberId("VN", a, b), node), parts, parts, codes)


def test_tokens_as_documented():
    assert member_token("VN/GOV/H37") == "GOV~H37"
    assert node_token("VN/GOV/H37/@n1") == "GOV~H37~n1"
    assert member_token("VN/GOV/000.00.18.G12") == "GOV~000=2E00=2E18=2EG12"
    assert token_part("Sở ~=") == "S=E1=BB=9F=20=7E=3D"
    assert subjects.query("VN/GOV/G01", "VN/GOV/H37") == "lt.q.GOV~G01.GOV~H37"
    assert subjects.control("VN/GOV/G01/@n1", "VN/GOV/H37/@n2") == "lt.k.GOV~G01~n1.GOV~H37~n2"
    assert subjects.inbox("VN/GOV/H37/@n1") == "_I.GOV~H37~n1."
    assert subjects.query_group("VN/GOV/G01") == "q~GOV~G01"


@given(nodes)
def test_a_node_survives_its_token(node):
    assert node_of_token(node_token(str(node)), "VN") == str(node)


@given(nodes, nodes)
def test_distinct_nodes_have_distinct_tokens(one, other):
    assume(one != other)
    assert node_token(str(one)) != node_token(str(other))
    assert (member_token(str(one.member)) == member_token(str(other.member))) == (one.member == other.member)


@given(nodes)
def test_a_token_is_one_plain_subject_token(node):
    assert SAFE.fullmatch(node_token(str(node)))
    assert SAFE.fullmatch(member_token(str(node.member)))


@pytest.mark.parametrize(
    "token",
    [
        "",
        "GOV",
        "GOV~H37",
        "GOV~H37~n1~n2",
        "~H37~n1",
        "GOV~~n1",
        "GOV~H37~",
        "GOV~=FF~n1",
        "GOV~=2F~n1",
        "GOV~=~n1",
        "GOV~=2~n1",
        "GOV~H37~=20",
        "GOV~.~n1",
    ],
)
def test_a_token_of_no_node_is_none(token):
    assert node_of_token(token, "VN") is None


@given(st.text(max_size=20))
def test_any_text_is_a_token_or_none(token):
    found = node_of_token(token, "VN")
    assert found is None or str(NodeId.parse(found)) == found


def test_a_node_may_do_at_the_broker_what_the_table_says():
    node = "VN/GOV/H37/@n1"
    assert permissions.node_publish("VN/GOV/H37", node) == [
        "lt.q.*.GOV~H37",
        "lt.k.*.GOV~H37~n1",
        "_I.>",
        "lt.c.*.GOV~H37",
        "lt.c.large.*.GOV~H37",
        "lt.r.*.*.GOV~H37",
        "lt.r.large.*.*.GOV~H37",
        "lt.e.GOV~H37.>",
        "lt.w.GOV~H37.>",
        "$JS.API.CONSUMER.MSG.NEXT.CMD_GOV~H37.own",
        "$JS.ACK.CMD_GOV~H37.own.>",
        "$JS.API.CONSUMER.MSG.NEXT.CML_GOV~H37.own",
        "$JS.ACK.CML_GOV~H37.own.>",
        "$JS.API.CONSUMER.MSG.NEXT.RES_GOV~H37.own~n1",
        "$JS.ACK.RES_GOV~H37.own~n1.>",
        "$JS.API.CONSUMER.MSG.NEXT.REL_GOV~H37.own~n1",
        "$JS.ACK.REL_GOV~H37.own~n1.>",
        "$JS.API.DIRECT.GET.WRK_GOV~H37",
        "$JS.API.DIRECT.GET.LT_DIR.>",
    ]
    assert permissions.node_subscribe("VN/GOV/H37", node) == [
        "lt.q.GOV~H37.* q~GOV~H37",
        "lt.k.GOV~H37~n1.*",
        "_I.GOV~H37~n1.>",
        "lt.dir.>",
    ]


@given(nodes)
def test_no_permission_reaches_into_another_members_subjects(node):
    node_text, member = str(node), str(node.member)
    for subject in permissions.node_publish(member, node_text) + permissions.node_subscribe(member, node_text):
        assert subject.count(" ") <= 1
        literal = subject.removeprefix("lt.q.").removeprefix("lt.k.")
        names = {stream.partition("_")[2] for stream in (command_stream(member), result_stream(member))}
        assert (
            member_token(member) in literal
            or any(name in literal for name in names)
            or literal
            in {
                "_I.>",
                "$JS.API.DIRECT.GET.LT_DIR.>",
                "lt.dir.>",
            }
        )


@given(nodes.map(lambda node: node.member))
def test_a_stream_has_a_name_that_the_broker_takes(member):
    queues = {make(str(member), large=large) for make in (command_stream, result_stream) for large in (False, True)}
    names = {*queues, event_stream(str(member)), work_stream(str(member))}
    assert len(names) == 6
    for name in names:
        assert len(name) <= 255
        assert re.fullmatch(r"[A-Za-z0-9_=~-]+", name)


def test_two_long_members_have_two_streams():
    first, second = (f"VN/{'(' * 64}/{'(' * 63}{last}" for last in "AB")
    assert command_stream(first) != command_stream(second)
    assert "~~" in command_stream(first)


def test_a_leaf_may_do_what_the_nodes_of_its_member_may():
    nodes = ["VN/GOV/H37/@n1", "VN/GOV/H37/@n2"]
    publish = set(permissions.leaf_publish("VN/GOV/H37", nodes))
    subscribe = set(permissions.leaf_subscribe("VN/GOV/H37", nodes))
    for node in nodes:
        assert set(permissions.node_publish("VN/GOV/H37", node)) <= publish
        # a leaf passes on the subscriptions of its gateways, queue groups included
        assert {subject.partition(" ")[0] for subject in permissions.node_subscribe("VN/GOV/H37", node)} <= subscribe
    assert not {subject for subject in subscribe if subject.startswith("$")} | ({">", "_I.>", "lt.>"} & subscribe)


@given(nodes, nodes, st.integers(0, 2 * SMALL_BYTES))
def test_a_large_message_has_a_subject_of_its_own_that_ends_with_its_sender(node, other, size):
    small = command(str(node.member), str(other.member))
    told = sized(small, large=size > SMALL_BYTES)
    assert told.rpartition(".")[2] == member_token(str(other.member))
    assert (told == small) == (size <= SMALL_BYTES)
    assert told in (small, small.replace("lt.c.", "lt.c.large.", 1))
