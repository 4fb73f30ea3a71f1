import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from adapter_requests import asked
from aiohttp import web

from adapters.errors import (
    AdapterError,
    BackendAnswerInvalid,
    BackendBusy,
    BackendTimeout,
    BackendUnreachable,
    BreakerOpen,
    RequestUnusable,
    SourceNotOpen,
)
from adapters.kinds.http import HttpKind, HttpSource


class Heard:
    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.states: list[str] = []

    def called(self, operation: str, outcome: str, seconds: float) -> None:
        assert seconds >= 0
        self.calls.append((operation, outcome))

    def breaker_changed(self, state: str) -> None:
        self.states.append(state)


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def backend(handler: Handler) -> AsyncIterator[str]:
    runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def source(base_url: str, heard: Heard | None = None, **settings: object) -> AsyncIterator[HttpSource]:
    made = HttpKind().build({"base_url": base_url, **settings}, heard or Heard())
    await made.open()
    try:
        yield made
    finally:
        await made.close()
        await made.close()


@asynccontextmanager
async def raw_backend(answer: bytes) -> AsyncIterator[str]:
    """A backend that says the same bytes to everyone and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


async def ok(_request: web.Request) -> web.StreamResponse:
    return web.json_response({})


async def test_a_call_arrives_as_it_was_given_and_the_answer_comes_back() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.headers.getall("Host")
        assert "User-Agent" not in request.headers
        assert "Accept" not in request.headers
        seen = {"method": request.method, "target": request.raw_path, "type": request.headers.get("Content-Type")}
        body = (await request.read()).decode()
        return web.json_response({**seen, "body": body}, status=201, headers={"ETag": '"1"', "Set-Cookie": "a=b"})

    heard = Heard()
    async with backend(handler) as address, source(address + "/api/", heard) as made:
        answer = await made.call(
            asked(method="POST", path="/a%2Fb", query="x=%20+", content_type="text/plain", body="chào".encode())
        )
    assert answer.status == 201
    assert answer.content_type == "application/json; charset=utf-8"
    assert b'"target": "/api/a%2Fb?x=%20+"' in answer.body
    assert b'"type": "text/plain"' in answer.body
    assert ("etag", '"1"') in [(name.lower(), value) for name, value in answer.headers]
    assert not {"set-cookie", "server", "content-length"} & {name.lower() for name, _ in answer.headers}
    assert heard.calls == [("op", "answered")]


async def test_no_content_type_is_made_up_for_a_call_without_a_body() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        assert "Content-Type" not in request.headers
        return web.Response(status=204)

    async with backend(handler) as address, source(address) as made:
        answer = await made.call(asked(path="/x"))
    assert (answer.status, answer.body) == (204, b"")


async def test_head_brings_headers_and_no_body() -> None:
    async with backend(ok) as address, source(address, max_answer_bytes=1) as made:
        answer = await made.call(asked(method="HEAD", path="/x"))
    assert (answer.status, answer.body) == (200, b"")


async def test_redirects_are_handed_back_and_not_followed() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.path == "/a"
        return web.Response(status=302, headers={"Location": "/elsewhere"})

    async with backend(handler) as address, source(address) as made:
        assert (await made.call(asked(path="/a"))).status == 302


async def test_cookies_of_the_backend_are_not_sent_back_to_it() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        assert "Cookie" not in request.headers
        return web.Response(headers={"Set-Cookie": "session=1; Path=/"})

    async with backend(handler) as address, source(address) as made:
        await made.call(asked(path="/a"))
        assert (await made.call(asked(path="/a"))).status == 200


@pytest.mark.parametrize("declared", [True, False])
async def test_an_answer_over_the_cap_is_refused_while_it_streams(declared: bool) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if declared:
            response.content_length = 3000
        await response.prepare(request)
        for _ in range(3):
            await response.write(b"x" * 1000)
        return response

    async with backend(handler) as address, source(address, max_answer_bytes=2000) as made:
        with pytest.raises(BackendAnswerInvalid) as refusal:
            await made.call(asked(path="/a"))
    assert refusal.value.acted == "unknown"


async def test_a_content_coding_that_was_not_asked_for_is_refused() -> None:
    async def handler(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"x", headers={"Content-Encoding": "gzip"})

    async with backend(handler) as address, source(address) as made:
        with pytest.raises(BackendAnswerInvalid):
            await made.call(asked(path="/a"))


async def test_no_backend_means_that_nothing_happened() -> None:
    async with source(f"http://127.0.0.1:{free_port()}") as made:
        with pytest.raises(BackendUnreachable) as refusal:
            await made.call(asked(method="POST", path="/a"))
        assert refusal.value.acted == "no"
        with pytest.raises(BackendUnreachable):
            await made.check()


async def test_a_timeout_after_sending_leaves_open_whether_it_acted() -> None:
    release = asyncio.Event()

    async def handler(_request: web.Request) -> web.StreamResponse:
        await release.wait()
        return web.Response()

    async with backend(handler) as address, source(address) as made:
        with pytest.raises(BackendTimeout) as refusal:
            await made.call(asked(path="/a", deadline_s=0.05))
        assert refusal.value.acted == "unknown"
        release.set()


async def test_a_call_that_never_got_a_connection_surely_did_not_act() -> None:
    release, arrived = asyncio.Event(), asyncio.Event()

    async def handler(_request: web.Request) -> web.StreamResponse:
        arrived.set()
        await release.wait()
        return web.Response()

    async with backend(handler) as address, source(address, connections=1, waiting=1) as made:
        first = asyncio.create_task(made.call(asked(path="/a")))
        await arrived.wait()
        with pytest.raises(BackendTimeout) as refusal:
            await made.call(asked(path="/b", deadline_s=0.05))
        assert refusal.value.acted == "no"
        second = asyncio.create_task(made.call(asked(path="/c")))
        await asyncio.sleep(0)
        with pytest.raises(BackendBusy) as busy:
            await made.call(asked(path="/d"))
        assert busy.value.acted == "no"
        release.set()
        assert {(await first).status, (await second).status} == {200}


async def test_no_time_left_means_that_nothing_is_sent() -> None:
    async with backend(ok) as address, source(address) as made:
        with pytest.raises(BackendTimeout) as refusal:
            await made.call(asked(path="/a", deadline_s=0.0))
    assert refusal.value.acted == "no"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"SMTP ready\r\n\r\n", BackendAnswerInvalid),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", AdapterError),
        (b"", BackendUnreachable),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", BackendAnswerInvalid),
    ],
)
async def test_an_answer_that_is_not_whole_http_is_an_error_and_unknown(
    answer: bytes, error: type[AdapterError]
) -> None:
    async with raw_backend(answer) as address, source(address) as made:
        with pytest.raises(error) as refusal:
            await made.call(asked(method="POST", path="/a"))
    assert refusal.value.acted == "unknown"


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("a", ""),
        ("@evil", ""),
        (".evil", ""),
        ("/a b", ""),
        ("/a#b", ""),
        ("/a\r\nX: y", ""),
        ("/é", ""),
        ("", "a#b"),
        ("/a?b", "a b"),
    ],
)
async def test_a_target_that_cannot_be_forwarded_byte_for_byte_is_refused(path: str, query: str) -> None:
    async with backend(ok) as address, source(address) as made:
        with pytest.raises(RequestUnusable) as refusal:
            await made.call(asked(path=path, query=query))
    assert refusal.value.acted == "no"


async def test_our_credentials_replace_the_clients(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("s3cret\n")
    (tmp_path / "s").chmod(0o600)

    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.headers.getall("Authorization") == ["Bearer s3cret"]
        return web.Response()

    credentials = {"scheme": "header", "prefix": "Bearer ", "secret_file": str(tmp_path / "s")}
    async with backend(handler) as address, source(address, credentials=credentials, check_path="/h") as made:
        assert (await made.call(asked(path="/a", headers=(("authorization", "Basic eA=="),)))).status == 200
        await made.check()


async def test_the_breaker_opens_after_failures_tells_and_recovers() -> None:
    status, now = 500, asyncio.get_running_loop().time

    async def handler(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=status)

    heard = Heard()
    rules = {"failures": 3, "window": 5, "pause_s": 0.05}
    async with backend(handler) as address, source(address, heard, breaker=rules) as made:
        for _ in range(3):
            assert (await made.call(asked(path="/a"))).status == 500
        with pytest.raises(BreakerOpen) as refusal:
            await made.call(asked(path="/a"))
        assert refusal.value.acted == "no"
        assert 0 < refusal.value.retry_after_s <= 0.05
        status, until = 200, now() + 2
        while heard.states[-1] != "closed" and now() < until:
            try:
                await made.call(asked(path="/a"))
            except BreakerOpen as error:
                await asyncio.sleep(error.retry_after_s)
    assert heard.states == ["open", "half-open", "closed"]
    assert ("op", "backend-breaker-open") in heard.calls


async def test_client_errors_and_tiny_deadlines_do_not_open_the_breaker() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/slow":
            await asyncio.sleep(0.2)
        return web.Response(status=404)

    heard = Heard()
    async with backend(handler) as address, source(address, heard, breaker={"failures": 1, "window": 1}) as made:
        await made.call(asked(path="/a"))
        with pytest.raises(BackendTimeout):
            await made.call(asked(path="/slow", deadline_s=0.02))
        assert (await made.call(asked(path="/a"))).status == 404
    assert heard.states == []


async def test_a_check_names_a_backend_that_is_ill() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=503 if request.path == "/h" else 200)

    async with backend(handler) as address:
        async with source(address) as made:
            await made.check()
        async with source(address, check_path="/h") as made:
            with pytest.raises(BackendUnreachable):
                await made.check()


async def test_a_source_that_is_not_open_says_so() -> None:
    made = HttpKind().build({"base_url": "http://127.0.0.1:1"}, Heard())
    with pytest.raises(SourceNotOpen):
        await made.call(asked(path="/a"))
