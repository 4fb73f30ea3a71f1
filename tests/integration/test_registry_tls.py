"""HTTPS of the registry, on the real thing: who may be believed, and what somebody in between learns."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from world import World

from console.health import main as health
from console.homes import InstanceHome, MemberHome
from console.membership import call_registry
from evidence.issue import create_authority, issue_tls, to_pem
from evidence.signer import FileSigner
from registry.client import RegistryClient, RegistryNotProven, RegistryRefused


@asynccontextmanager
async def _in_between(folder: Path, anchors: bytes, *, redirect: str = "") -> AsyncIterator[tuple[str, list[str]]]:
    """A server with a certificate of its own making that passes the genuine anchors on, and notes what it is asked."""
    now = datetime.now(UTC)
    since, until = now - timedelta(minutes=5), now + timedelta(days=1)
    authority = create_authority(
        "VN-TEST authority", FileSigner.generate("p256"), not_before_at=since, not_after_at=until
    )
    key = FileSigner.generate("p256")
    der = issue_tls(authority, "registry", key.private_key.public_key(), role="server", ip_addresses=["127.0.0.1"],
                    not_before_at=since, not_after_at=until)  # fmt: skip
    key.save(folder / "key.pem")
    (folder / "crt.pem").write_bytes(to_pem([der]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "crt.pem", folder / "key.pem")
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(f"{request.method} {request.path}")
        if redirect:
            raise web.HTTPFound(redirect + request.path)
        return web.Response(body=anchors)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield f"https://127.0.0.1:{runner.addresses[0][1]}", asked
    finally:
        await runner.cleanup()


def _trusting(world: World) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(world.home / "ca" / "ca.crt"))


async def test_somebody_in_between_gets_nothing_but_the_question_for_the_anchors(world: World, tmp_path: Path) -> None:
    with urllib.request.urlopen(f"{world.registry_url}/anchor", context=_trusting(world)) as got:
        anchors = got.read()
    async with _in_between(tmp_path, anchors) as (url, asked):
        async with RegistryClient(f"{url}#sha256:{world.genesis}") as client:
            assert (await client.anchor(world.genesis))[
                0
            ].instance == world.instance  # they are genuine, whoever gives them
            with pytest.raises(RegistryNotProven):
                await client.request(b"a signed request")
            with pytest.raises(RegistryNotProven):
                await client.credentials(world.member("H37").node)
        assert asked == ["GET /anchor"]


async def test_a_redirect_is_not_followed(world: World, tmp_path: Path) -> None:
    async with (
        _in_between(tmp_path, b"", redirect=world.registry_url) as (url, asked),
        RegistryClient(f"{url}#sha256:{world.genesis}") as client,
    ):
        with pytest.raises(RegistryRefused, match="302"):
            await client.requests()
        assert asked == ["GET /anchor"]


def test_an_address_without_its_genesis_is_not_used(world: World) -> None:
    with pytest.raises(RegistryNotProven, match="genesis"):
        call_registry(world.registry_url, lambda client: client.requests())


def test_a_member_and_the_operator_keep_the_address_with_its_genesis(world: World) -> None:
    pinned = f"{world.registry_url}#sha256:{world.genesis}"
    assert MemberHome(world.member("H37").home).facts.registry == pinned
    assert InstanceHome(world.home).facts.registry_url == pinned


def test_nothing_older_than_tls_1_3_is_spoken(world: World) -> None:
    context = _trusting(world)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(urllib.error.URLError, match=r"(?i)protocol|alert"):
        urllib.request.urlopen(f"{world.registry_url}/livez", context=context)


def test_plain_http_is_for_loopback_and_has_to_be_asked_for(tmp_path: Path, world: World) -> None:
    made = world.command("init", "instance", "VN-PLAIN", "--home", str(tmp_path / "plain"), "--plain-http")
    assert made["registry"] == "http://127.0.0.1:8470"
    assert not (tmp_path / "plain" / "registry" / "tls.pem").exists()
    with pytest.raises(AssertionError, match="loopback"):
        world.command("init", "instance", "VN-PLAIN", "--home", str(tmp_path / "other"), "--plain-http",
                      "--registry-listen", "0.0.0.0:8470")  # fmt: skip
    assert not (tmp_path / "other").exists()
    with pytest.raises(AssertionError, match="plain http"):
        world.command("join", "--member", f"{world.instance}/GOV/P", "--home", str(tmp_path / "p"), "--registry",
                      "http://registry.example:80", "--genesis", f"sha256:{world.genesis}", "--name", "en=P")  # fmt: skip


def test_renewed_certificates_are_served_after_a_restart(empty_world: World) -> None:
    world = empty_world
    host, port = "127.0.0.1", world.registry_port
    before = ssl.get_server_certificate((host, port), ca_certs=str(world.home / "ca" / "ca.crt"))
    made = world.command("operator", "tls", "--home", str(world.home))
    assert len(made["renewed"]) == 2
    world.stop_registry()
    world.stop_broker()
    world.start_broker()
    world.start_registry()
    after = ssl.get_server_certificate((host, port), ca_certs=str(world.home / "ca" / "ca.crt"))
    assert before != after
    world.add_member("R01")
    world.start_gateway("R01")


def test_health_is_asked_over_https_by_the_instances_authority_only(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"{world.registry_url}/readyz"
    monkeypatch.setenv("LIENTHONG_HEALTH_CA", str(world.home / "ca" / "ca.crt"))
    assert health([url]) == 0
    monkeypatch.delenv("LIENTHONG_HEALTH_CA")
    assert health([url]) == 1
    assert "unreachable" in capsys.readouterr().err
