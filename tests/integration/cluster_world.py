"""The test world on a broker of three servers: each a process of its own, killed and started by its number.

The third server runs from a folder that was carried away when the instance was made, as on another machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from fault_world import FaultWorld, _runs
from world import _end, _signal, free_port, wait_until

from bus.transport import nkeys, subjects
from console.demo.handclient import HandClient, HandRefused
from evidence.signer import FileSigner

NUMBERS = (1, 2, 3)
CARRIED = 3


@dataclass
class ClusterWorld(FaultWorld):
    """See the module. `broker` of the simpler worlds is not used."""

    instance_options: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.servers: dict[int, subprocess.Popen[bytes]] = {}
        self.ports = {number: free_port() for number in NUMBERS}
        self.routes = {number: free_port() for number in NUMBERS}
        cluster = ",".join(f"127.0.0.1:{self.ports[number]}" for number in NUMBERS)
        routes = ",".join(f"127.0.0.1:{self.routes[number]}" for number in NUMBERS)
        # of this world alone, not of the class
        self.__dict__["instance_options"] = ("--broker-cluster", cluster, "--broker-routes", routes)

    def _begin(self) -> None:
        super()._begin()
        self.broker_port = self.ports[1]

    def close(self) -> None:
        for number in tuple(self.servers):
            _signal(self.servers[number], signal.SIGTERM)
        super().close()
        for process in self.servers.values():
            _end(process)

    def server_home(self, number: int) -> Path:
        """Folder of a server."""
        if number == CARRIED:
            return self.folder / "carried"
        return self.home / "broker" / "servers" / str(number)

    def start_broker(self) -> None:
        if not self.server_home(CARRIED).exists():
            shutil.move(self.home / "broker" / "servers" / str(CARRIED), self.server_home(CARRIED))
        for number in NUMBERS:
            if number not in self.servers:
                self.start_server(number, wait=False)
        for number in NUMBERS:
            self.wait_server(number)

    @property
    def urls(self) -> list[str]:
        """Addresses of all servers for gateways."""
        return [self.url(number) for number in NUMBERS]

    def start_server(self, number: int, *, wait: bool = True) -> None:
        """Starts one server."""
        (self.server_home(number) / "listening.json").unlink(missing_ok=True)
        where = ("--home", str(self.home), "--server", str(number))
        if number == CARRIED:
            where = ("--home", str(self.server_home(number)))
        self.servers[number] = self.spawn(f"broker-{number}", "broker", *where)
        if wait:
            self.wait_server(number)

    def wait_server(self, number: int) -> None:
        """Waits until a server takes clients."""
        self._wait_file(self.servers[number], self.server_home(number) / "listening.json", f"broker-{number}")

    def kill_server(self, *numbers: int) -> None:
        """SIGKILL for servers and the processes that keep them, all at once."""
        pids = [self.listening(number)["server_pid"] for number in numbers]
        for pid, number in zip(pids, numbers, strict=True):
            os.kill(pid, signal.SIGKILL)
            os.kill(self.servers[number].pid, signal.SIGKILL)
        for pid, number in zip(pids, numbers, strict=True):
            _end(self.servers.pop(number))
            wait_until(lambda pid=pid: not _runs(pid), "the end of nats-server", 5)

    def listening(self, number: int) -> dict[str, Any]:
        """What a server says of itself."""
        found: dict[str, Any] = json.loads((self.server_home(number) / "listening.json").read_bytes())
        return found

    def monitor(self, number: int, path: str) -> dict[str, Any]:
        """A page of a server's own monitoring."""
        with urllib.request.urlopen(f"{self.listening(number)['monitor']}{path}", timeout=5) as answer:
            found: dict[str, Any] = json.loads(answer.read())
        return found

    def server_of(self, node: str) -> int:
        """To which server a node is connected; 0 to none."""
        for number in self.servers:
            if any(one.get("name") == node for one in self.monitor(number, "/connz?auth=1")["connections"]):
                return number
        return 0

    def stream(self, name: str) -> dict[str, Any] | None:
        """Configuration, state and cluster of a stream; None while the servers cannot say."""
        return asyncio.run(self._stream(name))

    async def _stream(self, name: str) -> dict[str, Any] | None:
        account, key = FileSigner.load(self.home / "broker" / "streams.pem"), FileSigner.generate("ed25519")
        jwt = nkeys.user_jwt(
            "test", key.public_bytes, account.public_bytes, account.sign, int(time.time()) - 1,
            expires_at_s=None, publish=None, subscribe=None,
        )  # fmt: skip
        number = min(self.servers)
        try:
            client = await HandClient.connect(self.url(number), str(self.home / "ca" / "ca.crt"), jwt, key.sign)
        except (OSError, HandRefused):
            return None
        try:
            client.subscribe("_I.test.>")
            answer = await client.request(f"$JS.API.STREAM.INFO.{name}", b"", "_I.test.1")
        finally:
            await client.close()
        if answer is None or not answer.data:
            return None
        found: dict[str, Any] = json.loads(answer.data)
        return None if "error" in found else found

    def url(self, number: int) -> str:
        """Address of a server for clients."""
        return f"tls://127.0.0.1:{self.ports[number]}"

    def leader_of(self, code: str) -> int:
        """The server that leads the stream of commands to a member."""
        name = subjects.command_stream(self.member_id(code))

        def leader() -> str:
            found = self.stream(name)
            return str((found or {}).get("cluster", {}).get("leader", ""))

        return int(wait_until(leader, f"a leader of {name}").rpartition("-")[2])

    def registry_metric(self, name: str, **labels: str) -> float:
        """A sample of the registry's metrics; -1 when there is none."""
        context = ssl.create_default_context(cafile=str(self.home / "ca" / "ca.crt"))
        with urllib.request.urlopen(f"https://127.0.0.1:{self.registry_port}/metrics", context=context) as answer:
            text = answer.read().decode()
        wanted = name + "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "} "
        return next((float(line.removeprefix(wanted)) for line in text.splitlines() if line.startswith(wanted)), -1.0)

    def is_whole(self, number: int) -> bool:
        """Whether a server has current copies of all streams and of all that is known of who takes from them."""
        try:
            return bool(self.monitor(number, "/healthz")["status"] == "ok")
        except OSError:  # 503, or not there
            return False

    def caught_up(self, code: str, number: int) -> bool:
        """Whether a server has all of the stream of commands to a member."""
        found = self.stream(subjects.command_stream(self.member_id(code)))
        if found is None:
            return False
        cluster = found["cluster"]
        copies = {one["name"]: one["current"] and not one.get("lag") for one in cluster.get("replicas") or []}
        return cluster.get("leader", "").endswith(f"-{number}") or any(
            current for name, current in copies.items() if name.endswith(f"-{number}")
        )


@dataclass
class GrowingWorld(ClusterWorld):
    """Begins with one broker, of which `grow` makes three servers as the operations guide says."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.__dict__["instance_options"] = ()
        self._grown = False

    def _begin(self) -> None:
        FaultWorld._begin(self)

    def start_broker(self) -> None:
        (ClusterWorld if self._grown else FaultWorld).start_broker(self)

    def grow(self) -> None:
        """All gateways are stopped, and stay so."""
        self.stop_broker()
        self.stop_registry()
        listed = {option: ",".join(f"127.0.0.1:{ports[number]}" for number in NUMBERS)
                  for option, ports in (("--servers", self.ports), ("--routes", self.routes))}  # fmt: skip
        self.command("broker", "cluster", "--home", str(self.home), *(word for pair in listed.items() for word in pair))
        self._grown = True
        self.start_broker()
        self.start_registry()
        new = [word for url in self.urls for word in ("--broker-url", url)]
        self.command("operator", "anchor", "--home", str(self.home), *new)
        for member in self.members.values():
            for path in (member.home / "gateway.toml", member.home / "gateway.base"):
                if path.exists():
                    text = path.read_text(encoding="utf-8")
                    path.write_text(
                        re.sub(r"(?m)^urls = .*$", f"urls = {json.dumps(self.urls)}", text), encoding="utf-8"
                    )
