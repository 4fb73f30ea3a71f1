"""What the front reads and writes as text: headers that travel, targets, problems."""

import json
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus import errors
from bus.errors import RequestMalformed
from bus.front.headers import answer_headers, travelling
from bus.front.problem import problem_body, problem_response
from bus.front.services import is_directory_target
from bus.front.target import Target, client_of, parse_target
from evidence.identifiers import ServiceId

# --- headers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "User-Agent",
        "Content-Length",
        "Content-Type",
        "Content-Encoding",
        "Accept-Encoding",
        "Expect",
        "Server",
        "Date",
        "Cookie",
        "Forwarded",
        "Prefer",
        "Connection",
        "Keep-Alive",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "Proxy-Authorization",
        "X-LienThong-Key",
        "X-LienThong-Purpose",
        "X-Road-Client",
        "X-Road-Request-Id",
        "X-Road-Request-Hash",
        "X-GovStack-Client",
        "X-Forwarded-For",
        "X-HTTP-Method-Override",
        "X-Original-URL",
        "X-Rewrite-Url",
        "traceparent",
    ],
)
def test_a_header_of_the_gateway_does_not_travel(name):
    for spelling in (name, name.upper(), name.lower()):
        assert travelling([(spelling.encode(), b"x")]) == ()


def test_the_users_own_headers_travel_in_order():
    sent = [(b"Accept", b"a/b"), (b"Authorization", b"Bearer x"), (b"If-None-Match", b'"1"'), (b"ACCEPT", b"c/d")]
    assert travelling(sent) == (
        ("accept", "a/b"),
        ("authorization", "Bearer x"),
        ("if-none-match", '"1"'),
        ("accept", "c/d"),
    )


def test_headers_that_connection_names_do_not_travel():
    sent = [(b"X-One", b"1"), (b"Connection", b"x-one, X-Two ,close"), (b"X-Two", b"2"), (b"X-Three", b"3")]
    assert travelling(sent) == (("x-three", "3"),)


@given(st.lists(st.tuples(st.binary(max_size=12), st.binary(max_size=12)), max_size=5))
def test_any_headers_become_text_that_can_be_sealed(raw):
    for name, value in travelling(raw):
        assert (name + value).encode().decode() == name + value
        assert not name.startswith(("x-road-", "x-lienthong-", "x-forwarded-"))


def test_headers_of_the_back_end_that_pass():
    sent = [
        ("ETag", '"1"'),
        ("Set-Cookie", "a=b"),
        ("Server", "x"),
        ("X-Road-Error", "x"),
        ("X-Powered-By", "x"),
        ("Content-Length", "3"),
        ("Transfer-Encoding", "chunked"),
    ]
    assert answer_headers(sent) == [("ETag", '"1"')]


# --- targets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "target"),
    [
        ("/r1/VN/GOV/G01/pop/citizens", Target("VN/GOV/G01/pop/citizens", "", "")),
        ("/r1/VN/GOV/G01/pop/citizens/", Target("VN/GOV/G01/pop/citizens", "/", "")),
        ("/r1/VN/GOV/G01/pop/citizens?", Target("VN/GOV/G01/pop/citizens", "", "")),
        ("/r1/VN/GOV/G01/pop/citizens/a//b/../%2e?x=1?y", Target("VN/GOV/G01/pop/citizens", "/a//b/../%2e", "x=1?y")),
        ("/r1/VN/GOV/000.00.18.G12/pop/v%31", Target("VN/GOV/000.00.18.G12/pop/v1", "", "")),
        ("/r1/VN/GOV/G01/d%C3%A2n/c", Target("VN/GOV/G01/d%C3%A2n/c", "", "")),
    ],
)
def test_a_target_is_split_first_and_decoded_after(raw, target):
    assert parse_target(raw) == target


@pytest.mark.parametrize(
    "raw",
    [
        "/r1",
        "/r1/VN/GOV/G01/pop",
        "/r1/VN/GOV/G01//citizens",
        "/r1/VN/GOV/G01/pop/?x",
        "/r1/VN/GOV/G01/pop/c%",
        "/r1/VN/GOV/G01/pop/c%2",
        "/r1/VN/GOV/G01/pop/c%zz",
        "/r1/VN/GOV/G01/pop/%FF",
        "/r1/VN/GOV/G01/pop/a%2Fb",
        "/r1/VN/GOV/G01/pop/a%00b",
        "/r1/VN/GOV/G01/pop/..",
        "/r1/VN:GOV:G01:pop:citizens",
        "/r1/VN:GOV/G01/pop/citizens/x",
        "/r1/VN/GOV/G01/pop/" + "a" * 3000,
        "/r1/VN/GOV/G01/pop/\udcff",
    ],
)
def test_a_target_that_can_be_read_in_two_ways_is_refused(raw):
    with pytest.raises(RequestMalformed):
        parse_target(raw)


segments = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)


@given(st.text(max_size=60))
def test_any_target_is_read_or_refused(raw):
    try:
        target = parse_target(raw)
    except RequestMalformed:
        return
    assert str(ServiceId.parse(target.service)) == target.service
    assert target.path == "" or target.path.startswith("/")


@pytest.mark.parametrize("text", ["VN/GOV/H37/onedoor", "VN:GOV:H37:onedoor", "VN/GOV/H37/one%64oor"])
def test_a_client_is_named_in_slash_or_colon_form(text):
    assert client_of(text) == "VN/GOV/H37/onedoor"


@pytest.mark.parametrize(
    "text", ["", "VN/GOV/H37", "VN/GOV/H37/@n1", "VN:GOV:H37:one:door", "VN/GOV/H37/a/b", "VN/GOV/H37/%", "a" * 5000]
)
def test_what_names_no_subsystem_is_refused(text):
    with pytest.raises(RequestMalformed):
        client_of(text)


@pytest.mark.parametrize(
    "raw",
    [
        "/listClients",
        "/listClients?xRoadInstance=VN",
        "/r1/listClients",
        "/r1/VN/GOV/G01/pop/getWsdl?serviceCode=c",
        "/r1/VN/GOV/G01/pop/listMethods",
        "/r1/VN/GOV/G01/pop/listMethods/",
        "/r1/VN/GOV/G01/pop/allowedMethods?x",
        "/r1/VN/GOV/G01/pop/getOpenAPI?serviceCode=c",
        "/r1/////listMethods",
    ],
)
def test_a_directory_service(raw):
    assert is_directory_target(raw)


@pytest.mark.parametrize(
    "raw",
    [
        "/listClientsX",
        "/listClients/x",
        "/r1/VN/GOV/G01/pop/listMethodsX",
        "/r1/VN/GOV/G01/pop/citizens/listMethods",
        "/r1/VN/GOV/G01/listMethods",
        "/r1/VN/GOV/G01/pop/x?/listMethods",
        "/r1/VN/GOV/G01/pop/list%4Dethods",
        "/x/listClients",
    ],
)
def test_no_directory_service(raw):
    assert not is_directory_target(raw)


# --- problems -------------------------------------------------------------------------------------------------------


def full() -> errors.BusError:
    error = errors.AccessDenied("not <you> & yours", record_id="the-id")
    error.rule, error.reason_code = "VN/GOV/G01/a/b#x", "purpose-not-granted"
    error.violations = [{"where": "body", "pointer": "/id", "rule": "type", "message": "x"}]
    return error


def test_a_problem_has_both_worlds_members():
    assert problem_body(full()) == {
        "type": "Server.ServerProxy.AccessDenied",
        "code": "access-denied",
        "title": "Access is denied by the provider",
        "status": 403,
        "detail": "not <you> & yours",
        "message": "not <you> & yours",
        "help": "docs/errors.md#access-denied",
        "instance": "the-id",
        "acted": "no",
        "reason": "purpose-not-granted",
        "rule": "VN/GOV/G01/a/b#x",
        "violations": [{"where": "body", "pointer": "/id", "rule": "type", "message": "x"}],
    }
    assert set(problem_body(errors.InternalError())) == {
        "type",
        "code",
        "title",
        "status",
        "detail",
        "message",
        "help",
    }


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "application/problem+json"),
        ("*/*", "application/problem+json"),
        ("application/json", "application/json"),
        ("application/xml, application/json", "application/json"),
        ("application/xml", "application/problem+xml"),
        ("text/xml;q=0.9", "application/problem+xml"),
    ],
)
def test_a_problem_comes_as_it_was_asked_for(accept, kind):
    response = problem_response(full(), accept)
    assert response.status == 403
    assert response.headers["Content-Type"] == kind
    assert response.headers["X-Road-Error"] == "Server.ServerProxy.AccessDenied"
    assert response.headers["x-road-request-id"] == "the-id"
    assert response.headers["Cache-Control"] == "no-store"
    if kind.endswith("xml"):
        root = ET.fromstring(response.body)
        space = "{urn:ietf:rfc:7807}"
        assert root.tag == f"{space}problem"
        assert root.findtext(f"{space}detail") == "not <you> & yours"
        assert root.find(f"{space}violations") is None
    else:
        assert json.loads(response.body) == problem_body(full())


def test_a_problem_says_when_and_how_to_try_again():
    assert problem_response(errors.QuotaExceeded()).headers["Retry-After"] == "1"
    assert "Retry-After" not in problem_response(errors.AccessDenied()).headers
    assert problem_response(errors.CredentialsMissing()).headers["WWW-Authenticate"].startswith("LienThong-Key ")
    assert "WWW-Authenticate" not in problem_response(errors.AccessDenied()).headers
    refused = errors.MethodNotAllowed()
    refused.allowed = ("GET", "HEAD")
    assert problem_response(refused).headers["Allow"] == "GET, HEAD"


@given(st.text(max_size=30))
def test_any_detail_makes_a_readable_problem(detail):
    error = errors.AccessDenied(detail)
    assert json.loads(problem_response(error).body)["status"] == 403
    ET.fromstring(problem_response(error, "application/xml").body)
