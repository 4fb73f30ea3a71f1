"""An instance made by commands only, with its registry in a thread and a feed in memory."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import Any

from aiohttp import web
from click.testing import CliRunner, Result

from bus.transport.minting import AccountMinter
from console.cli import main
from console.homes import InstanceHome, MemberHome
from console.registrytls import server_context
from evidence.signer import FileSigner
from registry.authority import Authority
from registry.follower import Follower
from registry.http import create_app

INSTANCE = "VN-TEST"
CONTRACT = json.dumps(
    {
        "openapi": "3.1.0",
        "info": {"title": "Citizens", "version": "1.0"},
        "paths": {
            "/citizens/{number}": {
                "get": {
                    "operationId": "getCitizen",
                    "parameters": [{"name": "number", "in": "path", "required": True, "schema": {"type": "string"}}],
                    "responses": {
                        "200": {
                            "description": "found",
                            "content": {
                                "application/json": {
                                    "schema": {
                                        "type": "object",
                                        "properties": {
                                            "name": {"type": "string"},
                                            "religion": {"type": "string", "x-lienthong-field": "religion"},
                                        },
                                    }
                                }
                            },
                        }
                    },
                }
            }
        },
    }
)


def run(*args: object, code: int = 0) -> Result:
    """Runs a command; its exit code must be as expected, and it never shows a traceback."""
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise AssertionError(f"{args} ended with a traceback") from result.exception
    assert result.exit_code == code, result.output
    return result


def run_json(*args: object, code: int = 0) -> dict[str, Any]:
    """Runs a command with `--json`; its one object."""
    (line,) = run(*args, "--json", code=code).stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def fails(*args: object) -> str:
    """Code of the one-line error that a command ends with, in text and in JSON the same."""
    result = run(*args, code=1)
    assert result.stdout == ""
    first = result.stderr.splitlines()[0]
    assert first.startswith("error [")
    code = first[len("error [") : first.index("]")]
    words = takewhile(lambda arg: not str(arg).startswith("-"), args)
    if "--json" in run(*list(words)[:2], "--help").output:
        found = run_json(*args, code=1)["error"]
        assert found["code"] == code
        assert found["message"]
    return code


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


class Feed:
    """A feed in memory."""

    def __init__(self) -> None:
        self.bundles: dict[int, list[bytes]] = {}
        self.note = b""
        self.blobs: dict[str, bytes] = {}

    async def publish_entries(self, first_index, leaves):
        self.bundles[first_index // 64] = list(leaves)

    async def publish_checkpoint(self, note):
        self.note = note

    async def publish_blob(self, sha256, data):
        self.blobs[sha256] = data

    async def latest_checkpoint(self):
        from registry.errors import FeedUnavailable

        if not self.note:
            raise FeedUnavailable("nothing yet")
        return self.note

    async def entries(self, bundle_index):
        return self.bundles[bundle_index]

    async def blob(self, sha256):
        return self.blobs[sha256]


class Registry:
    """The registry of an instance home, in a thread with an event loop of its own."""

    def __init__(self, home: Path) -> None:
        self._home = InstanceHome(home)
        self.feed = Feed()
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._authority: Authority | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Registry:
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        home, facts = self._home, self._home.facts
        authority = self._authority = await Authority.open(
            home.registry,
            genesis=facts.genesis,
            instance=facts.instance,
            log_signer=FileSigner.load(home.keys / "directory.pem"),
            cosigner=FileSigner.load(home.keys / "cosigner.pem"),
            now=lambda: datetime.now(UTC),
            token=lambda: "token-of-twenty-chars",
            feed=self.feed,
        )
        account = FileSigner.load(home.broker / "account.pem")
        minter = AccountMinter(account.public_bytes, account.sign, time.time)
        runner = web.AppRunner(create_app(authority, minter=minter), access_log=None, shutdown_timeout=1)
        await runner.setup()
        if authority.directory.anchor is None:
            await authority.submit((home.registry / "anchor.json").read_bytes())
        host, _, port = facts.registry_listen.rpartition(":")
        await web.TCPSite(runner, host, int(port), ssl_context=server_context(home)).start()
        self._ready.set()
        try:
            await self._stop.wait()
        finally:
            await runner.cleanup()
            await authority.close()

    def follow(self, member: Path) -> None:
        """What a gateway does: its member's copy of the directory as it is now."""

        async def heartbeat() -> None:
            await self._authority.heartbeat()

        asyncio.run_coroutine_threadsafe(heartbeat(), self._loop).result(20)
        home = MemberHome(member)
        home.data.mkdir(exist_ok=True)
        follower = Follower(self.feed, home.data / "directory.db", home.facts.genesis, now=lambda: datetime.now(UTC))
        try:
            asyncio.run(follower.update())
        finally:
            follower.close()
