"""The test world with what faults need: settings, limits of the operating system, hard kills, faulty gateways, load.

Everything is waited for with a deadline (`wait_until`); nothing sleeps to synchronise.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from world import Answer, Backend, ClientSystem, Member, World, _become_child, _end, _signal, wait_until

HEARTBEAT_S = 1.0
PROGRAM = Path(__file__).with_name("fault_gateway.py")
ROOT = Path(__file__).parents[2]
_RETRYABLE = {503, 504, 502, 429}


@dataclass(frozen=True)
class Outcome:
    """One call as the client system saw it; status 0 when the connection to its own gateway broke."""

    status: int
    code: str
    record_id: str
    acted: str
    retry_after_s: int
    seconds: float
    method: str = "GET"


def outcome_of(answer: Answer, seconds: float, method: str = "GET") -> Outcome:
    """What a client system learns from an answer."""
    acted = ""
    if answer.status >= 400:
        with contextlib.suppress(ValueError, AttributeError):
            acted = str(answer.json().get("acted", ""))
    record_id = answer.headers.get("x-road-request-id", "")
    retry_s = int(answer.headers.get("retry-after", "0"))
    return Outcome(
        answer.status, answer.code if answer.status >= 400 else "", record_id, acted, retry_s, seconds, method
    )


class Caller:
    """One client system's connection, kept open; a broken one is opened again. For one thread."""

    def __init__(self, world: World, client: ClientSystem, service: str) -> None:
        self._world, self._client = world, client
        self._target = f"/r1/{world.service_id(service)}"
        self._context = world.members[client.member].tls()
        self._connection: http.client.HTTPSConnection | None = None

    def call(self, path: str = "/notes/1", method: str = "GET", body: bytes = b"", timeout_s: float = 40.0) -> Outcome:
        """One call, never an exception."""
        began_s = time.monotonic()
        try:
            answer = self._ask(path, method, body, timeout_s)
        except (OSError, http.client.HTTPException, KeyError):
            self.close()
            return Outcome(0, "", "", "", 0, time.monotonic() - began_s, method)
        return outcome_of(answer, time.monotonic() - began_s, method)

    def _ask(self, path: str, method: str, body: bytes, timeout_s: float) -> Answer:
        if self._connection is None:
            host, port = self._world.members[self._client.member].front
            self._connection = http.client.HTTPSConnection(host, port, timeout=timeout_s, context=self._context)
        headers = {"X-Road-Client": self._client.subsystem, "X-LienThong-Key": self._client.key}
        if body:
            headers["Content-Type"] = "application/json"
        self._connection.request(method, self._target + path, body or None, headers)
        got = self._connection.getresponse()
        return Answer(got.status, {name.lower(): value for name, value in got.getheaders()}, got.read())

    def close(self) -> None:
        """Closes the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


READ = (("/notes/1", "GET", b""),)
MIXED = (
    ("/notes/1", "GET", b""),
    ("/notes", "POST", b'{"text":"mixed"}'),
    ("/notes/2?q=x", "GET", b""),
    ("/fail/503", "GET", b""),
    ("/nowhere", "GET", b""),
    ("/notes/3", "DELETE", b""),
    ("/notes", "POST", b'{"wrong":1}'),
)


class Load:
    """Calls from several threads until stopped, or until `limit` calls were made.

    with Load(world, client, "G01/desk/notes") as load:
        wait_until(lambda: load.count(200) > 20)
    load.outcomes
    """

    def __init__(
        self,
        world: World,
        client: ClientSystem,
        service: str,
        *,
        threads: int = 4,
        limit: int = 1_000_000,
        requests: Sequence[tuple[str, str, bytes]] = READ,
    ) -> None:
        self.outcomes: list[Outcome] = []
        self._made = 0
        self._limit, self._requests = limit, requests
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._callers = [Caller(world, client, service) for _ in range(threads)]
        self._threads = [threading.Thread(target=self._work, args=(caller,), daemon=True) for caller in self._callers]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self.join()

    def join(self, deadline_s: float = 60.0) -> None:
        """Waits until all calls under way ended."""
        for thread in self._threads:
            thread.join(deadline_s)
            assert not thread.is_alive(), "a call of the load did not end"

    @property
    def done(self) -> bool:
        """Whether the limit is reached and everything ended."""
        return not any(thread.is_alive() for thread in self._threads)

    def count(self, status: int) -> int:
        """Answers so far with a status."""
        return sum(outcome.status == status for outcome in list(self.outcomes))

    @property
    def acknowledged(self) -> list[str]:
        """Ids of the exchanges that a client was told to have succeeded."""
        return [outcome.record_id for outcome in list(self.outcomes) if 200 <= outcome.status < 300]

    def _work(self, caller: Caller) -> None:
        while not self._stop.is_set():
            with self._lock:
                at = self._made
                if at >= self._limit:
                    break
                self._made += 1
            path, method, body = self._requests[at % len(self._requests)]
            outcome = caller.call(path, method, body)
            self.outcomes.append(outcome)
            if outcome.status in (0, 503):
                self._stop.wait(0.02)  # a client that backs off a little, as Retry-After asks
        caller.close()


@dataclass
class FaultWorld(World):
    """See the module."""

    options: dict[str, list[str]] = field(default_factory=dict)
    programs: dict[str, Path] = field(default_factory=dict)
    sections: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._drains: list[subprocess.Popen[bytes]] = []
        # two small writes of an answer must not wait for each other
        self.backend._server.RequestHandlerClass.disable_nagle_algorithm = True

    def close(self) -> None:
        for member in self.members.values():
            if member.process is not None:
                member.process.send_signal(signal.SIGCONT)
        super().close()
        for drain in self._drains:
            drain.wait(10)

    # --- settings -------------------------------------------------------------------------------------------------

    def configure(self, code: str, section: str, **values: float | str | bool) -> None:
        """Sets keys of a table of gateway.toml; the next start or SIGHUP takes them. `None` takes a key back."""
        path = self.members[code].home / "gateway.toml"
        base = path.with_suffix(".base")
        if not base.exists():
            base.write_bytes(path.read_bytes())
        table = self.sections.setdefault(code, {}).setdefault(section, {})
        table.update(values)
        for key in [key for key, value in table.items() if value is None]:
            del table[key]
        lines = [base.read_text(encoding="utf-8")]
        for name, keys in self.sections[code].items():
            lines.append(f"\n[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items()))
        path.write_text("".join(lines), encoding="utf-8")

    # --- processes ------------------------------------------------------------------------------------------------

    def spawn(self, name: str, *args: str) -> subprocess.Popen[bytes]:
        """As `World.spawn`; a gateway writes its lines into a pipe, as under a service manager, so that limits on files
        concern its stores only. `options[code]` makes it a faulty gateway; `programs[code]` names another program."""
        if args[0] != "gateway":
            return super().spawn(name, *args)
        command = [sys.executable, "-m", "console.cli", *args]
        if name in self.options:
            command = [sys.executable, str(self.programs.get(name, PROGRAM)), *args[1:], *self.options[name]]
        with self.log_path(name).open("ab") as output:
            drain = subprocess.Popen(
                ["/bin/cat"], stdin=subprocess.PIPE, stdout=output, start_new_session=True, preexec_fn=_become_child
            )
        self._drains.append(drain)
        assert drain.stdin is not None
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=drain.stdin,
                stderr=drain.stdin,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                start_new_session=True,
                preexec_fn=_become_child,
            )
        finally:
            drain.stdin.close()

    def start_gateways(self, *codes: str) -> None:
        """Starts several gateways at the same time and waits until all are ready."""
        for code in codes:
            member = self.members[code]
            (member.data / "listening.json").unlink(missing_ok=True)
            member.process = self.spawn(code, "gateway", "--home", str(member.home))
        for code in codes:
            self._wait_file(self.process(code), self.members[code].data / "listening.json", code)
        for code in codes:
            self.wait_ready(code)

    def restart_gateway(self, code: str) -> None:
        """SIGTERM and start: takes settings that a reload does not."""
        self.stop_gateway(code)
        self.start_gateway(code)

    def process(self, code: str) -> subprocess.Popen[bytes]:
        """Process of a gateway that was started."""
        process = self.members[code].process
        assert process is not None
        return process

    def wait_end(self, code: str, deadline_s: float = 20.0) -> int:
        """Waits until a gateway's process ends by itself; its exit code, negative for a signal."""
        process = self.process(code)
        wait_until(lambda: process.poll() is not None, f"the end of {code}", deadline_s)
        self.members[code].process = None
        return int(process.returncode)

    def refuses_to_start(self, code: str) -> int:
        """Starts a gateway that is to end by itself; its exit code."""
        member = self.members[code]
        member.process = self.spawn(code, "gateway", "--home", str(member.home))
        try:
            return self.wait_end(code)
        finally:
            if member.process is not None:
                self.kill_gateway(code)

    def start_registry(self) -> None:
        path = self.home / "instance.json"
        facts = json.loads(path.read_bytes())
        facts["heartbeat_s"] = HEARTBEAT_S
        path.write_bytes(msgspec.json.encode(facts))
        (self.home / "registry" / "listening.json").unlink(missing_ok=True)
        super().start_registry()

    def start_broker(self) -> None:
        (self.home / "broker" / "listening.json").unlink(missing_ok=True)
        super().start_broker()

    def kill_registry(self) -> None:
        """SIGKILL."""
        _signal(self.registry, signal.SIGKILL)
        _end(self.registry)
        self.registry = None

    def kill_broker(self) -> None:
        """SIGKILL for nats-server and for the process that keeps it."""
        server = json.loads((self.home / "broker" / "listening.json").read_bytes())["server_pid"]
        for number in (server, self.broker.pid if self.broker is not None else 0):
            if number:
                os.kill(number, signal.SIGKILL)
        _end(self.broker)
        self.broker = None
        wait_until(lambda: not _runs(server), "the end of nats-server", 5)

    def arm(self, code: str, step: str, action: str, nth: int = 1) -> Path:
        """Lets the store of a faulty gateway break; the file that this gives vanishes when it does."""
        path = self.members[code].data / "fault.json"
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps({"step": step, "action": action, "nth": nth}))
        temporary.replace(path)
        return path

    @contextmanager
    def nothing_writable(self, code: str) -> Iterator[None]:
        """No file of the process may grow or be written: what a full disk looks like from inside."""
        pid = self.process(code).pid
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))

    @contextmanager
    def stopped(self, code: str) -> Iterator[None]:
        """SIGSTOP for the time of the block."""
        process = self.process(code)
        process.send_signal(signal.SIGSTOP)
        try:
            wait_until(lambda: _state(process.pid) in "Tt", f"the stop of {code}", 5)
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    @contextmanager
    def broker_stopped(self) -> Iterator[None]:
        """SIGSTOP for nats-server for the time of the block: messages wait on the wire."""
        server = json.loads((self.home / "broker" / "listening.json").read_bytes())["server_pid"]
        os.kill(server, signal.SIGSTOP)
        try:
            wait_until(lambda: _state(server) in "Tt", "the stop of the broker", 5)
            yield
        finally:
            os.kill(server, signal.SIGCONT)

    # --- what can be seen -----------------------------------------------------------------------------------------

    def log_lines(self, code: str, event: str) -> list[dict[str, Any]]:
        """Log lines of a gateway about an event."""
        found = []
        for line in self.log_path(code).read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                parsed = json.loads(line)
                if isinstance(parsed, dict) and parsed.get("event") == event:
                    found.append(parsed)
        return found

    def readiness(self, code: str) -> tuple[int, set[str]]:
        """Status of /readyz and the codes of the checks that are not well."""
        got = self.admin(code, "/readyz")
        if not got.body:
            return 0, set()
        return got.status, {check["code"] for check in got.json()["checks"] if not check["ok"]}

    def timed(self, client: ClientSystem, service: str, path: str = "/notes/1", **options: Any) -> Outcome:
        """One call and how long it took."""
        began_s = time.monotonic()
        answer = self.call(client, service, path, **options)
        return outcome_of(answer, time.monotonic() - began_s)

    def until_ok(self, client: ClientSystem, service: str, path: str = "/notes/1", deadline_s: float = 10.0) -> Outcome:
        """Calls until one succeeds."""
        last: list[Outcome] = []

        def ok() -> bool:
            last.append(self.timed(client, service, path))
            return last[-1].status == 200

        try:
            wait_until(ok, "a call that succeeds", deadline_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; the last answer was {last[-1]}") from None
        return last[-1]

    def open_requests(self, code: str) -> int:
        """Requests of a gateway's log without a closing record."""
        path = self.members[code].log_db
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            return int(db.execute("SELECT count(*) FROM open_request").fetchone()[0])

    def wait_closed(self, code: str, deadline_s: float = 15.0) -> None:
        """Waits until every request of a gateway has its closing record."""
        wait_until(lambda: self.open_requests(code) == 0, f"closing records of {code}", deadline_s)

    def background(self, count: int, client: ClientSystem, service: str, path: str) -> Background:
        """Starts calls in threads."""
        return Background([Caller(self, client, service) for _ in range(count)], path)


class Background:
    """Calls under way in threads; `outcomes` waits for them."""

    def __init__(self, callers: Sequence[Caller], path: str) -> None:
        self._found: list[Outcome] = []
        self._threads = [threading.Thread(target=self._call, args=(caller, path), daemon=True) for caller in callers]
        for thread in self._threads:
            thread.start()

    def _call(self, caller: Caller, path: str) -> None:
        self._found.append(caller.call(path))
        caller.close()

    def outcomes(self, deadline_s: float = 30.0) -> list[Outcome]:
        """Their outcomes, when all have ended."""
        for thread in self._threads:
            thread.join(deadline_s)
            assert not thread.is_alive(), "a call did not end"
        return self._found


class LateBackend:
    """A backend that is down until `start`, at an address that is known before."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self._backend: Backend | None = None

    def start(self) -> Backend:
        """Listens at last."""
        import http.server
        import socketserver

        backend = Backend()
        handler = backend._server.RequestHandlerClass
        backend._server.shutdown()
        backend._server.server_close()
        backend._thread.join(5)

        class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
            daemon_threads = True
            allow_reuse_address = True

        backend._server = Server(("127.0.0.1", self.port), handler)
        backend._thread = threading.Thread(
            target=backend._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        backend._thread.start()
        self._backend = backend
        return backend

    def close(self) -> None:
        """Stops it, if it runs."""
        if self._backend is not None:
            self._backend.close()
            self._backend = None


def _runs(pid: int) -> bool:
    return _state(pid) not in {"", "Z"}


def _state(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return stat.rpartition(")")[2].split()[0]


def pair(world: FaultWorld, consumer: str, provider: str, **limits: float) -> ClientSystem:
    """A consumer and a provider of `desk/notes` with a right; their gateways do not run yet."""
    world.add_member(consumer)
    world.add_member(provider)
    client = world.add_client(consumer, "onedoor")
    world.add_subsystem(provider, "desk")
    world.publish(provider, "desk/notes")
    world.grant(client.subsystem, provider, "desk/notes")
    for code in (consumer, provider):
        world.configure(code, "limits", **limits)
    return client


def assert_retryable(outcome: Outcome, code: str | Mapping[str, str], within_s: float) -> None:
    """A failure that says what to do: a stable code, a status that allows a retry, when to retry, and soon enough."""
    allowed = {code: ""} if isinstance(code, str) else code
    assert outcome.code in allowed, outcome
    assert outcome.status in _RETRYABLE, outcome
    assert outcome.retry_after_s > 0, outcome
    assert outcome.seconds < within_s, outcome


__all__ = [
    "MIXED",
    "READ",
    "Caller",
    "FaultWorld",
    "LateBackend",
    "Load",
    "Member",
    "Outcome",
    "assert_retryable",
    "pair",
]
