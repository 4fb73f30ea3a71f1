"""A reusable test world: a real broker, a real registry and real gateways, brought up by the console's own commands.

    with World(tmp_path) as world:                      # instance, broker and registry run
        world.add_member("H37")                         # keys, certificate, approval, node n1, credentials
        world.add_member("G01")
        client = world.add_client("H37", "onedoor")     # subsystem + client system with an API key
        world.publish("G01", "desk/notes", contract=Path(...), kind="http", settings={"base_url": ...})
        world.grant("VN-TEST/GOV/H37/onedoor", "G01", "desk/notes")
        world.start_gateway("H37")                      # returns once /readyz says 200
        world.start_gateway("G01")
        answer = world.call(client, "G01/desk/notes", "/notes/1", purpose="residence")
        answer.status, answer.headers, answer.body, answer.json()
        await world.call_async(...)                     # the same in a thread, for concurrent calls
        world.metrics("G01")                            # {"lienthong_dropped_total{code=\\"replayed\\"}": 1.0, ...}
        world.metric("G01", "lienthong_dropped_total", code="replayed")   # 0.0 when it does not exist
        world.member("H37").home / .node / .data / .log_db / .process   # see Member
        world.log_path("H37")                           # the gateway's stderr (JSON lines)
        nats = await world.nats_connection(as_node="H37")   # as that node; as_node=None: all rights in the account
        world.stop_gateway("G01"); world.kill_gateway("G01"); world.start_gateway("G01")
        world.stop_broker(); world.start_broker(); world.stop_registry(); world.start_registry()
        wait_until(lambda: world.metric(...) == 1)      # poll with a deadline; raises with `what`
        await eventually(lambda: ...)                   # the same without blocking the event loop (nats needs it)

`standard_world(folder)` is a context manager with H37 (client) and G01 (provider of `desk/notes`, kind `http`, in
front of the recording `Backend` in `world.backend`) that run already.

Every method is synchronous and may be called from tests with or without an event loop (commands run in a thread of
their own); start processes from the main thread only (the death signal follows the starting thread). Each process has
a session of its own, is told to die with this one, and is stopped by `World.close`. Ports are free ones.

Nothing here imports a gateway: processes are the product's own, configured through its own files.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ctypes
import http.client
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, Self

import click.testing
import msgspec
import nats.aio.client

from console.cli import main as console_main
from console.instance import BrokerIdentityFile
from evidence.signer import FileSigner

INSTANCE = "VN-TEST"
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
_METRIC = re.compile(r"([a-z_]+(?:\{.*\})?) (\S+)")

CONTRACT = """
openapi: 3.1.0
info: {title: Desk, version: 1.0.0}
paths:
  /notes:
    post:
      operationId: addNote
      requestBody:
        required: true
        content:
          application/json:
            schema: {type: object, required: [text], properties: {text: {type: string, maxLength: 100000}}}
      responses: &answers
        '200': {description: Done, content: {application/json: {schema: {type: object}}}}
  /notes/{id}:
    get:
      operationId: getNote
      parameters:
        - {name: id, in: path, required: true, schema: {type: string, maxLength: 200}}
        - {name: q, in: query, schema: {type: string, maxLength: 200}}
      responses: *answers
    delete:
      operationId: dropNote
      parameters: [{name: id, in: path, required: true, schema: {type: string, maxLength: 200}}]
      responses: {'204': {description: Gone}}
  /admin/{id}:
    get:
      operationId: adminOnly
      parameters: [{name: id, in: path, required: true, schema: {type: string, maxLength: 200}}]
      responses: *answers
  /flags/{id}:
    get:
      operationId: getFlag
      parameters: [{name: id, in: path, required: true, schema: {type: string, maxLength: 200}}]
      responses:
        '200':
          description: A truth
          content: {application/json: {schema: {type: object, properties: {value: {type: boolean}}}}}
  /jump:
    get:
      operationId: jump
      responses: {'302': {description: Elsewhere}}
  /slow:
    get: {operationId: slow, responses: *answers}
  /fail/{status}:
    get:
      operationId: fail
      parameters: [{name: status, in: path, required: true, schema: {type: integer, minimum: 200, maximum: 599}}]
      responses: *answers
"""


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(condition: Callable[[], Any], what: str = "the condition", deadline_s: float = 15.0) -> Any:
    """Polls until `condition()` is truthy and returns it; AssertionError after the deadline."""
    end_s = time.monotonic() + deadline_s
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end_s:
            raise AssertionError(f"{what} did not come about within {deadline_s:g} s")
        time.sleep(0.02)


async def eventually(condition: Callable[[], Any], what: str = "the condition", deadline_s: float = 15.0) -> Any:
    """`wait_until` for tests with connections of their own: the event loop goes on between the looks."""
    end_s = time.monotonic() + deadline_s
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end_s:
            raise AssertionError(f"{what} did not come about within {deadline_s:g} s")
        await asyncio.sleep(0.01)


@dataclass
class Answer:
    """One HTTP answer: header names in lower case, the last of equal ones."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """`code` of a problem, empty when it is none."""
        try:
            return str(self.json().get("code", ""))
        except (ValueError, AttributeError):
            return ""


@dataclass(frozen=True)
class ClientSystem:
    """A client system: its key, its gateway's member and the subsystem it speaks as."""

    member: str
    subsystem: str
    key: str
    name: str = ""


@dataclass
class Member:
    """A member of the world."""

    code: str
    id: str
    home: Path
    process: subprocess.Popen[bytes] | None = None
    node_name: str = "n1"

    @property
    def node(self) -> str:
        """Its node."""
        return f"{self.id}/@{self.node_name}"

    @property
    def data(self) -> Path:
        """Data folder of its gateway."""
        return self.home / "data"

    @property
    def log_db(self) -> Path:
        """Its exchange log."""
        return self.data / "log.db"

    @property
    def listening(self) -> dict[str, Any]:
        """Where its gateway listens: `front`, `admin`, `pid`; empty when it does not run."""
        try:
            found: dict[str, Any] = json.loads((self.data / "listening.json").read_bytes())
        except FileNotFoundError:
            return {}
        return found

    @property
    def front(self) -> tuple[str, int]:
        """Host and port of the front."""
        host, _, port = self.listening["front"].rpartition("/")[2].rpartition(":")
        return host, int(port)

    def tls(self) -> ssl.SSLContext:
        """Client context that trusts its front."""
        return ssl.create_default_context(cafile=str(self.home / "tls" / "ca.crt"))

    def signer(self, use: str) -> FileSigner:
        """Its key `log`, `broker` or `member`."""
        return FileSigner.load(self.home / "keys" / f"{use}.pem")


@dataclass
class Received:
    """One request as the backend got it: target and headers byte for byte (latin-1)."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """First header of that name."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


class Backend:
    """A recording HTTP backend in a thread, behind kind `http`. `received` is the effects file of the tests.

    `answers` maps a target's beginning to `(status, headers, body)`, or to a callable of `Received` that gives it.
    Without an entry it answers 200 with `{"ok": true}`. `/slow` waits until `release` is set.
    """

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.answers: dict[str, Any] = {}
        self.release = threading.Event()
        self.waiting = 0
        self._lock = threading.Lock()
        backend = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                backend._serve(self, self.rfile.read(length))

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = do_OPTIONS = _any  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A gateway that closes its connection is nothing to report."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def _serve(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        got = Received(handler.command, handler.path, list(handler.headers.items()), body)
        with self._lock:
            self.received.append(got)
        if got.target.startswith("/slow"):
            with self._lock:
                self.waiting += 1
            self.release.wait(20)
            with self._lock:
                self.waiting -= 1
        answer: Any = (200, [("Content-Type", "application/json")], b'{"ok":true}')
        for beginning, made in self.answers.items():
            if got.target.startswith(beginning):
                answer = made(got) if callable(made) else made
        status, headers, content = answer
        handler.send_response_only(status)
        for name, value in headers:
            handler.send_header(name, value)
        if status not in (204, 304):
            handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        if handler.command != "HEAD" and status not in (204, 304):
            handler.wfile.write(content)

    def close(self) -> None:
        """Stops."""
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


def _become_child() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class CommandFailed(AssertionError):
    """A console command failed; `code` is its stable code."""

    def __init__(self, args: tuple[str, ...], output: str) -> None:
        super().__init__(f"lienthong {' '.join(args)}: {output}")
        with contextlib.suppress(ValueError, KeyError, TypeError):
            self.code = json.loads(output.strip().splitlines()[-1])["error"]["code"]


@dataclass
class World:
    """See the module's docstring.

    Attributes:
        folder: Everything lies below it.
        instance: Name of the instance.
        members: By code.
        clients: Client systems by `<member>/<name>`.
        backend: The recording backend behind kind `http`.
    """

    folder: Path
    instance: str = INSTANCE
    members: dict[str, Member] = field(default_factory=dict)
    clients: dict[str, ClientSystem] = field(default_factory=dict)
    backend: Backend = field(default_factory=Backend)

    instance_options: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        self.home = self.folder / "instance"
        self.approve_options: tuple[str, ...] = ()
        self.join_options: tuple[str, ...] = ()
        self.genesis = ""
        self.node_options: tuple[str, ...] = ()
        self.broker: subprocess.Popen[bytes] | None = None
        self.registry: subprocess.Popen[bytes] | None = None
        self._commands = ThreadPoolExecutor(1, "console")

    def __enter__(self) -> Self:
        try:
            self._begin()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _begin(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.registry_port, self.broker_port = free_port(), free_port()
        made = self.command(
            "init", "instance", self.instance, "--home", str(self.home),
            "--registry-listen", f"127.0.0.1:{self.registry_port}",
            "--broker-listen", f"127.0.0.1:{self.broker_port}", *self.instance_options,
        )  # fmt: skip
        self.genesis = made["genesis"].removeprefix("sha256:")
        self.registry_url = made["registry"]
        self.start_broker()
        self.start_registry()

    def close(self) -> None:
        """Stops everything that was started; safe to call twice."""
        self.backend.release.set()
        running = [member.process for member in self.members.values()] + [self.registry, self.broker]
        for process in running:
            _signal(process, signal.SIGTERM)
        for process in running:
            _end(process)
        for member in self.members.values():
            member.process = None
        self.registry = self.broker = None
        self.backend.close()
        self._commands.shutdown()

    # --- commands -----------------------------------------------------------------------------------------------

    def command(self, *args: str) -> dict[str, Any]:
        """Runs `lienthong ARGS --json` in this process, in a thread without an event loop; its JSON.

        Raises:
            CommandFailed: exit code other than 0.
        """
        return self._commands.submit(self._run, args).result(60)

    def answer(self, *args: str) -> dict[str, Any]:
        """`command` for one that says no with exit code 1 and an answer, as `access why` does; its JSON."""
        return self._commands.submit(self._run, args, (0, 1)).result(60)

    @staticmethod
    def _run(args: tuple[str, ...], codes: tuple[int, ...] = (0,)) -> dict[str, Any]:
        result = click.testing.CliRunner().invoke(console_main, [*args, "--json"], catch_exceptions=True)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        if result.exit_code not in codes or '"error"' in result.output:
            raise CommandFailed(args, result.output)
        made: dict[str, Any] = json.loads(result.output)
        return made

    # --- members ------------------------------------------------------------------------------------------------

    def member_id(self, code: str) -> str:
        """`VN-TEST/GOV/<code>`."""
        return f"{self.instance}/GOV/{code}"

    def member(self, code: str) -> Member:
        """A member of the world."""
        return self.members[code]

    def add_member(self, code: str) -> Member:
        """A new member with a node; its gateway does not run yet."""
        member = Member(code, self.member_id(code), self.folder / code)
        home = str(member.home)
        self.command("join", "--member", member.id, "--home", home, "--registry", self.registry_url,
                     "--genesis", f"sha256:{self.genesis}", "--name", f"vi=Cơ quan {code}",
                     *self.join_options)  # fmt: skip
        self.command("member", "approve", "--home", str(self.home), member.id, *self.approve_options)
        self.command("join", "--status", "--home", home)
        self.command("node", "add", "n1", "--home", home, "--front", "127.0.0.1:0", "--admin", "127.0.0.1:0",
                     *self.node_options)  # fmt: skip
        self.members[code] = member
        return member

    def add_node(self, code: str, name: str) -> Member:
        """A further node of a member, known as `CODE-NAME` from here on; its gateway does not run yet."""
        first, home = self.members[code], self.folder / f"{code}-{name}"
        for folder in ("keys/sealing", "data"):
            (home / folder).mkdir(mode=0o700, parents=True)
        for path in (*first.home.glob("*.json"), first.home / "ca.pem", *first.home.glob("keys/member.*"),
                     *first.home.glob("keys/sealing/query-*")):  # fmt: skip
            shutil.copy2(path, home / path.relative_to(first.home))
        for folder in ("gateway.d", "keys/clients", "contracts"):
            if (first.home / folder).is_dir():
                shutil.copytree(first.home / folder, home / folder)
        with (
            contextlib.closing(sqlite3.connect(first.data / "own.db")) as own,
            contextlib.closing(sqlite3.connect(home / "data" / "own.db")) as copy,
        ):
            own.backup(copy)
        self.command("node", "add", name, "--home", str(home), "--front", "127.0.0.1:0", "--admin", "127.0.0.1:0",
                     *self.node_options)  # fmt: skip
        member = self.members[f"{code}-{name}"] = Member(f"{code}-{name}", first.id, home, node_name=name)
        return member

    def add_subsystem(self, code: str, subsystem: str) -> str:
        """A subsystem of a member; its identifier."""
        self.command("subsystem", "add", subsystem, "--home", str(self.members[code].home))
        return f"{self.member_id(code)}/{subsystem}"

    def add_client(self, code: str, subsystem: str, name: str = "app", *, register: bool = True) -> ClientSystem:
        """A client system that acts as `subsystem`, which is registered first unless `register` is false."""
        if register:
            self.add_subsystem(code, subsystem)
        made = self.command("client", "add", name, "--home", str(self.members[code].home), "--subsystem", subsystem)
        client = ClientSystem(code, f"{self.member_id(code)}/{subsystem}", made["key"], name)
        self.clients[f"{code}/{name}"] = client
        return client

    def publish(
        self, code: str, service: str, contract: str | Path = CONTRACT, kind: str = "http",
        settings: Mapping[str, str | int | float | bool] | None = None, options: Sequence[str] = (),
    ) -> str:  # fmt: skip
        """Publishes SUBSYSTEM/SERVICE (the subsystem must exist); kind `http` goes to `world.backend` by default."""
        home = self.members[code].home
        stem = f"{code}-{service.replace('/', '-')}"
        path = contract
        if isinstance(contract, str):
            path = self.folder / f"{stem}.yaml"
            path.write_text(contract, encoding="utf-8")
        told: Mapping[str, Any] = (
            {"base_url": self.backend.url} if settings is None and kind == "http" else settings or {}
        )
        toml = self.folder / f"{stem}.toml"
        toml.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in told.items()), encoding="utf-8")
        self.command("service", "publish", service, "--home", str(home), "--contract", str(path), "--kind", kind,
                     "--settings", str(toml), *options)  # fmt: skip
        return f"{self.member_id(code)}/{service}"

    def grant(self, client: str, code: str, service: str, *options: str) -> None:
        """Grants a client subsystem access to SUBSYSTEM/SERVICE of member `code`."""
        self.command("access", "grant", client, service, "--home", str(self.members[code].home), *options)

    # --- processes ----------------------------------------------------------------------------------------------

    def spawn(self, name: str, *args: str, program: Sequence[str] = ("-m", "console.cli")) -> subprocess.Popen[bytes]:
        """Starts `lienthong ARGS`; stderr and stdout go to `<folder>/<name>.log`.

        `program` is what Python runs instead of the command line, such as `("-c", "…")`.
        """
        assert threading.current_thread() is threading.main_thread(), "start processes from the main thread"
        with (self.folder / f"{name}.log").open("ab") as output:
            return subprocess.Popen(
                [sys.executable, *program, *args],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=Path(__file__).parents[2],
                start_new_session=True,
                preexec_fn=_become_child,
            )

    def start_broker(self) -> None:
        """Starts the broker and waits until it listens."""
        listening = self.home / "broker" / "listening.json"
        listening.unlink(missing_ok=True)  # of one that had to be killed
        self.broker = self.spawn("broker", "broker", "--home", str(self.home))
        self._wait_file(self.broker, listening, "broker")

    def stop_broker(self) -> None:
        """Stops the broker in order."""
        _signal(self.broker, signal.SIGTERM)
        _end(self.broker)
        self.broker = None

    def start_registry(self) -> None:
        """Starts the registry and waits until it listens."""
        listening = self.home / "registry" / "listening.json"
        listening.unlink(missing_ok=True)  # of one that had to be killed
        self.registry = self.spawn("registry", "registry", "--home", str(self.home))
        self._wait_file(self.registry, listening, "registry")

    def stop_registry(self) -> None:
        """Stops the registry in order."""
        _signal(self.registry, signal.SIGTERM)
        _end(self.registry)
        self.registry = None

    def start_gateway(self, code: str, *, ready: bool = True) -> Member:
        """Starts a member's gateway and waits until it is ready (or only listens)."""
        member = self.members[code]
        (member.data / "listening.json").unlink(missing_ok=True)
        member.process = self.spawn(code, "gateway", "--home", str(member.home))
        self._wait_file(member.process, member.data / "listening.json", code)
        if ready:
            self.wait_ready(code)
        return member

    def wait_ready(self, code: str, deadline_s: float = 20.0) -> None:
        """Waits until `/readyz` says 200."""
        process = self.members[code].process

        def is_ready() -> bool:
            assert process is None or process.poll() is None, f"the gateway of {code} ended: {self.tail(code)}"
            return self.admin(code, "/readyz").status == 200

        wait_until(is_ready, f"readiness of {code}", deadline_s)

    def reload_gateway(self, code: str) -> None:
        """Sends SIGHUP and waits until the gateway says that it reloaded (or refused)."""
        process, before = self.members[code].process, self._reloads(code)
        assert process is not None
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: self._reloads(code) > before, f"reload of {code}")

    def _reloads(self, code: str) -> int:
        data = self.log_path(code).read_bytes()
        return data.count(b"settings.reloaded") + data.count(b"settings.refused")

    def stop_gateway(self, code: str) -> None:
        """SIGTERM: the gateway drains and ends."""
        member = self.members[code]
        _signal(member.process, signal.SIGTERM)
        _end(member.process)
        member.process = None

    def kill_gateway(self, code: str) -> None:
        """SIGKILL."""
        member = self.members[code]
        _signal(member.process, signal.SIGKILL)
        _end(member.process)
        member.process = None

    def _wait_file(self, process: subprocess.Popen[bytes], path: Path, name: str) -> None:
        def there() -> bool:
            assert process.poll() is None, f"{name} ended with {process.poll()}: {self.tail(name)}"
            return path.exists()

        wait_until(there, f"start of {name}", 20)

    def log_path(self, name: str) -> Path:
        """Output of a process: a member's code, `broker` or `registry`."""
        return self.folder / f"{name}.log"

    def tail(self, name: str) -> str:
        """The end of its output."""
        return self.log_path(name).read_text(encoding="utf-8", errors="replace")[-2000:]

    # --- talking to it ------------------------------------------------------------------------------------------

    def service_id(self, service: str) -> str:
        """Full identifier of `G01/desk/notes`; a full one stays as it is."""
        return service if service.count("/") > 2 else f"{self.instance}/GOV/{service}"

    def call(
        self, client: ClientSystem, service: str, path: str = "", *, method: str = "GET", body: bytes = b"",
        headers: Mapping[str, str] | None = None, purpose: str = "", ground: str = "", official: str = "",
        timeout_s: float = 30.0,
    ) -> Answer:  # fmt: skip
        """One HTTP call through the client's own gateway; the path goes out as it is given.

        `service` is `G01/desk/notes` or a full identifier. A body is `application/json` unless `headers` say otherwise.
        """
        named = {
            "X-Road-Client": client.subsystem,
            "X-LienThong-Key": client.key,
            "X-LienThong-Purpose": purpose,
            "X-LienThong-Legal-Basis": ground,
            "X-Road-UserId": official,
            "Content-Type": "application/json" if body else "",
            **(headers or {}),
        }
        member = self.members[client.member]
        target = f"/r1/{self.service_id(service)}{path}"
        return self.request(member, method, target, {k: v for k, v in named.items() if v}, body, timeout_s)

    async def call_async(self, client: ClientSystem, service: str, path: str = "", **options: Any) -> Answer:
        """`call` in a thread."""
        return await asyncio.to_thread(lambda: self.call(client, service, path, **options))

    @staticmethod
    def request(
        member: Member, method: str, target: str, headers: Mapping[str, str], body: bytes = b"", timeout_s: float = 30.0
    ) -> Answer:
        """One HTTP request to a member's front, without anything added but Host and Content-Length."""
        host, port = member.front
        connection = http.client.HTTPSConnection(host, port, timeout=timeout_s, context=member.tls())
        try:
            connection.putrequest(method, target, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value.encode())
            if body or method in ("POST", "PUT", "PATCH"):
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            got = connection.getresponse()
            return Answer(got.status, {name.lower(): value for name, value in got.getheaders()}, got.read())
        finally:
            connection.close()

    def admin(self, code: str, path: str) -> Answer:
        """A question to the admin port of a gateway; status 0 when nobody listens."""
        url = self.members[code].listening.get("admin")
        if url is None:
            return Answer(0, {}, b"")
        try:
            with urllib.request.urlopen(url + path, timeout=10) as got:
                return Answer(got.status, dict(got.headers.items()), got.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, dict(error.headers.items()), error.read())
        except OSError:
            return Answer(0, {}, b"")

    def metrics(self, code: str) -> dict[str, float]:
        """All samples of a gateway: `name{labels}` as Prometheus writes it, to value."""
        text = self.admin(code, "/metrics").body.decode()
        found = (_METRIC.fullmatch(line) for line in text.splitlines() if not line.startswith("#"))
        return {match[1]: float(match[2]) for match in found if match is not None}

    def metric(self, code: str, name: str, /, **labels: str) -> float:
        """Sum of the samples of a metric that have these labels; 0.0 when there are none."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(
            value
            for key, value in self.metrics(code).items()
            if key.partition("{")[0] == name and all(part in key for part in wanted)
        )

    def dropped(self, code: str) -> dict[str, float]:
        """`lienthong_dropped_total` of a gateway by code."""
        found = {}
        for key, value in self.metrics(code).items():
            if key.startswith("lienthong_dropped_total{"):
                found[key.split('"')[1]] = value
        return found

    async def nats_connection(self, as_node: str | None = None) -> nats.aio.client.Client:
        """A connection to the broker: as the node of a member (its rights), or with all rights of the account.

        Close it with `await connection.close()`.
        """
        if as_node is None:
            identity = msgspec.json.decode(
                (self.home / "broker" / "identity.json").read_bytes(), type=BrokerIdentityFile
            )
            jwt, signer = identity.registry_user_jwt, FileSigner.load(self.home / "broker" / "registry.pem")
        else:
            keys = self.members[as_node].home / "keys"
            jwt, signer = (keys / "broker.jwt").read_text().strip(), FileSigner.load(keys / "broker.pem")
        context = ssl.create_default_context(cafile=str(self.home / "ca" / "ca.crt"))
        connection = nats.aio.client.Client()

        async def quiet(_error: Exception) -> None:
            """Denied publishes are looked for by the tests themselves."""

        await connection.connect(
            servers=[f"tls://127.0.0.1:{self.broker_port}"],
            tls=context,
            tls_handshake_first=True,
            user_jwt_cb=jwt.encode,
            signature_cb=lambda nonce: base64.b64encode(signer.sign(nonce.encode())),
            error_cb=quiet,
            allow_reconnect=False,
            pending_size=0,
            skip_subject_validation=True,
        )
        return connection


def _signal(process: subprocess.Popen[bytes] | None, number: signal.Signals) -> None:
    if process is not None and process.poll() is None:
        process.send_signal(number)


def _end(process: subprocess.Popen[bytes] | None) -> None:
    """Waits for the end; kills the whole session of a process that does not end."""
    if process is None:
        return
    try:
        process.wait(12)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(5)


@contextmanager
def standard_world(folder: Path) -> Iterator[World]:
    """H37 with the client system `app` (subsystem onedoor), G01 with `desk/notes` before `world.backend`; both run."""
    with World(folder) as world:
        world.add_member("H37")
        world.add_member("G01")
        client = world.add_client("H37", "onedoor")
        world.add_subsystem("G01", "desk")
        world.publish("G01", "desk/notes")
        world.grant(client.subsystem, "G01", "desk/notes")
        world.start_gateway("H37")
        world.start_gateway("G01")
        yield world
