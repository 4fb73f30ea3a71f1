import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.errors import IdentifierInvalid
from evidence.identifiers import (
    MAX_IDENTIFIER_CHARS,
    RESERVED_SERVICE_CODES,
    MemberId,
    NodeId,
    Origin,
    ServiceId,
    SubsystemId,
    check_creatable,
    check_service_creatable,
    decode_part,
    encode_part,
    log_origin,
    parse_origin,
)

GENESIS = "0f" * 32
parts = st.text(
    st.characters(exclude_characters="/\\:;%\u200b\ufeff", exclude_categories=("Cc", "Cs")), min_size=1, max_size=20
).filter(lambda part: part not in {".", ".."})
creatable = st.text("ABCxyz019'()+,-.=", min_size=1, max_size=20).filter(lambda part: part not in {".", ".."})


@given(parts, parts, parts, parts, parts)
def test_every_identifier_survives_its_slash_form(instance, member_class, member, subsystem, service):
    member_id = MemberId(instance, member_class, member)
    service_id = ServiceId(SubsystemId(member_id, subsystem), service)
    assert MemberId.parse(str(member_id)) == member_id
    assert SubsystemId.parse(str(service_id.subsystem)) == service_id.subsystem
    assert ServiceId.parse(str(service_id)) == service_id
    assert service_id.parts == (instance, member_class, member, subsystem, service)
    assert service_id.member == member_id


@given(creatable, creatable)
def test_every_node_survives_its_slash_form(member, node):
    node_id = NodeId(MemberId("VN", "GOV", member), node)
    assert NodeId.parse(str(node_id)) == node_id
    assert node_id.parts == ("VN", "GOV", member, "@" + node)
    assert parse_origin(log_origin(GENESIS, node_id, 3)) == Origin(GENESIS, node_id, 3)


@given(st.text(max_size=60))
def test_no_text_makes_a_parser_fail_otherwise(text):
    for form in (MemberId, SubsystemId, ServiceId, NodeId):
        try:
            identifier = form.parse(text)
        except IdentifierInvalid:
            continue
        assert form.parse(str(identifier)) == identifier


def test_the_colon_form_is_read():
    assert MemberId.parse("VN:GOV:H37") == MemberId("VN", "GOV", "H37")
    assert SubsystemId.parse("VN:GOV:000.00.00.G22:onedoor") == SubsystemId(
        MemberId("VN", "GOV", "000.00.00.G22"), "onedoor"
    )
    assert ServiceId.parse("VN:GOV:G01:population:citizens").service == "citizens"
    assert NodeId.parse("VN:GOV:H37:@n1").node == "n1"


def test_another_spelling_of_the_same_identifier_is_equal():
    assert SubsystemId.parse("VN/GOV/H37/%6Fnedoor") == SubsystemId.parse("VN/GOV/H37/onedoor")
    assert str(SubsystemId.parse("VN/GOV/H37/m%e1%bb%99t")) == "VN/GOV/H37/m%E1%BB%99t"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "VN/GOV",
        "VN/GOV/H37/a/b/c",
        "VN//H37",
        "VN/GOV/..",
        "VN/GOV/%2e%2E",
        "VN/GOV/.",
        "VN/GOV/a%2Fb",
        "VN/GOV/a%5Cb",
        "VN/GOV/a%3Ab",
        "VN/GOV/a%3Bb",
        "VN/GOV/a%25b",
        "VN/GOV/a%00b",
        "VN/GOV/a%C2%85b",
        "VN/GOV/a\u200bb",
        "VN/GOV/%",
        "VN/GOV/%4",
        "VN/GOV/%GG",
        "VN/GOV/%FF",
        "VN/GOV/%ED%A0%80",
        "VN:GOV:a%41",
        "VN/GOV/" + "a" * 256,
        "VN/GOV/" + "%41" * (MAX_IDENTIFIER_CHARS // 3),
    ],
)
def test_a_malformed_member_is_refused(text):
    with pytest.raises(IdentifierInvalid):
        MemberId.parse(text)


def test_a_node_is_never_read_as_a_subsystem_nor_the_reverse():
    with pytest.raises(IdentifierInvalid):
        SubsystemId.parse("VN/GOV/H37/@n1")
    with pytest.raises(IdentifierInvalid):
        ServiceId.parse("VN/GOV/H37/@n1/x")
    with pytest.raises(IdentifierInvalid):
        NodeId.parse("VN/GOV/H37/n1")
    with pytest.raises(IdentifierInvalid):
        NodeId.parse("VN/GOV/H37/%40n1")
    # a subsystem that really begins with the mark keeps apart by its encoding
    assert str(SubsystemId(MemberId("VN", "GOV", "H37"), "@n1")) == "VN/GOV/H37/%40n1"


@pytest.mark.parametrize("part", ["", ".", "..", "a b", "một", "a/b", "a?b", "x" * 65])
def test_a_part_that_must_not_be_created_is_refused(part):
    with pytest.raises(IdentifierInvalid):
        check_creatable(part)


def test_reserved_service_codes_cannot_be_created():
    check_service_creatable("citizens")
    for code in RESERVED_SERVICE_CODES:
        check_creatable(code)
        with pytest.raises(IdentifierInvalid):
            check_service_creatable(code)


@pytest.mark.parametrize(
    "text",
    [
        "",
        GENESIS,
        f"{GENESIS}/VN/GOV/H37/@n1/0",
        f"{GENESIS}/VN/GOV/H37/@n1/01",
        f"{GENESIS.upper()}/VN/GOV/H37/@n1/1",
        f"{GENESIS}/VN/GOV/%48/@n1/1",
        f"{GENESIS}/VN/GOV/H37/n1/1",
        f"{GENESIS}/VN:GOV:H37:@n1/1",
    ],
)
def test_an_origin_in_another_spelling_is_refused(text):
    with pytest.raises(IdentifierInvalid):
        parse_origin(text)


@pytest.mark.parametrize(("genesis", "incarnation"), [("00", 1), (GENESIS, 0), (GENESIS, -1), (GENESIS, 10**9)])
def test_an_origin_is_not_made_of_wrong_parts(genesis, incarnation):
    with pytest.raises(IdentifierInvalid):
        log_origin(genesis, NodeId(MemberId("VN", "GOV", "H37"), "n1"), incarnation)


@given(parts)
def test_the_encoding_of_a_part_is_canonical(part):
    assert decode_part(encode_part(part)) == part
