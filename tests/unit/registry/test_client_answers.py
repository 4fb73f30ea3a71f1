"""What a registry, or whoever stands in its place, answers to the client."""

import pytest
from aiohttp import web

from registry.client import RegistryClient
from registry.errors import RegistryUnavailable

DEEP = b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.mark.parametrize("status", [200, 500])
async def test_an_answer_that_nests_without_end_is_no_answer(status):
    async def answer(_request):
        return web.Response(status=status, body=DEEP, content_type="application/json")

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0]
        async with RegistryClient(f"http://{host}:{port}") as client:
            with pytest.raises(RegistryUnavailable):
                await client.credentials("VN/GOV/H37/@n1")
    finally:
        await runner.cleanup()
