"""Client systems that do odd, wrong or hostile things on `/r1`: stable codes, no 500, nothing hostile reaches a back end.

Requests are written byte by byte to a TLS socket where an HTTP library would repair them.
"""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import re
import socket
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from forging import Stand
from world import Answer, Received, World, wait_until

R1 = "/r1/VN-TEST/GOV/G01/desk/notes"


def raw(stand: Stand, data: bytes, code: str = "H37") -> Answer:
    """Writes `data` to the front and reads one answer."""
    member = stand.world.member(code)
    with (
        socket.create_connection(member.front, timeout=20) as plain,
        member.tls().wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        connection.sendall(data)
        got = http.client.HTTPResponse(connection, method=data.partition(b" ")[0].decode("latin-1"))
        got.begin()
        return Answer(got.status, {name.lower(): value for name, value in got.getheaders()}, got.read())


def request_bytes(stand: Stand, target: str | bytes, *lines: str | bytes, method: str = "GET", body: bytes = b"",
                  client: bool = True, key: bool = True) -> bytes:  # fmt: skip
    """A request with the credentials of the client system, and further header lines as they are given."""
    head = [method.encode() + b" " + _latin(target) + b" HTTP/1.1", b"Host: gateway", b"Connection: close"]
    if key:
        head.append(f"X-LienThong-Key: {stand.client.key}".encode())
    if client:
        head.append(f"X-Road-Client: {stand.client.subsystem}".encode())
    if body:
        head.append(b"Content-Length: %d" % len(body))
    head += [_latin(line) for line in lines]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def _latin(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")


def ask(stand: Stand, target: str | bytes, *lines: str | bytes, **options: object) -> Answer:
    return raw(stand, request_bytes(stand, target, *lines, **options))  # type: ignore[arg-type]


def refused(stand: Stand, answer: Answer, status: int, code: str, reached: int) -> None:
    """One stable form for every refusal, and nothing reached the back end."""
    assert (answer.status, answer.code) == (status, code), answer
    problem = answer.json()
    assert problem["type"] == answer.headers["x-road-error"]
    assert problem["status"] == status
    assert problem["detail"] == problem["message"]
    assert problem["help"] == f"docs/errors.md#{code}"
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert answer.headers["cache-control"] == "no-store"
    assert "Traceback" not in answer.body.decode()
    assert len(stand.world.backend.received) == reached


@pytest.fixture
def reached(stand: Stand) -> int:
    return len(stand.world.backend.received)


@pytest.fixture
def answers(stand: Stand) -> Iterator[dict[str, object]]:
    """What the back end answers, for one test."""
    yield stand.world.backend.answers
    stand.world.backend.answers.clear()


# --- who calls ------------------------------------------------------------------------------------------------------


def test_without_a_client_header(stand: Stand, reached: int) -> None:
    refused(stand, ask(stand, f"{R1}/notes/1", client=False), 400, "client-header-missing", reached)


@pytest.mark.parametrize(
    "value",
    ["", "VN-TEST", "VN-TEST/GOV/H37", "VN-TEST/GOV/H37/onedoor/service", "VN-TEST//H37/onedoor", "//", "a/b/c/",
     "VN-TEST/GOV/H37/onedoor%", "VN-TEST/GOV/H37/onedoor%2", "VN-TEST/GOV/H37/one%2Fdoor", "VN-TEST/GOV/H37/%00",
     "VN-TEST/GOV/H37/..", "VN-TEST/GOV/H37/%2e%2e", "x" * 3000, "VN-TEST/GOV/H37/one\xffdoor"],
)  # fmt: skip
def test_a_malformed_client_header(stand: Stand, reached: int, value: str) -> None:
    answer = ask(stand, f"{R1}/notes/1", f"X-Road-Client: {value}", client=False)
    assert answer.status in (400, 403), answer
    refused(stand, answer, answer.status, "request-malformed" if answer.status == 400 else "client-forbidden", reached)


def test_alias_and_client_header_that_agree_are_one_client(stand: Stand) -> None:
    assert ask(stand, f"{R1}/notes/1", f"X-GovStack-Client: {stand.client.subsystem}").status == 200
    assert ask(stand, f"{R1}/notes/1", f"X-GovStack-Client: {stand.client.subsystem}", client=False).status == 200
    assert ask(stand, f"{R1}/notes/1", "X-GovStack-Client: VN-TEST:GOV:H37:onedoor").status == 200


@pytest.mark.parametrize("name", ["X-GovStack-Client", "X-Road-Client", "x-road-client"])
def test_two_clients_in_one_request(stand: Stand, reached: int, name: str) -> None:
    answer = ask(stand, f"{R1}/notes/1", f"{name}: VN-TEST/GOV/E66/onedoor")
    refused(stand, answer, 400, "client-header-conflict", reached)


def test_the_client_header_in_colon_form_and_percent_encoded(stand: Stand) -> None:
    for text in ("VN-TEST:GOV:H37:onedoor", "VN-TEST/GOV/H37/%6Fnedoor", "VN%2DTEST/GOV/%48%33%37/onedoor"):
        answer = ask(stand, f"{R1}/notes/1", f"X-Road-Client: {text}", client=False)
        assert (answer.status, answer.headers["x-road-client"]) == (200, "VN-TEST/GOV/H37/onedoor"), text


@pytest.mark.parametrize("client", ["VN-TEST/GOV/H37/other", "VN-TEST/GOV/G01/desk", "VN-TEST/GOV/H37/Onedoor"])
def test_a_client_system_cannot_speak_as_another_subsystem(stand: Stand, reached: int, client: str) -> None:
    answer = ask(stand, f"{R1}/notes/1", f"X-Road-Client: {client}", client=False)
    refused(stand, answer, 403, "client-forbidden", reached)


def test_without_credentials(stand: Stand, reached: int) -> None:
    answer = ask(stand, f"{R1}/notes/1", key=False)
    refused(stand, answer, 401, "credentials-missing", reached)
    assert answer.headers["www-authenticate"].startswith("LienThong-Key")


@pytest.mark.parametrize(
    "key", ["", "app", "app.", "app.wrong", "nobody.x", ".", "app.\xff", "\xff", "app." + "x" * 500, "app.x y"]
)
def test_wrong_credentials(stand: Stand, reached: int, key: str) -> None:
    answer = ask(stand, f"{R1}/notes/1", f"X-LienThong-Key: {key}", key=False)
    # the sixth wrong key of one name within its time is not even looked at
    told = (429, "guessing-locked") if answer.status == 429 else (401, "credentials-invalid")
    refused(stand, answer, *told, reached)


def test_the_key_in_the_query_is_no_credential(stand: Stand, reached: int) -> None:
    answer = ask(stand, f"{R1}/notes/1?X-LienThong-Key={stand.client.key}", key=False)
    refused(stand, answer, 401, "credentials-missing", reached)
    assert stand.client.key not in answer.body.decode()


# --- whom it calls --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "status", "code"),
    [
        ("VN-OTHER/GOV/G01/desk/notes", 404, "instance-unknown"),
        ("VN-TEST/GOV/NOBODY/desk/notes", 404, "member-unknown"),
        ("VN-TEST/COM/G01/desk/notes", 404, "member-unknown"),
        ("VN-TEST/GOV/G01/nodesk/notes", 404, "service-unknown"),
        ("VN-TEST/GOV/G01/desk/nothing", 404, "service-unknown"),
        ("VN-TEST/GOV/G01/desk/Notes", 404, "service-unknown"),
        ("VN-TEST/GOV/G01/desk/n%20otes", 404, "service-unknown"),
        ("VN-TEST/GOV/G01/desk", 400, "request-malformed"),
        ("VN-TEST/GOV/G01/desk/", 400, "request-malformed"),
        ("VN-TEST/GOV//desk/notes", 400, "request-malformed"),
        ("VN-TEST/GOV/G01/desk/%", 400, "request-malformed"),
        ("VN-TEST/GOV/G01/desk/%2", 400, "request-malformed"),
        ("VN-TEST/GOV/G01/desk/%zz", 400, "request-malformed"),
        ("VN-TEST/GOV/G01/desk/%ff", 400, "request-malformed"),
        ("VN-TEST/GOV/G01/desk/no\xfftes", 400, "request-malformed"),
        ("VN-TEST/GOV/G01/desk/no\xc3\xa9tes", 400, "request-malformed"),
    ],
)
def test_a_service_that_cannot_be_called(stand: Stand, reached: int, service: str, status: int, code: str) -> None:
    answer = ask(stand, f"/r1/{service}" + ("/notes/1" if service.count("/") > 3 else ""))
    if code == "service-unknown" and answer.code == "request-malformed":
        code, status = "request-malformed", 400
    refused(stand, answer, status, code, reached)


@pytest.mark.parametrize("part", ["notes%2F..%2Fnotes", "..", "%2e%2e", ".", "notes;x", "notes%00", "notes\\", "a:b"])
def test_tricks_in_the_service_part_are_never_a_known_service(stand: Stand, reached: int, part: str) -> None:
    answer = ask(stand, f"/r1/VN-TEST/GOV/G01/desk/{part}/notes/1")
    assert answer.status in (400, 404), answer
    assert answer.code in ("request-malformed", "service-unknown", "path-refused")
    assert len(stand.world.backend.received) == reached


def test_percent_encoded_identifier_parts_name_the_same_service(stand: Stand) -> None:
    answer = ask(stand, "/r1/%56N-TEST/GOV/G%30%31/desk/%6Eotes/notes/encoded")
    assert (answer.status, answer.headers["x-road-service"]) == (200, "VN-TEST/GOV/G01/desk/notes")
    assert stand.world.backend.received[-1].target == "/notes/encoded"


def test_an_operation_that_the_contract_does_not_have(stand: Stand, reached: int) -> None:
    refused(stand, ask(stand, f"{R1}/nothing"), 404, "operation-unknown", reached)
    assert ask(stand, R1).code in ("operation-unknown", "path-refused")
    assert len(stand.world.backend.received) == reached


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
def test_a_method_that_the_contract_does_not_have(stand: Stand, reached: int, method: str) -> None:
    answer = ask(stand, f"{R1}/notes/1", method=method)
    refused(stand, answer, 405, "method-not-allowed", reached)
    assert answer.headers["allow"] == "DELETE, GET, HEAD"


def test_connect_is_not_a_tunnel(stand: Stand, reached: int) -> None:
    answer = ask(stand, "127.0.0.1:1", method="CONNECT")
    assert answer.status in (400, 404, 405)
    assert len(stand.world.backend.received) == reached


# --- queries and headers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    ["q=a%20b", "q=a+b", "q=%C4%90%E1%BB%93ng", "q=a%2Fb", "q=a:b@c,d!$'()*~", "q=%26%3D", "q=", "q=a/b?c", "q=%00"],
)
def test_an_odd_query_arrives_byte_for_byte_or_is_refused(stand: Stand, reached: int, query: str) -> None:
    answer = ask(stand, f"{R1}/notes/1?{query}")
    if answer.status == 200:
        assert stand.world.backend.received[-1].target == f"/notes/1?{query}"
    else:
        refused(stand, answer, 400, "request-invalid", reached)
        assert query == "q=%00"


@pytest.mark.parametrize(
    "query", ["q", "q=1&q=2", "x=1", "q=%", "q=%f", "q=%ff", "q=a;b", "q=a#b", "=1", "&", "q=a\\b", "q=a|b",
              "q=1&" * 1001, 'q="', "q=<script>", "q[]=1", "Q=1"],
)  # fmt: skip
def test_a_query_that_servers_read_in_different_ways_is_refused(stand: Stand, reached: int, query: str) -> None:
    refused(stand, ask(stand, f"{R1}/notes/1?{query}"), 400, "request-invalid", reached)


def test_a_lone_question_mark_is_no_query(stand: Stand) -> None:
    assert ask(stand, f"{R1}/notes/lone?").status == 200
    assert stand.world.backend.received[-1].target == "/notes/lone"


HOSTILE = [
    "X-Forwarded-For: 10.0.0.1", "X-Forwarded-Host: evil", "Forwarded: for=1.2.3.4", "X-HTTP-Method-Override: DELETE",
    "X-Original-URL: /admin/1", "X-Rewrite-URL: /admin/1", "X-HTTP-Method: DELETE", "X-Method-Override: DELETE",
    "X_HTTP_Method_Override: DELETE", "X_Forwarded_For: 10.0.0.1", "x_lienthong_key: k", "X_Road_UserId: boss",
    "Cookie: session=1", "Proxy-Authorization: Basic eDp5", "Proxy-Connection: x", "Keep-Alive: 5", "TE: trailers",
    "Trailer: X-T", "Upgrade: websocket", "HTTP2-Settings: AAAA", "Via: 1.1 x", "User-Agent: ua", "Server: s",
    "X-Road-Request-Id: 00000000-0000-0000-0000-000000000000", "X-Road-Request-Hash: AAAA",
    "X-Road-Service: VN-TEST/GOV/H37/x/y", "X-Road-Error: none", "X-GovStack-Other: 1", "X-LienThong-Other: 1",
    "Accept-Encoding: gzip", "X-Dropped: by connection", "Date: Mon, 01 Jan 2024 00:00:00 GMT",
    "X-Real-IP: 10.0.0.1", "True-Client-IP: 10.0.0.1", "X-Client-IP: 10.0.0.1", "X-Original-Host: evil",
]  # fmt: skip


def test_headers_that_must_not_travel_do_not_reach_the_back_end(stand: Stand) -> None:
    data = request_bytes(
        stand, f"{R1}/notes/headers", *HOSTILE, "Authorization: Bearer of-the-back-end", "X-Note: travels",
        "If-None-Match: \"1\"", "Accept-Language: vi",
    ).replace(b"Connection: close", b"Connection: close, x-dropped")  # fmt: skip
    assert raw(stand, data).status == 200
    got = stand.world.backend.received[-1]
    assert got.target == "/notes/headers"
    kept = {name.lower(): value for name, value in got.headers}
    assert kept.pop("host").startswith("127.0.0.1:")
    record = kept.pop("x-road-id")
    assert kept == {
        "accept-encoding": "identity",
        "accept-language": "vi",
        "authorization": "Bearer of-the-back-end",
        "if-none-match": '"1"',
        "x-note": "travels",
        "x-road-client": "VN-TEST/GOV/H37/onedoor",
        "x-road-request-id": record,
        "x-road-service": "VN-TEST/GOV/G01/desk/notes",
    }
    assert stand.client.key not in str(got)


def test_a_clients_own_request_id_is_discarded_and_the_answer_names_the_record(stand: Stand) -> None:
    forged = "00000000-0000-0000-0000-000000000000"
    answer = ask(
        stand, f"{R1}/notes/1", f"X-Road-Request-Id: {forged}", "X-Road-Request-Hash: AAAA", "X-Road-Id: mine-7"
    )
    assert answer.headers["x-road-id"] == "mine-7"
    assert re.fullmatch(
        r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", answer.headers["x-road-request-id"]
    )
    assert answer.headers["x-road-client"] == "VN-TEST/GOV/H37/onedoor"
    assert answer.headers["x-road-service"] == "VN-TEST/GOV/G01/desk/notes"
    assert len(answer.headers["x-road-request-hash"]) == 88
    assert answer.headers["x-road-request-hash"] != "AAAA"
    assert "x-road-error" not in answer.headers
    assert forged not in str(stand.world.backend.received[-1])
    assert stand.world.backend.received[-1].header("X-Road-Request-Id") == answer.headers["x-road-request-id"]


@pytest.mark.parametrize(
    "line",
    [b"X-Road-Id: \xff", b"X-Road-Id: \xe1\xbb\x93", b"X-Road-UserId: \xff", b"X-Road-Issue: \xed\xa0\x80",
     b"X-LienThong-Purpose: \xff", b"X-Note: \xff\xfe", b"Content-Type: \xff", b"Content-Type: text/\xe1\xbb\x93",
     b"Accept: \xff", b"traceparent: \xff", b"X-Road-Represented-Party: \xff", b"Content-Encoding: \xff",
     b"X-N\xffte: 1", b"X-Road-Id: " + b"x" * 2000],
)  # fmt: skip
def test_bytes_that_are_no_text_never_make_the_gateway_fail(stand: Stand, line: bytes) -> None:
    answer = ask(stand, f"{R1}/notes/1", line)
    assert answer.status in (200, 400, 415, 431), answer
    if answer.status != 200:
        assert answer.code in ("request-malformed", "content-encoding-unsupported", "header-too-large"), answer


def test_headers_over_the_limit(stand: Stand, reached: int) -> None:
    many = [f"X-Note-{at}: {'x' * 1000}" for at in range(40)]
    refused(stand, ask(stand, f"{R1}/notes/1", *many), 431, "header-too-large", reached)
    refused(stand, ask(stand, f"{R1}/notes/1", "X-Road-UserId: " + "x" * 1025), 431, "header-too-large", reached)


@pytest.mark.parametrize("name", ["X-Note", "X-Road-Client", "Cookie"])
def test_one_enormous_header(stand: Stand, reached: int, name: str) -> None:
    answer = ask(stand, f"{R1}/notes/1", f"{name}: {'x' * 40_000}")
    refused(stand, answer, 431, "header-too-large", reached)


def test_more_headers_than_anybody_needs(stand: Stand, reached: int) -> None:
    answer = ask(stand, f"{R1}/notes/1", *(f"X-{at}: 1" for at in range(500)))
    refused(stand, answer, 431, "header-too-large", reached)


def test_an_enormous_target(stand: Stand, reached: int) -> None:
    answer = ask(stand, f"{R1}/notes/{'x' * 40_000}")
    assert answer.status in (400, 414, 431), answer
    assert answer.code in ("header-too-large", "path-refused", "request-malformed"), answer
    assert len(stand.world.backend.received) == reached


@pytest.mark.parametrize(
    "data",
    [b"GARBAGE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET  /r1 HTTP/1.1\r\n\r\n", b"\x16\x03\x01\r\n\r\n",
     b"GET /r1/ HTTP/1.1\r\nHost: x\r\nBad Header: y\r\n\r\n", b"GET /r1/ HTTP/1.1\r\nHost x\r\n\r\n",
     b"POST /r1/ HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
     b"POST /r1/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
     b"POST /r1/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     b"POST /r1/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
     b"GET /r1/\x01 HTTP/1.1\r\nHost: x\r\n\r\n", b"get /r1/ HTTP/1.1\r\nHost: x\r\n\r\n",
     b"GET /r1/?q=\xff HTTP/1.1\r\nHost: x\r\n\r\n"],
)  # fmt: skip
def test_what_is_not_http_gets_a_plain_refusal_without_insides(stand: Stand, reached: int, data: bytes) -> None:
    answer = raw(stand, data)
    assert 400 <= answer.status < 500, answer
    text = answer.body.decode()
    assert answer.code, answer
    assert not re.search(r"Traceback|aiohttp|\.py|Python|site-packages", text + str(answer.headers)), text
    assert len(stand.world.backend.received) == reached


def test_a_request_smuggled_behind_a_refused_one_is_not_served(stand: Stand, reached: int) -> None:
    inner = request_bytes(stand, f"{R1}/notes/smuggled")
    head = request_bytes(
        stand, f"{R1}/notes", f"Content-Length: {len(inner)}", "Transfer-Encoding: chunked",
        "Content-Type: application/json", method="POST",
    ).replace(b"Connection: close\r\n", b"")  # fmt: skip
    answer = raw(stand, head + b"0\r\n\r\n" + inner)
    assert answer.status == 400
    assert len(stand.world.backend.received) == reached


# --- bodies ---------------------------------------------------------------------------------------------------------


def post(stand: Stand, body: bytes, *lines: str, length: bool = True) -> Answer:
    data = request_bytes(stand, f"{R1}/notes", "Content-Type: application/json", *lines, method="POST", body=b"")
    if length:
        data = data.replace(b"\r\n\r\n", b"\r\nContent-Length: %d\r\n\r\n" % len(body))
    return raw(stand, data + body)


def test_a_gzip_body_arrives_decoded(stand: Stand) -> None:
    body = json.dumps({"text": "xin chào " * 100}).encode()
    assert post(stand, gzip.compress(body), "Content-Encoding: gzip").status == 200
    got = stand.world.backend.received[-1]
    assert got.body == body
    assert got.header("Content-Encoding") is None
    assert got.header("Content-Length") == str(len(body))


def test_a_gzip_bomb_is_refused(stand: Stand, reached: int) -> None:
    bomb = gzip.compress(b'{"text":"' + b"x" * 200_000_000 + b'"}', 9)
    assert len(bomb) < 400_000
    before_kb = peak_kb(stand)
    refused(stand, post(stand, bomb, "Content-Encoding: gzip"), 413, "body-too-large", reached)
    assert peak_kb(stand) - before_kb < 50_000, "the gateway unpacked more than it may"


def peak_kb(stand: Stand) -> int:
    """Most memory that the client's gateway ever had."""
    process = stand.world.member("H37").process
    assert process is not None
    lines = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


@pytest.mark.parametrize(
    "body",
    [b"no gzip", gzip.compress(b'{"text":""}')[:-4], gzip.compress(b'{"text":""}') + b"tail",
     gzip.compress(b'{"text":"a"}') + gzip.compress(b" "), zlib.compress(b'{"text":""}')],
    ids=("no gzip", "cut", "more behind", "two members", "zlib"),
)  # fmt: skip
def test_a_damaged_gzip_body_is_refused(stand: Stand, reached: int, body: bytes) -> None:
    refused(stand, post(stand, body, "Content-Encoding: gzip"), 400, "request-malformed", reached)


@pytest.mark.parametrize("coding", ["deflate", "br", "zstd", "gzip, gzip", "compress", "identity, gzip", "x"])
def test_other_content_codings_are_415(stand: Stand, reached: int, coding: str) -> None:
    body = zlib.compress(b'{"text":"a"}')
    answer = post(stand, body, f"Content-Encoding: {coding}")
    refused(stand, answer, 415, "content-encoding-unsupported", reached)


def test_a_body_over_the_limit_is_refused_with_and_without_a_length(stand: Stand, reached: int) -> None:
    large = 4 * 1024 * 1024 + 1
    announced = request_bytes(stand, f"{R1}/notes", f"Content-Length: {large}", method="POST")
    refused(stand, raw(stand, announced + b"x" * large), 413, "body-too-large", reached)
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    head = request_bytes(stand, f"{R1}/notes", "Transfer-Encoding: chunked", method="POST")
    refused(stand, raw(stand, head + chunk * 70 + b"0\r\n\r\n"), 413, "body-too-large", reached)


def test_a_body_is_refused_before_it_is_sent_when_its_length_is_too_large(stand: Stand, reached: int) -> None:
    answer = raw(stand, request_bytes(stand, f"{R1}/notes", "Content-Length: 99999999999", method="POST"))
    refused(stand, answer, 413, "body-too-large", reached)


def test_a_chunked_body_arrives_with_a_length(stand: Stand) -> None:
    head = request_bytes(
        stand, f"{R1}/notes", "Transfer-Encoding: chunked", "Content-Type: application/json", method="POST"
    )
    assert raw(stand, head + b'5\r\n{"tex\r\n8;x=y\r\nt":"abc"\r\n1\r\n}\r\n0\r\n\r\n').status == 200
    got = stand.world.backend.received[-1]
    assert got.body == b'{"text":"abc"}'
    assert got.header("Transfer-Encoding") is None


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        pytest.param(b'{"text":"a","text":"b"}', "duplicate-name", id="duplicate-key"),
        pytest.param(b'{"text":"a","x":' + b"[" * 100 + b"]" * 100 + b"}", "depth", id="too-deep"),
        pytest.param(b"[" * 200_000, "depth", id="bomb"),
        pytest.param(b'{"text":"a"', "json", id="cut-off"),
        pytest.param(b'{"text":NaN}', "json", id="nan"),
        pytest.param(b'{"text":"\xff"}', "json", id="not-utf8"),
        pytest.param(b'{"text":"a"}{"text":"b"}', "json", id="two-values"),
        pytest.param(b"\xef\xbb\xbf" + b'{"text":"a"}', "json", id="byte-order-mark"),
        pytest.param(b'{"text":1e999}', "json", id="infinite"),
        pytest.param(b'{"text":1}', "type", id="wrong-type"),
        pytest.param(b'{"tekst":"a"}', "required", id="missing"),
    ],
)
def test_json_that_parsers_read_in_different_ways_is_refused(
    stand: Stand, reached: int, body: bytes, rule: str
) -> None:
    answer = post(stand, body)
    refused(stand, answer, 400, "request-invalid", reached)
    assert answer.json()["violations"][0]["rule"] == rule, answer.body


@pytest.mark.parametrize("chunks", [b"zz\r\n", b"5\r\nabc", b"-1\r\n\r\n", b"5\r\nabcdefgh\r\n0\r\n\r\n"])
def test_a_body_that_is_framed_wrongly_is_refused(stand: Stand, reached: int, chunks: bytes) -> None:
    head = request_bytes(
        stand, f"{R1}/notes", "Transfer-Encoding: chunked", "Content-Type: application/json", method="POST"
    )
    member = stand.world.member("H37")
    with (
        socket.create_connection(member.front, timeout=20) as plain,
        member.tls().wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        connection.sendall(head + chunks)
        if chunks == b"5\r\nabc":
            return  # the client goes away in the middle: there is nobody to answer
        got = http.client.HTTPResponse(connection)
        got.begin()
        assert got.status == 400
        assert json.loads(got.read())["code"] == "request-malformed"
    assert len(stand.world.backend.received) == reached


def test_violations_never_repeat_the_value(stand: Stand, reached: int) -> None:
    answer = post(stand, b'{"text":987654321098765}')
    refused(stand, answer, 400, "request-invalid", reached)
    assert b"987654321098765" not in answer.body


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "", "application/json; charset=utf-16", "*/*"])
def test_a_media_type_that_the_contract_does_not_declare(stand: Stand, reached: int, kind: str) -> None:
    data = request_bytes(stand, f"{R1}/notes", f"Content-Type: {kind}", method="POST", body=b'{"text":"a"}')
    refused(stand, raw(stand, data), 415, "media-type-unsupported", reached)


def test_a_body_where_none_belongs_is_refused(stand: Stand, reached: int) -> None:
    refused(stand, ask(stand, f"{R1}/notes/1", body=b"{}"), 400, "request-invalid", reached)


# --- answers --------------------------------------------------------------------------------------------------------


def test_head_follows_get_and_has_no_body(stand: Stand) -> None:
    answer = ask(stand, f"{R1}/notes/head", method="HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert stand.world.backend.received[-1].method == "HEAD"
    assert answer.headers["x-road-service"] == "VN-TEST/GOV/G01/desk/notes"


def test_a_refused_head_has_headers_and_no_body(stand: Stand, reached: int) -> None:
    answer = ask(stand, f"{R1}/nothing", method="HEAD")
    assert (answer.status, answer.body) == (404, b"")
    assert answer.headers["x-road-error"] == "Client.NotFound"
    assert len(stand.world.backend.received) == reached


def test_a_redirect_of_the_back_end_is_passed_on_and_not_followed(stand: Stand, answers: dict[str, object]) -> None:
    answers["/jump"] = (302, [("Location", f"{stand.world.backend.url}/secret")], b"")
    reached = len(stand.world.backend.received)
    answer = ask(stand, f"{R1}/jump")
    assert (answer.status, answer.headers["location"]) == (302, f"{stand.world.backend.url}/secret")
    assert [got.target for got in stand.world.backend.received[reached:]] == ["/jump"]


def test_an_undeclared_redirect_is_a_broken_answer(stand: Stand, answers: dict[str, object]) -> None:
    answers["/notes/away"] = (301, [("Location", "http://127.0.0.1:1/")], b"")
    answer = ask(stand, f"{R1}/notes/away")
    assert (answer.status, answer.code) == (502, "answer-invalid")
    assert "location" not in answer.headers


def test_errors_of_the_back_end_are_no_faults_of_the_bus(stand: Stand, answers: dict[str, object]) -> None:
    answers["/fail/404"] = (404, [("Content-Type", "text/plain"), ("X-Road-Error", "forged")], b"mine")
    answers["/fail/500"] = (500, [("Content-Type", "text/plain")], b"mine too")
    for status, body in ((404, b"mine"), (500, b"mine too")):
        answer = ask(stand, f"{R1}/fail/{status}")
        assert (answer.status, answer.body) == (status, body)
        assert "x-road-error" not in answer.headers
        assert answer.headers["x-road-request-id"]


def test_headers_of_the_back_end_that_must_not_pass(stand: Stand, answers: dict[str, object]) -> None:
    hostile = ["Set-Cookie", "X-Road-Error", "X-Road-Id", "X-Road-Request-Id", "X-LienThong-X", "X-Powered-By", "Server",
               "Keep-Alive", "X-GovStack-Y", "x_road_error", "Proxy-Authenticate", "Alt-Svc",
               "Strict-Transport-Security"]  # fmt: skip
    content = [("Content-Type", "application/json"), ("ETag", '"7"'), ("Cache-Control", "max-age=9")]
    answers["/notes/hostile"] = (200, [*content, *((name, "forged") for name in hostile)], b"{}")
    answer = ask(stand, f"{R1}/notes/hostile")
    assert answer.status == 200
    assert "forged" not in answer.headers.values(), answer.headers
    assert (answer.headers["etag"], answer.headers["cache-control"]) == ('"7"', "max-age=9")
    assert answer.headers["server"] == "lienthong"


def test_a_back_end_that_is_gone_is_a_fault_of_the_bus_with_a_record(stand: Stand, answers: dict[str, object]) -> None:
    def vanish(_got: Received) -> tuple[int, list[tuple[str, str]], bytes]:
        raise ConnectionResetError

    answers["/notes/vanish"] = vanish
    answer = ask(stand, f"{R1}/notes/vanish")
    assert answer.status in (502, 503)
    assert answer.headers["x-road-error"].startswith("Server.ServerProxy.")
    assert answer.json()["acted"] == "unknown"
    assert answer.json()["instance"] == answer.headers["x-road-request-id"]


def test_a_problem_is_json_or_xml_as_accept_asks(stand: Stand) -> None:
    answer = ask(stand, f"{R1}/nothing", "Accept: application/json")
    assert answer.headers["content-type"].startswith("application/json")
    answer = ask(stand, f"{R1}/nothing", "Accept: application/xml")
    assert answer.headers["content-type"].startswith("application/problem+xml")
    assert answer.body.startswith(b"<problem")


def test_texts_of_the_caller_cannot_break_out_of_an_xml_problem(stand: Stand) -> None:
    answer = ask(stand, "/r1/VN-TEST/GOV/%3Cx%3E/desk/notes/1", "Accept: text/xml")
    assert b"<x>" not in answer.body
    assert answer.code == ""


# --- limits ---------------------------------------------------------------------------------------------------------


def test_calls_over_the_limit_in_flight_are_429_with_retry_after(stand: Stand) -> None:
    """The limit of the client's gateway is lowered by a reload, as an operator would."""
    world, backend = stand.world, stand.world.backend
    settings = world.member("H37").home / "gateway.toml"
    kept = settings.read_text()
    backend.release.clear()
    try:
        settings.write_text(kept + "\n[limits]\nper_client = 3\n")
        world.reload_gateway("H37")
        with ThreadPoolExecutor(3) as pool:
            waiting = [pool.submit(world.call, stand.client, "G01/desk/notes", "/slow") for _ in range(3)]
            wait_until(lambda: backend.waiting == 3, "three slow calls")
            reached = len(backend.received)
            answer = ask(stand, f"{R1}/notes/1")
            refused(stand, answer, 429, "too-many-in-flight", reached)
            assert answer.headers["retry-after"] == "1"
            assert answer.json()["acted"] == "no"
            backend.release.set()
            assert [one.result().status for one in waiting] == [200, 200, 200]
        assert ask(stand, f"{R1}/notes/1").status == 200
    finally:
        backend.release.set()
        settings.write_text(kept)
        world.reload_gateway("H37")


def test_a_client_system_that_asks_in_a_loop_about_its_commands_is_held_up(stand: Stand) -> None:
    world = stand.world
    settings = world.member("H37").home / "gateway.toml"
    kept = settings.read_text()
    try:
        settings.write_text(kept + "\n[limits]\nlookups_per_s = 3\n")
        world.reload_gateway("H37")
        answers = [ask(stand, "/exchanges?limit=1") for _ in range(30)]
        refusals = [one for one in answers if one.status == 429]
        assert len(refusals) > 15, [one.status for one in answers]
        assert {one.code for one in refusals} == {"lookup-limit-reached"}
        assert refusals[0].headers["retry-after"] == "1"
        assert world.metric("H37", "lienthong_refusals_total", side="client", code="lookup-limit-reached") >= 1
        assert ask(stand, f"{R1}/notes/1").status == 200, "calls have limits of their own"
    finally:
        settings.write_text(kept)
        world.reload_gateway("H37")
    assert [ask(stand, "/exchanges?limit=1").status for _ in range(30)] == [200] * 30


def test_the_provider_serves_no_more_at_once_than_its_service_says(stand: Stand) -> None:
    """`desk/narrow` is published with two calls at once: of five, three are refused with a record while two wait."""
    world, backend = stand.world, stand.world.backend
    backend.release.clear()
    before = world.metric("G01", "lienthong_refusals_total", side="provider", code="too-many-in-flight")
    try:
        with ThreadPoolExecutor(5) as pool:
            calls = [pool.submit(world.call, stand.client, "G01/desk/narrow", "/slow") for _ in range(5)]
            wait_until(lambda: backend.waiting == 2 and sum(one.done() for one in calls) == 3, "three refusals")
            refusals = [one.result() for one in calls if one.done()]
            backend.release.set()
            assert sorted(one.result().status for one in calls) == [200, 200, 429, 429, 429]
    finally:
        backend.release.set()
    for answer in refusals:
        assert (answer.code, answer.headers["retry-after"]) == ("too-many-in-flight", "1")
        assert answer.headers["x-road-request-id"]
    after = world.metric("G01", "lienthong_refusals_total", side="provider", code="too-many-in-flight")
    assert after == before + 3


async def test_clients_that_never_finish_their_request_do_not_stop_others(stand: Stand) -> None:
    """Two hundred open connections with half a request each; another call is served at once."""
    member = stand.world.member("H37")
    host, port = member.front
    opened = [await asyncio.open_connection(host, port, ssl=member.tls()) for _ in range(200)]
    for _, writer in opened:
        writer.write(
            b"POST /r1/VN-TEST/GOV/G01/desk/notes/notes HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf"
        )
    assert (await stand.world.call_async(stand.client, "G01/desk/notes", "/notes/1")).status == 200
    for _, writer in opened:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for _, writer in opened), return_exceptions=True)


def test_the_admin_port_reads_only_and_names_no_secrets(stand: Stand) -> None:
    world: World = stand.world
    for path in ("/", "/metrics/", "/../metrics", "/status/x", "/debug", "/r1/x"):
        assert world.admin("H37", path).status == 404
    text = (world.admin("H37", "/status").body + world.admin("H37", "/metrics").body).decode()
    assert stand.client.key not in text
    assert stand.client.key.partition(".")[2] not in text
