"""Revocation lists of the authority: fetched, enforced, kept over restarts, and what happens when none is to be had."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from world import World, standard_world, wait_until

SERVICE = "G01/desk/notes"


class ListServer:
    """Serves one file; can be told to redirect, or to fail."""

    def __init__(self, path: Path) -> None:
        self.path, self.redirect, self.fails, self.asked = path, "", False, 0
        told = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                told.asked += 1
                if told.redirect or told.fails:
                    self.send_response_only(302 if told.redirect else 503)
                    self.send_header("Location", told.redirect)
                    self.end_headers()
                    return
                data = told.path.read_bytes()
                self.send_response_only(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/list.crl"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


@pytest.fixture
def listed(tmp_path: Path) -> Iterator[tuple[World, ListServer]]:
    """A standard world whose anchor names a list; gateways ask for it all the time."""
    with standard_world(tmp_path / "world") as world:
        server = ListServer(tmp_path / "list.crl")
        try:
            for code in ("H37", "G01"):
                settings = world.member(code).home / "gateway.toml"
                settings.write_text(settings.read_text() + "\n[revocation]\nrefresh_s = 0.2\n")
                world.stop_gateway(code)
            issue(world, server)
            world.command("certificate", "lists", server.url, "--home", str(world.home))
            for code in ("H37", "G01"):
                world.start_gateway(code)
            wait_until(lambda: left_s(world, "G01") > 0, "a list at the provider")
            wait_until(lambda: left_s(world, "H37") > 0, "a list at the consumer")
            yield world, server
        finally:
            server.close()


def issue(world: World, server: ListServer, days: float = 7) -> None:
    world.command("certificate", "crl", "--home", str(world.home), "--out", str(server.path), "--days", str(days))


def left_s(world: World, code: str) -> float:
    return world.metric(code, "lienthong_revocation_list_left_seconds")


def code_of(world: World) -> str:
    answer = world.call(world.clients["H37/app"], SERVICE, "/notes/1", purpose="residence")
    return "" if answer.status == 200 else answer.code


def test_a_member_whose_certificate_is_on_the_list_is_cut_off_and_stays_so(listed: tuple[World, ListServer]) -> None:
    world, server = listed
    assert code_of(world) == ""
    certificate = str(world.member("G01").home / "keys" / "member.crt")
    world.command("certificate", "revoke", certificate, "--home", str(world.home))
    issue(world, server)
    wait_until(lambda: code_of(world) == "provider-revoked", "the refusal of the provider")
    # nobody can serve an older list, a redirect leads nowhere, and the state outlives the server and a restart
    old = server.path.read_bytes()
    issue(world, server)
    asked = server.asked
    wait_until(lambda: server.asked > asked + 2, "the newer list")
    server.path.write_bytes(old)
    server.redirect = "http://127.0.0.1:1/elsewhere"
    failures = world.metric("H37", "lienthong_revocation_list_failures_total")
    wait_until(lambda: world.metric("H37", "lienthong_revocation_list_failures_total") > failures, "a failure")
    assert code_of(world) == "provider-revoked"
    server.close()
    world.stop_gateway("H37")
    world.start_gateway("H37")
    assert code_of(world) == "provider-revoked"


def test_a_consumer_whose_certificate_is_on_the_list_is_dropped(listed: tuple[World, ListServer]) -> None:
    world, server = listed
    certificate = str(world.member("H37").home / "keys" / "member.crt")
    world.command("certificate", "revoke", certificate, "--home", str(world.home))
    issue(world, server)
    wait_until(lambda: code_of(world) == "provider-dropped", "the drop")
    assert world.dropped("G01")["certificate-revoked"] >= 1


def test_without_a_current_list_calls_are_refused_until_there_is_one(listed: tuple[World, ListServer]) -> None:
    world, server = listed
    issue(world, server, days=3 / 86_400)
    wait_until(lambda: left_s(world, "H37") <= 3, "the short list")
    server.fails = True
    wait_until(lambda: code_of(world) == "revocation-unknown", "the refusal", 10)
    assert "revocation-unknown" in world.admin("H37", "/readyz").body.decode()
    assert world.metric("H37", "lienthong_alarms_total", code="revocation-list-stale") == 1
    server.fails = False
    issue(world, server)
    # after a failure the next try comes by itself
    wait_until(lambda: code_of(world) == "", "calls again", 10)


def test_a_setting_goes_on_with_the_last_list_and_says_so(listed: tuple[World, ListServer]) -> None:
    world, server = listed
    for code in ("H37", "G01"):
        settings = world.member(code).home / "gateway.toml"
        settings.write_text(settings.read_text() + 'when_unreachable = "warn"\n')
        world.stop_gateway(code)
        world.start_gateway(code)
    issue(world, server, days=2 / 86_400)
    wait_until(lambda: left_s(world, "H37") <= 0 < 10 + left_s(world, "H37"), "an old list")
    server.fails = True
    wait_until(lambda: world.metric("H37", "lienthong_alarms_total", code="revocation-list-stale") == 1, "the alarm")
    assert code_of(world) == ""
