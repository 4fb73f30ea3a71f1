"""Paths that a sloppy backend would walk out of: what is forwarded is byte for byte what was given.

The bus refuses such paths before they get here. If it ever did not, the backend must still see the very bytes that were
decided on: an adapter that "cleans" a path would make the decision and the deed differ.
"""

import posixpath
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import unquote

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.errors import RequestUnusable
from adapters.kinds.http import HttpKind, HttpSource
from adapters.port import AdapterRequest, SilentObserver

BASE = AdapterRequest(
    exchange_id="0198c0de-0000-7000-8000-000000000001", client="VN/GOV/H37/onedoor", service="VN/GOV/G05/business/x",
    operation="get", method="GET", path="", query="", headers=(), content_type="", body=b"", parameters={},
    json_body=None, official="", issue="", represented_party="", purpose="", legal_basis="", deadline_s=5.0,
)  # fmt: skip

TRICKS = [
    "/../admin", "/a/../admin", "/a/../../admin", "/./a", "/a/.", "/a/..", "/%2e%2e/admin", "/%2E%2E/admin",
    "/.%2e/admin", "/%2e./admin", "/a/%2e%2e/%2e%2e/admin", "/%252e%252e/admin", "/%25252e/admin", "/a%2Fb", "/a%2fb",
    "/a%2F..%2Fadmin", "/..%2fadmin", "/%2e%2e%2fadmin", "/a%5C..%5Cadmin", "/a\\..\\admin", "/..\\admin", "//admin",
    "//evil.example/admin", "/a//b", "///", "/a;/../admin", "/a;x=1/b", "/..;/admin", "/%3b/a", "/a%3f/b", "/a%23b",
    "/a%00b", "/a%0d%0aX-Road-Client:%20evil", "/a%20b", "/a+b", "/%c0%ae%c0%ae/admin", "/%u002e%u002e/admin",
    "/%zz", "/%", "/%2", "/a%2525b", "/~root", "/*", "/@evil.example", "/:8080", "/http://evil.example/",
    "/%68%65%6c%6c%6f", "/C%C3%B4ng", "/%2eb", "/a?b=/../admin", "/!$&'()*+,;=:@-._~", '/"<>[]^`{|}', "/A%2fB%2Fc",
]  # fmt: skip
QUERIES = ["a=%2e%2e", "a=%2F", "a=+&a=%20", "a&b=&=c", "a=1?b", "%61=1", "a=%", "a[]=1&a%5B%5D=2", "x=/../y", "a;b=c"]


class SloppyBackend:
    """Decodes and normalises like too many servers do, and remembers the bytes that it got."""

    def __init__(self) -> None:
        self.target = ""

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        self.target = request.raw_path
        path = self.target.partition("?")[0]
        reached = posixpath.normpath(unquote(unquote(path)).replace("\\", "/").split(";")[0])
        return web.Response(text=reached, headers={"X-Reached": "admin" if reached == "/admin" else "no"})


@asynccontextmanager
async def forwarding(prefix: str = "") -> AsyncIterator[tuple[SloppyBackend, HttpSource]]:
    backend = SloppyBackend()
    runner = web.ServerRunner(web.Server(backend), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = f"http://127.0.0.1:{runner.addresses[0][1]}{prefix}"
    source = HttpKind().build({"base_url": address}, SilentObserver())
    await source.open()
    try:
        yield backend, source
    finally:
        await source.close()
        await runner.cleanup()


@pytest.mark.parametrize("prefix", ["", "/api/v1"])
async def test_every_trick_arrives_as_the_bytes_that_were_given(prefix: str) -> None:
    reached_admin = 0
    async with forwarding(prefix) as (backend, source):
        for path in TRICKS:
            answer = await source.call(replace(BASE, path=path))
            assert backend.target == prefix + path
            reached_admin += ("X-Reached", "admin") in answer.headers
    # the corpus is worth something only if a sloppy backend would fall for it
    assert reached_admin >= (10 if not prefix else 0)


async def test_every_query_arrives_as_the_bytes_that_were_given() -> None:
    async with forwarding() as (backend, source):
        for query in QUERIES:
            for path in ("/a", ""):
                await source.call(replace(BASE, path=path, query=query))
                assert backend.target == f"{path or '/'}?{query}"


@pytest.mark.parametrize("path", ["..", ".evil.example/", "@evil.example/", ":81/", "a", "?a", "#a", "\\a", "%2fa"])
async def test_what_does_not_begin_with_a_slash_cannot_change_the_host(path: str) -> None:
    async with forwarding() as (backend, source):
        with pytest.raises(RequestUnusable):
            await source.call(replace(BASE, path=path))
        assert backend.target == ""


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.sampled_from(["/", ".", "..", "%2e", "%2F", "%25", "\\", ";", "a", "%5c", "+", "~", "%00", "@", ":"]),
        max_size=10,
    )
)
def test_any_mixture_arrives_as_given_or_is_refused(parts: list[str]) -> None:
    import asyncio

    async def run() -> None:
        path = "/" + "".join(parts)
        async with forwarding() as (backend, source):
            await source.call(replace(BASE, path=path))
            assert backend.target == path

    asyncio.run(run())
