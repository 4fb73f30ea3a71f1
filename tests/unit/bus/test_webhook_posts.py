"""Webhooks over HTTP: what is sent, what is not followed, whom the gateway does not believe; and their settings."""

from __future__ import annotations

import asyncio
import base64
import ssl
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from aiohttp import web
from test_gateway_settings import GOOD, line_of, problems

from bus import errors
from bus.delivery.webhooks import Target
from bus.front.server import server_tls
from bus.gateway.webhookposts import WebhookPoster, read_targets
from bus.settings import Client
from evidence.issue import create_authority, issue_tls, to_pem
from evidence.signer import FileSigner, generate_key_file

SECRET = b"s" * 32


class Receiver:
    """Answers what the test says."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, dict[str, str], bytes]] = []
        self.answer = web.Response(status=204)
        self.release = asyncio.Event()
        self.release.set()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.heard.append((request.method, request.path, dict(request.headers), await request.read()))
        await self.release.wait()
        return self.answer


@pytest.fixture
async def receiver():
    made = Receiver()
    runner = web.ServerRunner(web.Server(made.handle))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.port = runner.addresses[0][1]
    yield made
    made.release.set()
    await runner.cleanup()


@pytest.fixture
async def poster():
    made = WebhookPoster()
    yield made
    await made.close()


async def test_one_post_with_its_headers_and_body(receiver, poster):
    target = Target(f"http://127.0.0.1:{receiver.port}/hook", SECRET)
    assert await poster.post(target, {"webhook-id": "a_1", "content-type": "application/json"}, b"{}") == 204
    ((method, path, headers, body),) = receiver.heard
    assert (method, path, headers["webhook-id"], body) == ("POST", "/hook", "a_1", b"{}")


async def test_a_redirect_is_not_followed(receiver, poster):
    receiver.answer = web.Response(status=307, headers={"Location": f"http://127.0.0.1:{receiver.port}/elsewhere"})
    assert await poster.post(Target(f"http://127.0.0.1:{receiver.port}/hook", SECRET), {}, b"{}") == 307
    assert [path for _, path, _, _ in receiver.heard] == ["/hook"]


async def test_who_does_not_answer_in_time_failed(receiver, poster, monkeypatch):
    monkeypatch.setattr("bus.gateway.webhookposts._DEADLINE_S", 0.1)
    receiver.release.clear()
    with pytest.raises(OSError, match="did not answer"):
        await poster.post(Target(f"http://127.0.0.1:{receiver.port}/hook", SECRET), {}, b"{}")


async def test_who_is_not_there_failed(receiver, poster):
    with pytest.raises(OSError, match="did not answer"):
        await poster.post(Target("http://127.0.0.1:1/hook", SECRET), {}, b"{}")


async def test_a_certificate_that_the_settings_do_not_trust_is_refused(poster, tmp_path):
    now = datetime.now(UTC)
    days = {"not_before_at": now - timedelta(days=1), "not_after_at": now + timedelta(days=1)}
    authority = create_authority("test", FileSigner.generate("p256"), **days)
    (tmp_path / "ca.crt").write_bytes(authority.pem)
    key = generate_key_file(tmp_path / "server.key", "p256")
    made = issue_tls(
        authority, "server", key.private_key.public_key(), role="server", dns_names=[], ip_addresses=["127.0.0.1"], **days
    )  # fmt: skip
    (tmp_path / "server.crt").write_bytes(to_pem([made]))
    receiver = Receiver()
    runner = web.ServerRunner(web.Server(receiver.handle))
    await runner.setup()
    tls: ssl.SSLContext = server_tls(str(tmp_path / "server.crt"), str(tmp_path / "server.key"), "")
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    url = f"https://127.0.0.1:{runner.addresses[0][1]}/hook"
    try:
        with pytest.raises(OSError, match="did not answer"):
            await poster.post(Target(url, SECRET), {}, b"{}")
        assert receiver.heard == []
        assert await poster.post(Target(url, SECRET, str(tmp_path / "ca.crt")), {}, b"{}") == 204
    finally:
        await runner.cleanup()


# --- settings ---------------------------------------------------------------------------------------------------------


def settings(tmp_path, secret: bytes, mode: int = 0o600, **more: object) -> SimpleNamespace:
    path = tmp_path / "secret"
    path.write_bytes(secret)
    path.chmod(mode)
    client = Client(name="desk", subsystems=(), webhook_url="https://desk.example/", webhook_secret=path, **more)
    return SimpleNamespace(client=(client, Client(name="other", subsystems=())))


def test_who_has_an_address_is_told(tmp_path):
    text = b"whsec_" + base64.b64encode(SECRET) + b"\n"
    assert read_targets(settings(tmp_path, text)) == {"desk": Target("https://desk.example/", SECRET)}


@pytest.mark.parametrize(
    ("secret", "mode"),
    [(b"whsec_" + base64.b64encode(SECRET), 0o644), (b"whsec_AAAA", 0o600), (b"", 0o600), (b"\xff" * 40, 0o600)],
)
def test_a_secret_that_is_none_or_open_to_others_is_refused_without_being_told(tmp_path, secret, mode):
    with pytest.raises(errors.SettingsInvalid) as caught:
        read_targets(settings(tmp_path, secret, mode))
    assert "client desk" in str(caught.value)
    assert base64.b64encode(SECRET).decode() not in str(caught.value)


def test_an_authority_that_is_none_is_refused(tmp_path):
    (tmp_path / "ca.crt").write_text("no certificate")
    text = b"whsec_" + base64.b64encode(SECRET)
    with pytest.raises(errors.SettingsInvalid, match="webhook_ca"):
        read_targets(settings(tmp_path, text, webhook_ca=tmp_path / "ca.crt"))


@pytest.mark.parametrize(
    "added",
    [
        'webhook_url = "https://desk.example/"',
        'webhook_secret = "secret"',
        'webhook_url = "file:///etc/passwd"\nwebhook_secret = "secret"',
        'webhook_url = "https://user:word@desk.example/"\nwebhook_secret = "secret"',
    ],
)
def test_an_address_that_cannot_be_one_is_told_with_its_line(added):
    text = GOOD.replace('key = "keys/clients/onedoor.hash"', f'key = "keys/clients/onedoor.hash"\n{added}')
    ((line, key, _),) = problems(text)
    assert key == "client[0].webhook_url"
    assert line in (line_of(text, "webhook_"), line_of(text, "[[client]]"))


def test_commands_are_known_at_least_as_long_as_their_results():
    ((_, key, _),) = problems(GOOD + "\n[retention]\nresults_days = 7.0\ncommands_days = 1.0\n")
    assert key == "retention.commands_days"
