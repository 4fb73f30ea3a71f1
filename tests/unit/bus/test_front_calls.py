"""The fronts over loopback: what a client system sends and gets, byte for byte."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
import ssl
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from bus_world import CLIENT, SERVICE
from prometheus_client import CollectorRegistry, Counter
from registry_world import World
from yarl import URL

from bus import errors
from bus.clock import SystemClock
from bus.exchange.calls import ClientAnswer
from bus.front import server as server_module
from bus.front.admin import AdminFront, Check
from bus.front.credentials import ClientSystem, Credentials, hash_key
from bus.front.r1 import CallFront, FrontLimits, _gunzip
from bus.front.server import HttpServer, client_tls, server_tls
from bus.front.services import DirectoryFront
from evidence.issue import create_authority, issue_tls, to_pem
from evidence.signer import FileSigner, generate_key_file
from registry.errors import FeedUnavailable

KEY = "onedoor.s3cret"
HEADERS = {"X-Road-Client": CLIENT, "X-LienThong-Key": KEY}
TARGET = f"/r1/{SERVICE}"
HASH = hash_key(KEY, b"salt")


class FakeAsker:
    def __init__(self) -> None:
        self.calls = []
        self.error: Exception | None = None
        self.answer = ClientAnswer("the-id", 200, "application/json", (("ETag", '"1"'), ("Server", "x")), b"{}")

    async def ask(self, call):
        self.calls.append(call)
        if self.error is not None:
            raise self.error
        return self.answer


class Front:
    def __init__(self) -> None:
        self.asker = FakeAsker()
        credentials = Credentials(lambda size: b"k" * size)
        credentials.replace([ClientSystem("onedoor", frozenset({CLIENT}), (HASH,))])
        self.resolved: dict[str, str] = {}
        limits = FrontLimits(max_body_bytes=1000, max_header_bytes=4000)
        calls = CallFront(self.asker, credentials, limits, lambda id_: self.resolved.get(id_, id_))
        self.server = HttpServer("127.0.0.1:0", calls.handle, None, 1000)

    async def send(self, target=TARGET, method="GET", headers=HEADERS, **more):
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(method, URL(self.server.url + target, encoded=True), headers=headers, **more) as answer,
        ):
            return answer.status, answer.headers, await answer.read()

    async def raw(self, *lines: bytes, body: bytes = b"") -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        writer.write(b"\r\n".join([*lines, b"Host: x", b"Connection: close", b"", body]))
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            length = next(line for line in head.splitlines() if line.lower().startswith(b"content-length:"))
            return head + await asyncio.wait_for(reader.readexactly(int(length.partition(b":")[2])), 10)
        finally:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    async def problem(self, expected: type[errors.BusError], **more) -> dict:
        status, headers, body = await self.send(**more)
        assert (status, headers["X-Road-Error"]) == (expected.status, expected.fault)
        found = json.loads(body)
        assert found["code"] == expected.code
        return found


@pytest.fixture
async def front():
    made = Front()
    await made.server.start()
    yield made
    await made.server.stop()


async def test_a_call_reaches_the_asker_as_it_was_sent(front):
    body = b'{"a": 1}'
    more = {
        "Content-Type": "application/json",
        "X-Road-Id": "client-id-1",
        "X-Road-UserId": "Nguyễn An",
        "X-Road-Issue": "H37.1",
        "X-Road-Represented-Party": "COM/9",
        "X-LienThong-Purpose": "residence",
        "X-LienThong-Legal-Basis": "Decree 1/2026",
        "X-Road-Request-Id": "forged",
        "X-Road-Request-Hash": "forged",
        "traceparent": "00-1",
        "Accept": "application/json",
    }
    target = f"{TARGET}/a%20b/%C3%A2?x=%31&y=1+1"
    status, headers, answered = await front.send(target, "POST", HEADERS | more, data=body)
    (call,) = front.asker.calls
    assert (call.client, call.service, call.method) == (CLIENT, SERVICE, "POST")
    assert (call.path, call.query) == ("/a%20b/%C3%A2", "x=%31&y=1+1")
    assert (call.content_type, call.body) == ("application/json", body)
    assert (call.official, call.issue, call.represented_party) == ("Nguyễn An", "H37.1", "COM/9")
    assert (call.purpose, call.legal_basis, call.trace) == ("residence", "Decree 1/2026", "00-1")
    assert call.headers == (("accept", "application/json"),)
    digest = hashlib.sha512(f"POST {target}\n".encode() + body).digest()
    assert call.request_hash == base64.b64encode(digest).decode()
    assert (status, answered, headers["Content-Type"], headers["ETag"]) == (200, b"{}", "application/json", '"1"')
    assert headers["x-road-id"] == "client-id-1"
    assert (headers["x-road-client"], headers["x-road-service"]) == (CLIENT, SERVICE)
    assert (headers["x-road-request-id"], headers["x-road-request-hash"]) == ("the-id", call.request_hash)
    assert headers["Server"] == "lienthong"


async def test_a_call_without_a_body_has_no_content_type(front):
    front.asker.answer = ClientAnswer("the-id", 204, "", (), b"")
    status, headers, _ = await front.send()
    assert status == 204
    assert "Content-Type" not in headers
    assert headers["x-road-id"] == "the-id"
    assert front.asker.calls[0].content_type == ""


async def test_an_alias_is_resolved(front):
    front.resolved["VN/GOV/000.00.18.G01/population/citizens"] = SERVICE
    await front.send("/r1/VN/GOV/000.00.18.G01/population/citizens/x")
    assert front.asker.calls[0].service == SERVICE


@pytest.mark.parametrize("name", ["X-Road-Client", "X-GovStack-Client"])
@pytest.mark.parametrize("client", [CLIENT, CLIENT.replace("/", ":")])
async def test_a_client_is_named_in_either_header_and_form(front, name, client):
    await front.send(headers={name: client, "X-LienThong-Key": KEY})
    assert front.asker.calls[0].client == CLIENT


async def test_two_headers_may_name_the_same_client(front):
    status, _, _ = await front.send(headers=HEADERS | {"X-GovStack-Client": CLIENT.replace("/", ":")})
    assert status == 200


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"X-Road-Client": None}, errors.ClientHeaderMissing),
        ({"X-Road-Client": "VN/GOV/H37"}, errors.RequestMalformed),
        ({"X-GovStack-Client": "VN/GOV/H37/other"}, errors.ClientHeaderConflict),
        ({"X-LienThong-Key": None}, errors.CredentialsMissing),
        ({"X-LienThong-Key": "onedoor.wrong"}, errors.CredentialsInvalid),
        ({"X-Road-Client": "VN/GOV/H37/tax"}, errors.ClientForbidden),
        ({"X-Road-UserId": "x" * 1025}, errors.HeaderTooLarge),
        ({"Content-Type": "x" * 1025}, errors.RequestMalformed),
        ({f"X-{at}": "x" * 900 for at in range(5)}, errors.HeaderTooLarge),
        ({"Content-Encoding": "br"}, errors.ContentEncodingUnsupported),
    ],
)
async def test_a_call_that_is_not_in_order_is_refused(front, changes, expected):
    headers = {name: value for name, value in (HEADERS | changes).items() if value is not None}
    await front.problem(expected, method="POST", headers=headers, data=b"x")
    assert front.asker.calls == []


async def test_a_target_that_cannot_be_read_is_refused(front):
    await front.problem(errors.RequestMalformed, target="/r1/VN/GOV")


async def test_errors_of_the_exchange_become_problems(front):
    error = front.asker.error = errors.AccessDenied("no", record_id="the-id")
    error.rule = "VN/GOV/G01/a/b#x"
    problem = await front.problem(errors.AccessDenied)
    assert (problem["instance"], problem["rule"]) == ("the-id", "VN/GOV/G01/a/b#x")


async def test_a_defect_never_shows_a_traceback(front):
    front.asker.error = ZeroDivisionError("secret")
    problem = await front.problem(errors.InternalError)
    assert "secret" not in str(problem)
    assert "ZeroDivision" not in str(problem)


# --- bytes that are no text -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [b"X-Road-Id: \xff", b"X-Road-UserId: \xff", b"X-Own: \xff", b"traceparent: \xff"])
async def test_headers_that_are_no_text_travel_as_replacement(front, line):
    answer = await front.raw(
        f"GET {TARGET} HTTP/1.1".encode(), f"X-Road-Client: {CLIENT}".encode(), f"X-LienThong-Key: {KEY}".encode(), line
    )
    assert answer.startswith(b"HTTP/1.1 200"), answer
    (call,) = front.asker.calls
    for value in (call.official, call.content_type, call.trace, *(value for _, value in call.headers)):
        value.encode()


@pytest.mark.parametrize(
    "lines",
    [
        (f"GET {TARGET} HTTP/1.1".encode(), f"X-Road-Client: {CLIENT}".encode(), b"X-LienThong-Key: onedoor.\xff"),
        (f"GET {TARGET} HTTP/1.1".encode(), b"X-Road-Client: VN/GOV/H37/\xff", b"X-LienThong-Key: " + KEY.encode()),
        (f"GET {TARGET[:-1]}".encode() + b"\xff HTTP/1.1", b"X-Road-Client: " + CLIENT.encode()),
        (
            f"GET {TARGET} HTTP/1.1".encode(),
            b"X-Road-Client: " + CLIENT.encode(),
            b"X-LienThong-Key: " + KEY.encode(),
            b"Content-Type: \xff",
        ),
    ],
)
async def test_bytes_that_are_no_text_are_refused_not_failed(front, lines):
    answer = await front.raw(*lines)
    assert answer.partition(b" ")[2].startswith(b"40"), answer


# --- compressed bodies ----------------------------------------------------------------------------------------------


async def test_a_gzip_body_is_decoded(front):
    await front.send(method="POST", headers=HEADERS | {"Content-Encoding": "GZIP"}, data=gzip.compress(b"plain"))
    assert front.asker.calls[0].body == b"plain"
    assert front.asker.calls[0].content_type == "application/octet-stream"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (gzip.compress(b"x" * 1001), errors.BodyTooLarge),
        (gzip.compress(bytes(10_000_000)), errors.BodyTooLarge),
        (gzip.compress(b"plain")[:-1], errors.RequestMalformed),
        (gzip.compress(b"plain")[:-9], errors.RequestMalformed),
        (gzip.compress(b"plain") + b"more", errors.RequestMalformed),
        (gzip.compress(b"a") + gzip.compress(b"b"), errors.RequestMalformed),
        (b"plain", errors.RequestMalformed),
        (b"", errors.RequestMalformed),
    ],
    ids=("a byte too long", "ten megabytes", "cut", "cut deeply", "more behind", "two members", "plain", "empty"),
)
def test_a_gzip_body_that_is_damaged_or_too_large_is_refused(body, expected):
    with pytest.raises(expected):
        _gunzip(body, 1000)


def test_a_gzip_body_may_fill_the_limit():
    assert _gunzip(gzip.compress(b"x" * 1000), 1000) == b"x" * 1000


async def test_a_body_over_the_limit_is_refused_before_and_while_it_is_read(front):
    await front.problem(errors.BodyTooLarge, method="POST", data=b"x" * 1001)

    async def chunks():
        for _ in range(20):
            yield b"x" * 100

    await front.problem(errors.BodyTooLarge, method="POST", data=chunks())
    assert front.asker.calls == []


OPENING = (
    f"POST {TARGET} HTTP/1.1".encode(),
    b"X-Road-Client: " + CLIENT.encode(),
    b"X-LienThong-Key: " + KEY.encode(),
)


async def test_a_body_that_is_not_framed_as_it_says_is_refused(front):
    answer = await front.raw(*OPENING, b"Transfer-Encoding: chunked", body=b"zz\r\n")
    assert answer.partition(b" ")[2].startswith(b"400"), answer


async def test_a_body_that_does_not_come_is_not_waited_for(front, monkeypatch):
    monkeypatch.setattr("bus.front.r1._BODY_DEADLINE_S", 0.01)
    answer = await front.raw(*OPENING, b"Content-Length: 5", body=b"abc")
    assert answer.partition(b" ")[2].startswith(b"400"), answer
    assert front.asker.calls == []


@pytest.mark.parametrize(
    ("lines", "status", "code"),
    [
        ((b"GET / HTTP/1.1", b"X: " + b"x" * 20_000), b"431", b"header-too-large"),
        ((b"GET /" + b"x" * 20_000 + b" HTTP/1.1",), b"431", b"header-too-large"),
        ((b"GET / HTTP/1.1", *[b"X-%d: x" % at for at in range(200)]), b"431", b"header-too-large"),
        ((b"nonsense",), b"400", b"request-malformed"),
        ((b"GET / HTTP/1.1", b"no colon"), b"400", b"request-malformed"),
    ],
)
async def test_what_is_no_http_is_a_problem_like_all_else(front, lines, status, code):
    answer = await front.raw(*lines)
    assert answer.partition(b" ")[2].startswith(status), answer[:300]
    assert b'"code":"' + code in answer
    assert b"Server: lienthong" in answer


# --- directory services ---------------------------------------------------------------------------------------------


class Contracts:
    document = b'{"openapi":"3.1.0"}'

    async def contract(self, sha256):
        if self.document is None:
            raise FeedUnavailable("not connected")
        return self.document


class Meta:
    def __init__(self) -> None:
        self.world = World().populate()
        self.contracts = Contracts()
        credentials = Credentials(lambda size: b"k" * size)
        subsystems = frozenset({CLIENT, "VN-TEST/GOV/H37/onedoor", "VN-TEST/GOV/H37/other"})
        credentials.replace([ClientSystem("onedoor", subsystems, (HASH,))])
        made = DirectoryFront(lambda: self.world.directory, self.contracts, credentials, SystemClock())
        self.server = HttpServer("127.0.0.1:0", made.handle, None, 1000)

    send, problem, raw = Front.send, Front.problem, Front.raw


BASE = "/r1/VN-TEST/GOV/G01/population"


@pytest.fixture
async def meta():
    made = Meta()
    await made.server.start()
    yield made
    await made.server.stop()


async def test_clients_are_listed_without_credentials(meta):
    status, _, body = await meta.send("/listClients?x", headers={})
    assert status == 200
    assert len(json.loads(body)["member"]) == 4


async def test_methods_are_listed(meta):
    _, headers, body = await meta.send(f"{BASE}/listMethods", headers={"X-LienThong-Key": KEY})
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    assert [one["service_code"] for one in json.loads(body)["service"]] == ["citizens"]


async def test_allowed_methods_depend_on_the_client(meta):
    allowed = HEADERS | {"X-Road-Client": "VN-TEST/GOV/H37/onedoor"}
    _, _, body = await meta.send(f"{BASE}/allowedMethods", headers=allowed)
    assert len(json.loads(body)["service"]) == 1
    stranger = HEADERS | {"X-Road-Client": "VN-TEST/GOV/H37/other"}
    _, _, body = await meta.send(f"{BASE}/allowedMethods", headers=stranger)
    assert json.loads(body)["service"] == []
    foreign = HEADERS | {"X-Road-Client": "VN-TEST/GOV/G01/population"}
    await meta.problem(errors.ClientForbidden, target=f"{BASE}/allowedMethods", headers=foreign)
    await meta.problem(errors.ClientHeaderMissing, target=f"{BASE}/allowedMethods", headers={"X-LienThong-Key": KEY})


@pytest.mark.parametrize(("document", "kind"), [(b' {"openapi":"3.1.0"}', "json"), (b"openapi: 3.1.0\n", "yaml")])
async def test_a_contract_is_given_as_it_was_published(meta, document, kind):
    meta.contracts.document = document
    _, headers, body = await meta.send(f"{BASE}/getOpenAPI?serviceCode=citizens")
    assert (headers["Content-Type"], body) == (f"application/{kind}; charset=utf-8", document)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"target": f"{BASE}/getOpenAPI"}, errors.RequestMalformed),
        ({"target": f"{BASE}/getOpenAPI?serviceCode="}, errors.RequestMalformed),
        ({"target": f"{BASE}/getOpenAPI?serviceCode=a&serviceCode=b"}, errors.RequestMalformed),
        ({"target": f"{BASE}/getOpenAPI?serviceCode=other"}, errors.ServiceUnknown),
        ({"target": f"{BASE}/listMethods/x"}, errors.RequestMalformed),
        ({"target": f"{BASE}/listMethods?serviceId="}, errors.RequestMalformed),
        ({"target": "/listClients?xRoadInstance="}, errors.RequestMalformed),
        ({"target": "/listClients?xRoadInstance=EE"}, errors.InstanceUnknown),
        ({"target": f"{BASE}/getWsdl"}, errors.RequestMalformed),
        ({"target": f"{BASE}/getWsdl?serviceCode=other"}, errors.ServiceUnknown),
        ({"target": f"{BASE}/getWsdl?serviceCode=citizens"}, errors.ServiceTypeInvalid),
        ({"target": f"{BASE[:-1]}%zz/listMethods"}, errors.RequestMalformed),
        ({"target": "/r1/VN-TEST/GOV//population/listMethods"}, errors.RequestMalformed),
        ({"target": f"{BASE}/listMethods", "method": "POST"}, errors.MethodNotAllowed),
        ({"target": f"{BASE}/listMethods", "headers": {}}, errors.CredentialsMissing),
    ],
)
async def test_a_question_that_is_not_in_order_is_refused(meta, more, expected):
    problem = await meta.problem(expected, **more)
    assert "\udcff" not in str(problem)


async def test_the_refusal_names_the_question(meta):
    problem = await meta.problem(errors.RequestMalformed, target=f"{BASE}/listMethods/x/y")
    assert problem["detail"] == "listMethods takes no further path"


async def test_a_question_of_bytes_that_are_no_text_is_refused_not_failed(meta):
    key = f"X-LienThong-Key: {KEY}".encode()
    answer = await meta.raw(f"GET {BASE}/listMethods/".encode() + b"\xff HTTP/1.1", key)
    assert answer.partition(b" ")[2].startswith(b"400"), answer
    answer = await meta.raw(f"GET {BASE}/getOpenAPI?serviceCode=".encode() + b"\xff HTTP/1.1", key)
    assert answer.partition(b" ")[2].startswith(b"40"), answer


async def test_a_contract_that_cannot_be_fetched_is_unavailable(meta):
    meta.contracts.document = None
    await meta.problem(errors.ContractUnavailable, target=f"{BASE}/getOpenAPI?serviceCode=citizens")


# --- admin ----------------------------------------------------------------------------------------------------------


class Admin:
    def __init__(self) -> None:
        self.checks = [Check("log", True)]
        registry = CollectorRegistry()
        counter = Counter("lienthong_scrapes_total", "x", registry=registry)
        made = AdminFront(registry, lambda: self.checks, lambda: {"node": "VN/GOV/H37/@n1"}, counter.inc)
        self.server = HttpServer("127.0.0.1:0", made.handle, None, 1000)

    send, problem = Front.send, Front.problem


@pytest.fixture
async def admin():
    made = Admin()
    await made.server.start()
    yield made
    await made.server.stop()


@pytest.mark.parametrize("begun", [b"", b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Slow: "])
async def test_a_connection_that_asks_nothing_is_closed(monkeypatch, begun):
    monkeypatch.setattr(server_module, "FIRST_HEAD_S", 0.2)
    made = Admin()
    await made.server.start()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", made.server.port)
        writer.write(begun)
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()
    finally:
        await made.server.stop()


@pytest.mark.parametrize("begun", [b"", b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Slow: "])
async def test_a_kept_connection_that_asks_nothing_more_is_closed(monkeypatch, begun):
    monkeypatch.setattr(server_module, "IDLE_S", 0.2)
    made = Admin()
    await made.server.start()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", made.server.port)
        writer.write(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"200" in await reader.readline()
        writer.write(begun)
        async with asyncio.timeout(5):
            assert b'{"alive":true}' in await reader.read()
        writer.close()
    finally:
        await made.server.stop()


async def test_health_metrics_and_status(admin):
    assert (await admin.send("/livez"))[2] == b'{"alive":true}'
    status, _, body = await admin.send("/readyz?verbose")
    assert (status, json.loads(body)["ready"]) == (200, True)
    _, headers, body = await admin.send("/metrics")
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert b"lienthong_scrapes_total 1.0" in body
    _, _, body = await admin.send("/status")
    assert json.loads(body)["node"] == "VN/GOV/H37/@n1"
    assert (await admin.send("/livez", "HEAD"))[0] == 200


async def test_what_is_not_well_is_named(admin):
    admin.checks.append(Check("broker", False, "broker-unavailable", "reconnects"))
    status, _, body = await admin.send("/readyz")
    assert status == 503
    assert json.loads(body)["checks"][1] == {
        "name": "broker",
        "ok": False,
        "code": "broker-unavailable",
        "detail": "reconnects",
    }


async def test_the_admin_port_has_nothing_else(admin):
    await admin.problem(errors.NotFound, target="/r1/x")
    status, headers, _ = await admin.send("/livez", "POST")
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


# --- TLS ------------------------------------------------------------------------------------------------------------


async def test_the_front_speaks_tls_and_asks_for_client_certificates(tmp_path):
    now = datetime.now(UTC)
    days = {"not_before_at": now - timedelta(days=1), "not_after_at": now + timedelta(days=1)}
    authority = create_authority("test", FileSigner.generate("p256"), **days)
    (tmp_path / "ca.crt").write_bytes(authority.pem)
    for role in ("server", "client"):
        key = generate_key_file(tmp_path / f"{role}.pem", "p256")
        made = issue_tls(
            authority,
            role,
            key.private_key.public_key(),
            role=role,
            dns_names=[],
            ip_addresses=["127.0.0.1"],
            **days,
        )
        (tmp_path / f"{role}.crt").write_bytes(to_pem([made]))
        digest = hashlib.sha256(made).hexdigest()
    credentials = Credentials(lambda size: b"k" * size)
    credentials.replace([ClientSystem("onedoor", frozenset({CLIENT}), certificates_sha256=(digest,))])
    asker = FakeAsker()
    context = server_tls(str(tmp_path / "server.crt"), str(tmp_path / "server.pem"), str(tmp_path / "ca.crt"))
    server = HttpServer("127.0.0.1:0", CallFront(asker, credentials, FrontLimits(), str).handle, context, 1000)
    await server.start()
    assert server.url == f"https://127.0.0.1:{server.port}"
    client = client_tls(str(tmp_path / "ca.crt"))
    assert client.minimum_version is ssl.TLSVersion.TLSv1_3
    try:
        async with aiohttp.ClientSession() as session:
            headers = {"X-Road-Client": CLIENT}
            async with session.get(server.url + TARGET, headers=headers, ssl=client) as answer:
                assert answer.status == 401
        client.load_cert_chain(tmp_path / "client.crt", tmp_path / "client.pem")
        async with (
            aiohttp.ClientSession() as session,
            session.get(server.url + TARGET, headers=headers, ssl=client) as answer,
        ):
            assert answer.status == 200
    finally:
        await server.stop()
        await server.stop()
    assert server_tls(str(tmp_path / "server.crt"), str(tmp_path / "server.pem")).verify_mode is ssl.CERT_NONE
