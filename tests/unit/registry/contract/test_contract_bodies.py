from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from contract_documents import JSON, answering, asking, operation, parsed
from hypothesis import given
from hypothesis import strategies as st

from registry.contract import (
    AnswerCheck,
    AnswerInvalid,
    AnswerUndeclared,
    CompiledContract,
    ContractRejected,
    MediaTypeUnsupported,
    OperationUnknown,
    Parameters,
    RequestInvalid,
    compile_contract,
)
from registry.contract.budget import DEFAULT
from registry.contract.mediatype import parse_media_type
from registry.contract.xmlbody import xsd_refusal

XSD = """<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" targetNamespace="urn:x" elementFormDefault="qualified">
<xs:element name="person"><xs:complexType><xs:sequence>
<xs:element name="name"><xs:simpleType><xs:restriction base="xs:string"><xs:pattern value="[A-Z][a-z]{1,20}"/>
</xs:restriction></xs:simpleType></xs:element>
<xs:element name="code" minOccurs="0" maxOccurs="unbounded" type="xs:int"/>
</xs:sequence></xs:complexType></xs:element><xs:element name="other" type="xs:string"/></xs:schema>"""
PERSON = b'<person xmlns="urn:x"><name>Binh</name><code>1</code></person>'
SCHEMA = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string", "maxLength": 5}}}

CONTRACT = parsed(
    {
        "/json": {"post": asking(SCHEMA, operationId="json")},
        "/maybe": {"post": operation(operationId="maybe", requestBody={"content": {JSON: {"schema": SCHEMA}}})},
        "/none": {"post": operation(operationId="none")},
        "/any": {"post": operation(operationId="any", requestBody={"content": {JSON: {"x-lienthong-max-bytes": 9}}})},
        "/xml": {
            "post": operation(
                operationId="xml",
                requestBody={
                    "content": {
                        "application/xml": {"x-lienthong-xsd": XSD, "x-lienthong-xsd-root": "{urn:x}person"},
                        "text/xml": {"x-lienthong-xsd": XSD},
                    }
                },
            )
        },
        "/file": {
            "post": operation(
                operationId="file",
                requestBody={
                    "content": {
                        "application/pdf": {"x-lienthong-max-bytes": 4},
                        "image/*": {},
                        "multipart/form-data": {},
                    }
                },
            )
        },
        "/all": {"post": operation(operationId="all", requestBody={"content": {"*/*": {}}})},
        "/answers": {
            "get": operation(
                operationId="answers",
                responses={
                    "200": {
                        "description": "",
                        "content": {JSON: {"schema": SCHEMA}, "text/csv": {"x-lienthong-max-bytes": 4}},
                        "headers": {"X-Total": {"schema": {"type": "integer"}, "required": True}},
                    },
                    "204": {"description": ""},
                    "4XX": {"description": "", "content": {"application/problem+json": {}}},
                },
            )
        },
        "/default": {"get": operation(operationId="default", responses={"default": {"description": ""}})},
        "/opaque": {
            "get": operation(
                operationId="opaque",
                responses={"200": {"description": "", "content": {"*/*": {}, "text/xml": {"x-lienthong-xsd": XSD}}}},
            )
        },
        "/closed": {"get": answering(False, operationId="closed")},
    }
)
COMPILED = compile_contract(CONTRACT)


def ask(path: str, content_type: str, body: bytes, compiled: CompiledContract = COMPILED) -> Parameters:
    return compiled.validate_request(compiled.route("POST", path), "", (), content_type, body)


def rules(path: str, content_type: str, body: bytes) -> set[tuple[str, str]]:
    with pytest.raises(RequestInvalid) as caught:
        ask(path, content_type, body)
    assert {item.where for item in caught.value.violations} == {"body"}
    return {(item.pointer, item.rule) for item in caught.value.violations}


@pytest.mark.parametrize(
    "content_type",
    [
        JSON,
        "APPLICATION/JSON",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8" ; ',
        "application/json;",
    ],
)
def test_a_json_body_is_decoded_and_validated(content_type: str) -> None:
    for _ in range(2):
        assert ask("/json", content_type, b'{"name":"An"}').json_body == {"name": "An"}


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "application/jsonp",
        "application/json; charset=latin-1",
        "application/json; version=2",
        "application/json; charset=utf-8; charset=utf-8",
        "application/json charset=utf-8",
        "application/json; charset",
        "application",
        "a/b/c",
        "application/jsoné",
        "application/json;" + "a" * 300,
    ],
)
def test_another_media_type_is_unsupported(content_type: str) -> None:
    with pytest.raises(MediaTypeUnsupported) as caught:
        ask("/json", content_type, b'{"name":"An"}')
    assert caught.value.declared == (JSON,)


@pytest.mark.parametrize(
    ("body", "pointer", "rule"),
    [
        (b"", "", "required"),
        (b"{", "", "json"),
        (b'{"name":"An","name":"Binh"}', "", "duplicate-name"),
        (b"[" * 65, "", "depth"),
        (b"{}", "", "required"),
        (b'{"name":"Nguyen"}', "/name", "maxLength"),
        (b'"x"', "", "type"),
    ],
)
def test_a_json_body_that_does_not_fit_is_refused(body: bytes, pointer: str, rule: str) -> None:
    assert (pointer, rule) in rules("/json", JSON, body)


def test_an_optional_body_may_be_absent_but_not_wrong() -> None:
    assert ask("/maybe", "", b"").json_body is None
    assert rules("/maybe", JSON, b"{}")


def test_a_body_is_refused_where_none_is_declared() -> None:
    assert ask("/none", "", b"").json_body is None
    assert rules("/none", JSON, b"{}") == {("", "undeclared")}


def test_json_without_a_schema_is_any_json_within_its_size() -> None:
    assert ask("/any", JSON, b"[1,2]").json_body == [1, 2]
    assert rules("/any", JSON, b"[1,2,3,4,5]") == {("", "size")}
    assert rules("/any", JSON, b"[1,2") == {("", "json")}


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/pdf", b"\x00\xff"),
        ("image/png", b"x" * 100),
        ("multipart/form-data; boundary=x", b"--x--"),
    ],
)
def test_other_bodies_are_judged_by_type_and_size(content_type: str, body: bytes) -> None:
    assert ask("/file", content_type, body).json_body is None


def test_an_opaque_body_over_its_size_is_refused() -> None:
    assert rules("/file", "application/pdf", b"12345") == {("", "size")}
    assert ask("/all", "x/y", b"anything").json_body is None


def test_the_cache_of_media_types_is_bounded() -> None:
    for i in range(100):
        assert ask("/all", f"x/y{i}", b"1").json_body is None


@pytest.mark.parametrize("content_type", ["application/xml", "text/xml; charset=utf-8"])
def test_xml_is_validated_by_its_xsd(content_type: str) -> None:
    assert ask("/xml", content_type, PERSON).json_body is None
    assert ask("/xml", content_type, b'\xef\xbb\xbf<?xml version="1.0" encoding="UTF-8"?><!-- a -->\n' + PERSON)
    assert rules("/xml", content_type, PERSON.replace(b"Binh", b"binh 001099012345"))
    assert rules("/xml", content_type, PERSON.replace(b"1<", b"one<"))


def test_the_document_element_may_be_fixed() -> None:
    other = b'<other xmlns="urn:x">a</other>'
    assert ask("/xml", "text/xml", other)
    assert rules("/xml", "application/xml", other) == {("", "root")}


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        (b"<!DOCTYPE person>" + PERSON, "doctype"),
        (b'<?xml version="1.0"?>\n<!-- x --><?pi a?><!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>', "doctype"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "doctype"),
        (b"\xef\xbb\xbf<!DOCTYPE a><a/>", "doctype"),
        (b"<a", "xml"),
        (b"text", "xml"),
        (b"<a>&e;</a>", "xml"),
        (b"<a>\xff</a>", "xml"),
        ("<a/>".encode("utf-16"), "xml"),
        (b'<?xml version="1.0" encoding="ISO-8859-1"?><a/>', "encoding"),
        (b"<a>" * 65 + b"</a>" * 65, "depth"),
        (b"<a>" * 300 + b"</a>" * 300, "xml"),
    ],
)
def test_dangerous_xml_is_refused(body: bytes, rule: str) -> None:
    assert rules("/xml", "application/xml", body) == {("", rule)}


def test_xml_violations_never_repeat_the_value() -> None:
    with pytest.raises(RequestInvalid) as caught:
        ask("/xml", "text/xml", PERSON.replace(b"Binh", b"secret 1"))
    assert "secret" not in repr(caught.value.violations) + str(caught.value)


def test_repetitions_in_a_row_are_no_reason_to_refuse() -> None:
    pattern = r"([0-9]{10})(-[0-9]{3})?(\\p{L}|[a-z{}]){1,50}|[\\)(]{2,}a{3}{2})"
    for text, fine in ((pattern.removesuffix(")"), True), ("([a-z]{1,40}){1,40}", False)):
        restriction = f'<xs:restriction base="xs:string"><xs:pattern value="{text}"/></xs:restriction>'
        refusal = xsd_refusal(xs(f'<xs:simpleType name="t">{restriction}</xs:simpleType>'), DEFAULT)
        assert (refusal is None or refusal[0] == "xsd") is fine


def xs(inner: str) -> str:
    return f'<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">{inner}</xs:schema>'


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("<a", "xsd"),
        ("<a/>", "xsd"),
        ("<!DOCTYPE a><a/>", "xsd"),
        (xs('<xs:element name="a" type="nowhere"/>'), "xsd"),
        (xs('<xs:import namespace="a" schemaLocation="http://x.test/a.xsd"/>'), "xsd"),
        (xs('<xs:include schemaLocation="/etc/passwd"/>'), "xsd"),
        (xs('<xs:redefine schemaLocation="a.xsd"/>'), "xsd"),
        (xs('<xs:group name="g"><xs:sequence/></xs:group>'), "xsd"),
        (xs('<xs:element name="a" type="xs:string" maxOccurs="1000000"/>'), "over-budget-xsd"),
        (xs('<xs:element name="a" type="xs:string" maxOccurs="x"/>'), "over-budget-xsd"),
        (
            xs(
                '<xs:complexType name="t"><xs:sequence maxOccurs="500"><xs:sequence maxOccurs="500">'
                "<xs:any/></xs:sequence></xs:sequence></xs:complexType>"
            ),
            "over-budget-xsd",
        ),
        (
            xs('<xs:simpleType name="t"><xs:restriction base="xs:string"><xs:pattern value="(a{100}){100}"/>'
               "</xs:restriction></xs:simpleType>"),
            "over-budget-xsd",
        ),
        (
            xs('<xs:simpleType name="t"><xs:restriction base="xs:string"><xs:pattern value="a{1000000}"/>'
               "</xs:restriction></xs:simpleType>"),
            "over-budget-xsd",
        ),
        (xs('<xs:element name="a"/>' * 5_001), "over-budget-xsd"),
        (xs(" " * 300_000), "over-budget-xsd"),
    ],
)  # fmt: skip
def test_an_xsd_that_loads_or_multiplies_is_refused(text: str, code: str) -> None:
    with pytest.raises(ContractRejected) as caught:
        parsed({"/x": {"get": operation(responses={"200": {"description": "", "content": {
            "text/xml": {"x-lienthong-xsd": text}}}})}})  # fmt: skip
    assert code in {fault.code for fault in caught.value.errors}


def check(status: int, content_type: str, body: bytes, identifier: str = "answers", **members: Any) -> AnswerCheck:
    checked = COMPILED.validate_answer(identifier, status, content_type, body, **members)
    if "headers" not in members:
        assert COMPILED.cut_answer(identifier, status, content_type, body, **members) is body
    return checked


def test_declared_answers_are_validated() -> None:
    assert check(200, JSON, b'{"name":"An"}') == AnswerCheck(True, {"name": "An"})
    assert check(200, "text/csv", b"a,b") == AnswerCheck(True, None)
    assert check(204, "", b"") == AnswerCheck(True, None)
    assert check(404, "application/problem+json", b"{}") == AnswerCheck(True, {})
    assert check(200, JSON, b"", head=True) == AnswerCheck(True, None)
    assert check(503, "", b"", "default").declared
    assert check(302, "", b"", "default").declared


def test_an_undeclared_error_status_is_not_an_error_here() -> None:
    assert check(500, "text/html", b"<oops>") == AnswerCheck(False, None)
    assert not COMPILED.declares("answers", 500)
    assert COMPILED.declares("answers", 499)


@pytest.mark.parametrize("status", [100, 201, 301, 600])
def test_any_other_undeclared_status_is_invalid(status: int) -> None:
    for call in (COMPILED.validate_answer, COMPILED.cut_answer):
        with pytest.raises(AnswerUndeclared) as caught:
            call("answers", status, JSON, b"{}")
        assert caught.value.code == "answer-undeclared"


@pytest.mark.parametrize(
    ("status", "content_type", "body", "rule", "head"),
    [
        (200, JSON, b"{}", "required", False),
        (200, JSON, b"", "required", False),
        (200, JSON, b"{", "json", False),
        (200, "text/html", b"{}", "media-type", False),
        (200, "text/csv", b"12345", "size", False),
        (204, JSON, b"{}", "undeclared", False),
        (200, JSON, b"{}", "undeclared", True),
    ],
)
def test_an_answer_that_does_not_fit_is_invalid(
    status: int, content_type: str, body: bytes, rule: str, head: bool
) -> None:
    for call in (COMPILED.validate_answer, COMPILED.cut_answer):
        with pytest.raises(AnswerInvalid) as caught:
            call("answers", status, content_type, body, head=head)
        assert rule in {item.rule for item in caught.value.violations}
        assert caught.value.code == "answer-invalid"


def test_answer_headers_are_validated_when_given() -> None:
    assert check(200, JSON, b'{"name":"An"}', headers=[("x-total", "3")]).declared
    for headers in ([], [("X-Total", "three")]):
        with pytest.raises(AnswerInvalid) as caught:
            check(200, JSON, b'{"name":"An"}', headers=headers)
        assert caught.value.violations[0].where == "header"


def test_the_cache_of_answer_types_is_bounded() -> None:
    for i in range(100):
        assert check(200, f"x/y{i}", b"1", "opaque").declared


def test_a_schema_or_xsd_that_an_engine_refuses_makes_no_compiled_contract() -> None:
    for name, broken in (("json", {"schema": {"type": 3}}), ("xml", {"xsd": "<a/>"})):
        wrong = CONTRACT.operations[name]
        wrong = replace(wrong, request=tuple(replace(one, **broken) for one in wrong.request))
        with pytest.raises(ContractRejected) as caught:
            compile_contract(replace(CONTRACT, operations={name: wrong}))
        assert caught.value.errors[0].pointer == wrong.request[0].pointer


def test_a_schema_that_nothing_fits_is_enforced() -> None:
    with pytest.raises(AnswerInvalid):
        COMPILED.validate_answer("closed", 200, JSON, b"{}")


def test_unknown_operations_are_told() -> None:
    for call in (
        lambda: COMPILED.validate_answer("nowhere", 200, JSON, b""),
        lambda: COMPILED.cut_answer("nowhere", 200, JSON, b""),
        lambda: COMPILED.declares("nowhere", 200),
    ):
        with pytest.raises(OperationUnknown):
            call()


def test_errors_carry_what_an_answer_needs() -> None:
    with pytest.raises(RequestInvalid) as caught:
        ask("/json", JSON, b'{"name":"Nguyen"}')
    assert "must have at most 5 characters" in str(caught.value)
    assert (caught.value.code, caught.value.disposition) == ("request-invalid", "reject")


@given(st.text(max_size=20))
def test_no_content_type_crashes_the_parser(text: str) -> None:
    found = parse_media_type(text)
    assert found is None or found[0] == found[0].lower()


@given(st.text(max_size=10), st.text(st.sampled_from(' abc"\\;='), max_size=10))
def test_quoted_parameters_survive(name: str, text: str) -> None:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    assert parse_media_type(f'a/b; p="{escaped}"') == ("a/b", {"p": text})


@given(st.binary(max_size=60))
def test_no_body_crashes_a_validator(body: bytes) -> None:
    for path, content_type in (("/json", JSON), ("/xml", "text/xml"), ("/any", JSON)):
        try:
            ask(path, content_type, body)
        except RequestInvalid as error:
            json.dumps([item._asdict() for item in error.violations])
