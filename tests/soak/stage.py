"""The world of a soak: broker, registry, two gateways on lines that can be cut, a backend and a client of their own.

Processes are the product's own, except that a gateway runs as `fault_gateway` so that its clock and its commits can be
bent. Nothing here knows when something breaks, and nothing judges.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path

from fault_world import FaultWorld, _state
from world import ClientSystem, World, _end, free_port, wait_until

from .schedule import CONSUMER, GATEWAYS, PROVIDER
from .wire import Loop, Wire

SERVICE = f"{PROVIDER}/desk/effects"
STRANGER = "E66"
ATTEMPTS = 7
"""Then a command is a dead letter: after some seconds."""

CONTRACT = """
openapi: 3.1.0
info: {title: Effects, version: 1.0.0}
paths:
  /effects:
    post:
      operationId: doEffect
      requestBody:
        required: true
        content:
          application/json:
            schema:
              type: object
              required: [key, sequence]
              additionalProperties: false
              properties:
                key: {type: string, maxLength: 100}
                sequence: {type: integer}
                poison: {type: string, maxLength: 20}
      responses:
        '200':
          description: Done
          content: {application/json: {schema: {type: object, properties: {done: {type: boolean}}}}}
"""


class Stage:
    """See the module. A context manager: what it started is stopped, whatever happens.

    Args:
        out: folder of everything; books, logs and stores stay there.
        careless: the backend does again what it did already.
    """

    def __init__(self, out: Path, *, careless: bool) -> None:
        self.out = out
        self.careless = careless
        self.world = FaultWorld(out / "world")
        self.loop = Loop()
        self.wires: dict[str, Wire] = {}
        self.backend: subprocess.Popen[bytes] | None = None
        self.backend_port = free_port()
        self.client: subprocess.Popen[bytes] | None = None
        self.operator: subprocess.Popen[bytes] | None = None
        self.operator_key = out / "operator.key"
        self.system: ClientSystem | None = None

    def __enter__(self) -> Stage:
        try:
            self.world.__enter__()
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _build(self) -> None:
        world = self.world
        for code in (*GATEWAYS, STRANGER):
            world.add_member(code)
        for code in GATEWAYS:
            self.wires[code] = Wire(self.loop, world.broker_port)
            path = world.members[code].home / "gateway.toml"
            text = path.read_text(encoding="utf-8")
            assert f"127.0.0.1:{world.broker_port}" in text
            path.write_text(text.replace(f":{world.broker_port}", f":{self.wires[code].port}"), encoding="utf-8")
        self.system = world.add_client(CONSUMER, "onedoor")
        world.add_subsystem(PROVIDER, "desk")
        url = f"http://127.0.0.1:{self.backend_port}"
        world.publish(PROVIDER, "desk/effects", CONTRACT, settings={"base_url": url, "timeout_s": 3.0})
        world.grant(self.system.subsystem, PROVIDER, "desk/effects")
        for code in GATEWAYS:
            world.configure(code, "commands", retry_s=1.0, retry_max_s=4.0)
            world.configure(code, "limits", join_every_s=1.0, lookups_per_s=10_000.0)
            world.options[code] = ["--clock-offset-s", "0"]
        world.configure(PROVIDER, "commands", attempt_s=0.3, attempt_max_s=1.5, attempts=ATTEMPTS)
        self._make_operator_key()
        self.start_backend()
        world.start_gateways(*GATEWAYS)

    def _make_operator_key(self) -> None:
        home = str(self.world.members[PROVIDER].home)
        role = "XROAD_SYSTEM_ADMINISTRATOR"
        made = self.world.command("admin", "key", "add", "operator", "--role", role, "--home", home)
        self.operator_key.touch(mode=0o600)
        self.operator_key.write_text(made["key"], encoding="utf-8")

    def close(self) -> None:
        """Stops everything; safe to call twice."""
        self._continue_all()
        for process in (self.client, self.operator, self.backend):
            if process is not None and process.poll() is None:
                process.kill()
                _end(process)
        for wire in self.wires.values():
            with contextlib.suppress(Exception):
                wire.close()
        self.wires = {}
        try:
            self.world.close()
        finally:
            if self.loop is not None:
                self.loop.close()
                self.loop = None  # type: ignore[assignment]

    def _continue_all(self) -> None:
        for pid in self.pids().values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    # --- processes ------------------------------------------------------------------------------------------------

    def start_backend(self) -> None:
        """Starts it and waits until it listens."""
        options = ["--port", str(self.backend_port), "--out", str(self.out), *(["--careless"] if self.careless else [])]
        self.backend = World.spawn(self.world, "backend", *options, program=("-m", "tests.soak.backend"))

    def start_client(self, rate: float, seed: int, features: frozenset[str]) -> None:
        """Starts it; it begins at once."""
        assert self.system is not None
        member = self.world.members[CONSUMER]
        facts = {
            "ca": str(member.home / "tls" / "ca.crt"),
            "listening": str(member.data / "listening.json"),
            "client": self.system.subsystem,
            "key": self.system.key,
            "service": self.world.service_id(SERVICE),
        }
        path = self.out / "client.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps(facts), encoding="utf-8")
        options = ["--facts", str(path), "--out", str(self.out), "--rate", str(rate), "--seed", str(seed)]
        options += ["--features", ",".join(sorted(features))]
        self.client = World.spawn(self.world, "client", *options, program=("-m", "tests.soak.client"))

    def stop_client(self, deadline_s: float = 60.0) -> None:
        """Asks it to end in order; it ends when the attempts under way have ended."""
        assert self.client is not None
        self.client.send_signal(signal.SIGTERM)
        wait_until(lambda: self.client is None or self.client.poll() is not None, "the client's end", deadline_s)
        assert self.client.returncode == 0, self.world.tail("client")

    def start_operator(self) -> None:
        """Starts who looks after dead letters; at once."""
        home = str(self.world.members[PROVIDER].home)
        options = ["--out", str(self.out), "--home", home, "--key-file", str(self.operator_key)]
        self.operator = World.spawn(self.world, "operator", *options, program=("-m", "tests.soak.operating"))

    def stop_operator(self) -> None:
        """Asks it to end in order."""
        if self.operator is not None:
            self.operator.send_signal(signal.SIGTERM)
            wait_until(lambda: self.operator is None or self.operator.poll() is not None, "the operator's end", 20)
            assert self.operator.returncode == 0, self.world.tail("operator")

    def pids(self) -> dict[str, int]:
        """Process ids of what may be broken and runs: `broker` (nats-server itself), `backend`, members' codes."""
        found = {code: self.world.members[code].process for code in GATEWAYS if code in self.world.members}
        alive = {name: process.pid for name, process in found.items() if process and process.poll() is None}
        if self.backend is not None and self.backend.poll() is None:
            alive["backend"] = self.backend.pid
        with contextlib.suppress(FileNotFoundError, ValueError):
            server = json.loads((self.world.home / "broker" / "listening.json").read_bytes())["server_pid"]
            if _state(server) not in ("", "Z") and self.world.broker is not None:
                alive["broker"] = server
        return alive

    def kill(self, target: str) -> bool:
        """SIGKILL; whether there was something to kill."""
        if target not in self.pids():
            return False
        if target == "broker":
            self.world.kill_broker()
        elif target == "backend":
            assert self.backend is not None
            self.backend.kill()
            self.backend.wait(5)
        else:
            self.world.kill_gateway(target)
        return True

    def start(self, target: str) -> None:
        """Starts it again, unless it runs; a gateway need not be ready yet."""
        if target in self.pids():
            return
        if target == "broker":
            self.world.start_broker()
        elif target == "backend":
            self.start_backend()
        else:
            member = self.world.members[target]
            (member.data / "listening.json").unlink(missing_ok=True)
            member.process = self.world.spawn(target, "gateway", "--home", str(member.home))

    def whole(self) -> None:
        """Lifts every fault: all run, lines are whole, clocks right, disks writable, the backend quick."""
        for name in ("slow", "busy"):
            (self.out / name).unlink(missing_ok=True)
        self._continue_all()
        for wire in self.wires.values():
            wire.mend()
        for code in GATEWAYS:
            (self.world.members[code].data / "fault.json").unlink(missing_ok=True)
            if self.world.options[code] != ["--clock-offset-s", "0"]:
                self.kill(code)
                self.world.options[code] = ["--clock-offset-s", "0"]
        for target in ("broker", "backend", *GATEWAYS):
            self.start(target)
        for code in GATEWAYS:
            wait_until(lambda code=code: self._ready(code), f"readiness of {code}", 40)

    def _ready(self, code: str) -> bool:
        self.start(code)  # one that ended by itself is started again, as a service manager would
        return self.world.admin(code, "/readyz").status == 200
