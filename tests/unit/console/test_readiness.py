"""Waiting for processes, and the health check of containers, against a server on loopback."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from console import health, readiness
from console.readiness import NotReady, missing, wait_ready

NOT_READY = json.dumps(
    {"ready": False, "checks": [{"name": "log", "ok": True}, {"name": "broker", "ok": False, "code": "broker-down"}]}
).encode()


class Server:
    """Answers each request with the next of `answers`, the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes]] = [(200, b"{}")]
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                status, body = outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0]
                outer.paths.append(self.path)
                if status == 0:
                    self.wfile.write(body)
                    return
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                return

        self.paths: list[str] = []
        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server():
    made = Server()
    yield made
    made.close()


@pytest.fixture
def gateway(tmp_path, server):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "listening.json").write_text(json.dumps({"admin": server.url}))
    return tmp_path


@pytest.fixture
def instance(tmp_path, server):
    (tmp_path / "instance.json").touch()
    for name in ("broker", "registry"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "listening.json").write_text(json.dumps({"url": server.url}))
    return tmp_path


def test_an_instance_with_a_cluster_is_ready_when_its_registry_is(instance, server):
    (instance / "broker" / "listening.json").unlink()
    assert missing(instance) == "the broker does not run (lienthong broker)"
    (instance / "instance.json").write_text(json.dumps({"broker_servers": [{"number": 1}]}))
    assert missing(instance) == ""
    server.answers = [(503, NOT_READY)]
    assert missing(instance) == "broker=broker-down"


def test_one_server_of_a_cluster_is_ready_when_it_says_so(tmp_path, server):
    (tmp_path / "server.json").write_text("{}")
    assert missing(tmp_path) == "the broker does not run (lienthong broker)"
    (tmp_path / "listening.json").write_text(json.dumps({"monitor": server.url}))
    assert missing(tmp_path) == ""
    assert server.paths == ["/healthz?js-enabled-only=true"]


def test_a_gateway_is_ready_when_it_says_so(gateway, server):
    assert missing(gateway) == ""
    assert server.paths == ["/readyz"]
    server.answers = [(503, NOT_READY)]
    assert missing(gateway) == "broker=broker-down"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (503, b""),
        (503, b"<html>"),
        (503, b"[]"),
        (503, b'{"checks":7}'),
        (503, b'{"checks":[{}]}'),
        (404, b"{}"),
        (503, b"\xff"),
    ],
)
def test_what_is_no_answer_of_ours_is_told_by_its_status(gateway, server, status, body):
    server.answers = [(status, body)]
    assert missing(gateway) == f"HTTP {status}"


def test_another_success_is_not_ready(gateway, server):
    server.answers = [(204, b"")]
    assert missing(gateway) == "HTTP 204"


def test_what_is_no_http_is_told(gateway, server):
    server.answers = [(0, b"nonsense\r\n\r\n")]
    assert missing(gateway).startswith("no answer")


def test_a_process_that_does_not_run_is_told(gateway, server, tmp_path):
    server.close()
    assert missing(gateway).startswith("no answer")
    for content in ("", "{", "[]", "7", "{}"):
        (gateway / "data" / "listening.json").write_text(content)
        assert "lienthong gateway" in missing(gateway)
    (gateway / "data" / "listening.json").unlink()
    assert "lienthong gateway" in missing(gateway)
    server.__init__()


def test_an_instance_needs_broker_and_registry(instance):
    assert missing(instance) == ""
    (instance / "registry" / "listening.json").unlink()
    assert "lienthong registry" in missing(instance)
    (instance / "broker" / "listening.json").unlink()
    assert "lienthong broker" in missing(instance)


def test_waiting_ends_when_all_are_ready(gateway, server, monkeypatch):
    monkeypatch.setattr(readiness, "_PAUSE_S", 0)
    server.answers = [(503, NOT_READY), (503, NOT_READY), (200, b"{}")]
    assert wait_ready([gateway], 20) >= 0
    assert len(server.paths) == 3


def test_waiting_ends_with_what_was_missing(gateway, server, monkeypatch):
    monkeypatch.setattr(readiness, "_PAUSE_S", 0)
    server.answers = [(503, NOT_READY)]
    with pytest.raises(NotReady, match="broker=broker-down"):
        wait_ready([gateway], 0)


# --- python -m console.health ---------------------------------------------------------------------------------------


def test_health_is_an_exit_code(server, capsys):
    assert health.main([f"{server.url}/livez"]) == 0
    assert health.main([server.url]) == 0
    assert server.paths == ["/livez", "/"]
    server.answers = [(503, NOT_READY)]
    assert health.main([server.url]) == 1
    assert capsys.readouterr().err == "not ready: HTTP 503 broker=broker-down\n"
    server.answers = [(500, b"<html>")]
    assert health.main([server.url]) == 1
    assert capsys.readouterr().err == "not ready: HTTP 500\n"


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["ftp://x"], ["http://"], ["x"], ["http://["]])
def test_wrong_usage_is_told(arguments, capsys):
    assert health.main(arguments) == 2
    assert capsys.readouterr().err.startswith("usage:")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://127.0.0.1:99999"])
def test_an_address_that_does_not_answer_is_told(url, capsys):
    assert health.main([url]) == 1
    assert capsys.readouterr().err.startswith("unreachable: ")


def test_the_health_check_needs_the_standard_library_only():
    program = "import sys, console.health; print([n for n in ('aiohttp', 'click', 'bus') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
