"""The embedded broker's configuration, and its start with programs that stand for nats-server."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bus.transport.broker import BrokerFailed, BrokerFiles, EmbeddedBroker, find_binary, render_config


@pytest.fixture
def files(tmp_path):
    return BrokerFiles(
        home=tmp_path / "broker",
        operator_jwt="operator.jwt.x",
        system_account="SYSACCOUNT",
        accounts={"ACCOUNT": "account.jwt.x", "SYSACCOUNT": "system.jwt.x"},
        tls_cert=tmp_path / "tls.crt",
        tls_key=tmp_path / "tls.pem",
        listen="127.0.0.1:4222",
    )


def program(path: Path, body: str) -> str:
    path.write_text(f"#!{sys.executable}\n{body}")
    path.chmod(0o755)
    return str(path)


def test_the_configuration_has_what_the_bus_relies_on(files):
    text = render_config(files)
    assert 'listen: "127.0.0.1:4222"' in text
    assert f"max_payload: {8 * 1024 * 1024}" in text
    assert 'min_version: "1.3"' in text
    assert 'handshake_first: "500ms"' in text
    assert "operator: operator.jwt.x" in text
    assert "system_account: SYSACCOUNT" in text
    assert "  ACCOUNT: account.jwt.x\n  SYSACCOUNT: system.jwt.x" in text
    assert "sync_interval: always" in text
    assert "type: full" in text
    assert "allow_delete: false" in text
    assert 'http: "127.0.0.1:-1"' in text
    assert "no_auth_user" not in text


def test_port_zero_takes_a_free_one_and_syncing_can_be_eased(files):
    text = render_config(replace(files, listen="127.0.0.1:0", sync_always=False))
    assert 'listen: "127.0.0.1:-1"' in text
    assert 'sync_interval: "2m"' in text


def test_a_path_with_quotes_cannot_end_its_string(files, tmp_path):
    text = render_config(replace(files, tls_cert=tmp_path / 'a"b\nc'))
    assert r"a\"b\nc" in text


def test_the_configured_program_comes_first(tmp_path):
    mine = program(tmp_path / "mine", "")
    assert find_binary(mine) == mine
    assert os.access(find_binary(), os.X_OK)


def test_a_missing_program_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BrokerFailed, match="not found"):
        find_binary()
    assert find_binary(mine := program(tmp_path / "nats-server", "")) == mine


SERVER = """
import http.server, json, os, re, signal, sys
config = open(sys.argv[2]).read()
ports = re.search(r'ports_file_dir: "(.*)"', config)[1]
class Handler(http.server.BaseHTTPRequestHandler):
    asked = 0
    def do_GET(self):
        Handler.asked += 1
        self.send_response(200 if Handler.asked > 1 else 503)
        self.end_headers()
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
path = f"{ports}/nats-server_{os.getpid()}.ports"
open(path + "x", "w").write("{")
os.rename(path + "x", path)
open(path + "x", "w").write(json.dumps({"nats": ["nats://127.0.0.1:4"], "monitoring": [f"http://127.0.0.1:{server.server_port}"]}))
os.rename(path + "x", path)
server.serve_forever()
"""


async def test_the_broker_is_ready_when_its_health_says_so(files, tmp_path):
    broker = EmbeddedBroker(files, program(tmp_path / "server", SERVER))
    assert broker.pid == 0
    (files.home / "ports").mkdir(parents=True)
    stale = files.home / "ports" / "nats-server_1.ports"
    stale.touch()
    await broker.start(30)
    try:
        assert broker.url == "tls://127.0.0.1:4"
        assert broker.pid > 0
        assert not stale.exists()
        assert "operator.jwt.x" in (files.home / "nats-server.conf").read_text()
        with pytest.raises(BrokerFailed, match="another broker"):
            await EmbeddedBroker(files, broker._binary).start()
    finally:
        await broker.stop()
    assert await broker.wait() == 7
    assert broker.pid == 0
    with (files.home / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    await broker.stop()


async def test_a_broker_that_ends_at_once_is_told(files, tmp_path):
    broker = EmbeddedBroker(files, program(tmp_path / "server", "print('bad configuration')"))
    with pytest.raises(BrokerFailed, match="ended"):
        await broker.start(30)
    assert b"bad configuration" in (files.home / "nats-server.log").read_bytes()
    await broker.stop()


async def test_a_broker_that_is_never_ready_is_stopped(files, tmp_path):
    broker = EmbeddedBroker(files, program(tmp_path / "server", "import time\ntime.sleep(60)"))
    with pytest.raises(BrokerFailed, match="not ready"):
        await broker.start(0.3)
    assert broker.pid == 0
    assert broker._lock_fd == -1


async def test_a_broker_whose_store_is_in_use_gives_nothing_back_twice(files, tmp_path):
    files.home.mkdir()
    with (files.home / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        broker = EmbeddedBroker(files, program(tmp_path / "server", ""))
        with pytest.raises(BrokerFailed, match="another broker"):
            await broker.start()
        await broker.stop()
    await asyncio.sleep(0)
