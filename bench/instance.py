"""Brings the product up with its own commands: one instance, a consumer and a provider.

Settings are the default ones, but for the limits that keep one client system from taking what others need.

The back end behind the provider's gateway is the plugin in `bench/plugin`, on the path of that gateway only.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.processes import LIENTHONG, ROOT, BenchFailed, Child, Children, read_json

INSTANCE = "VN-BENCH"
CONSUMER, PROVIDER = f"{INSTANCE}/GOV/C01", f"{INSTANCE}/GOV/P01"
CLIENT = f"{CONSUMER}/asker"
SERVICE = f"{PROVIDER}/store/items"
PLUGIN_PATH = {"PYTHONPATH": str(ROOT / "bench" / "plugin")}
_COMMAND_DEADLINE_S = 60.0
_ONE_CLIENT = """
# There is no other client system that this one could be in the way of.
[limits]
lookups_per_s = 1000000.0
long_polls = 1000
"""


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def lienthong(*arguments: str, env: dict[str, str] | None = None) -> dict[str, Any]:
    """Runs one command with `--json`; what it printed.

    Raises:
        BenchFailed: It failed.
    """
    done = subprocess.run(
        [*LIENTHONG, *arguments, "--json"],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=_COMMAND_DEADLINE_S,
        check=False,
    )
    if done.returncode != 0:
        raise BenchFailed(f"lienthong {' '.join(arguments)}: {done.stdout}{done.stderr}")
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


@dataclass(frozen=True, slots=True)
class Product:
    """A running product.

    Attributes:
        folder: With the homes `instance`, `consumer` and `provider`.
        url: Front of the consumer's gateway.
        key: API key of the client system.
        consumer: Gateway process.
        provider: Gateway process.
        broker_pids: nats-server and the process that keeps it.
        registry: Process of the registry; not part of an exchange.
    """

    folder: Path
    url: str
    key: str
    consumer: Child
    provider: Child
    broker_pids: tuple[int, ...]
    broker_url: str
    registry: Child

    @property
    def instance_home(self) -> Path:
        """The operator's folder."""
        return self.folder / "instance"

    @property
    def front_ca(self) -> Path:
        """Who issued the certificate of the front."""
        return self.folder / "consumer" / "tls" / "ca.crt"

    @property
    def prefix(self) -> str:
        """Path of the service at the front."""
        return f"/r1/{SERVICE}"

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes of an exchange."""
        return (self.consumer.pid, self.provider.pid, *self.broker_pids)


def bring_up(children: Children, gateway_command: dict[str, list[str]] | None = None) -> Product:
    """Makes and starts everything; returns when one call went through both gateways.

    Args:
        children: Owner of the processes.
        gateway_command: Another program in place of `lienthong gateway`, by home name; it gets `--home HOME`.
    """
    folder = children.folder
    genesis = _make_instance(folder)
    home = folder / "instance"
    broker = children.start("broker", [*LIENTHONG, "broker", "--home", str(home)])
    registry = children.start("registry", [*LIENTHONG, "registry", "--home", str(home)])
    children.wait_for("the broker", lambda: read_json(home / "broker" / "listening.json"))
    children.wait_for("the registry", lambda: read_json(home / "registry" / "listening.json"))
    listening = read_json(home / "broker" / "listening.json") or {}
    _make_members(folder, genesis)
    _publish(folder)
    with (folder / "consumer" / "gateway.toml").open("a", encoding="utf-8") as settings:
        settings.write(_ONE_CLIENT)
    key = lienthong("client", "add", "app", "--home", str(folder / "consumer"), "--subsystem", "asker")["key"]
    commands = gateway_command or {}
    gateways = {
        name: children.start(name, [*commands.get(name, [*LIENTHONG, "gateway"]), "--home", str(folder / name)], env)
        for name, env in (("consumer", {}), ("provider", PLUGIN_PATH))
    }
    url = wait_ready(children, folder, ("consumer", "provider"))
    product = Product(
        folder,
        url,
        key,
        gateways["consumer"],
        gateways["provider"],
        (broker.pid, int(listening["server_pid"])),
        listening["url"],
        registry,
    )
    _first_call(children, product)
    return product


def _make_instance(folder: Path) -> str:
    made = lienthong(
        *("init", "instance", INSTANCE, "--home", str(folder / "instance")),
        *("--registry-listen", f"127.0.0.1:{free_port()}", "--broker-listen", f"127.0.0.1:{free_port()}"),
    )
    (folder / "instance.json").write_text(json.dumps(made), encoding="utf-8")
    genesis: str = made["genesis"]
    return genesis


def _make_members(folder: Path, genesis: str) -> None:
    registry = json.loads((folder / "instance.json").read_text(encoding="utf-8"))["registry"]

    def make(name: str, member: str, subsystem: str) -> None:
        home, instance = str(folder / name), str(folder / "instance")
        where = ("--registry", registry, "--genesis", genesis)
        lienthong("join", "--member", member, "--home", home, *where, "--name", f"en={name}")
        lienthong("member", "approve", member, "--home", instance)
        lienthong("join", "--status", "--home", home)
        lienthong("node", "add", "n1", "--home", home, "--front", "127.0.0.1:0", "--admin", "127.0.0.1:0")
        lienthong("subsystem", "add", subsystem, "--home", home)

    with ThreadPoolExecutor(2) as pool:
        for done in [
            pool.submit(make, "consumer", CONSUMER, "asker"),
            pool.submit(make, "provider", PROVIDER, "store"),
        ]:
            done.result()


def _publish(folder: Path) -> None:
    home = str(folder / "provider")
    lienthong(
        *("service", "publish", "store/items", "--home", home),
        *("--contract", str(ROOT / "bench" / "items.yaml"), "--kind", "bench"),
        env=PLUGIN_PATH,
    )
    lienthong(
        *("access", "grant", CLIENT, "store/items", "--home", home),
        *("--purpose", "benchmark", "--ground", "measuring"),
    )


def wait_ready(children: Children, folder: Path, names: tuple[str, ...]) -> str:
    """Waits for gateways by the names of their homes; the first one's front."""
    fronts = []
    for name in names:
        path = folder / name / "data" / "listening.json"
        facts = children.wait_for(f"the {name}'s gateway", partial(read_json, path))
        admin = facts["admin"]
        children.wait_for(f"the {name}'s gateway", partial(_answers, f"{admin}/readyz"))
        fronts.append(facts["front"])
    url: str = fronts[0]
    return url


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def headers(product: Product) -> dict[str, str]:
    """What the client system sends with each call, to product and relay alike."""
    return {
        "X-Road-Client": CLIENT,
        "X-LienThong-Key": product.key,
        "X-Road-UserId": "official-1",
        "X-LienThong-Purpose": "benchmark",
        "X-LienThong-Legal-Basis": "measuring",
    }


def _first_call(children: Children, product: Product) -> None:
    """Calls until the directory has reached both gateways."""
    import ssl

    context = ssl.create_default_context(cafile=str(product.front_ca))
    request = urllib.request.Request(f"{product.url}{product.prefix}/items/000000000000", headers=headers(product))
    said = ""

    def called() -> bool:
        nonlocal said
        try:
            with urllib.request.urlopen(request, timeout=5, context=context) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError as error:
            said = error.read().decode("utf-8", "replace")[:500]
        except OSError as error:
            said = str(error)
        time.sleep(0.1)
        return False

    try:
        children.wait_for("the first call", called)
    except BenchFailed as error:
        raise BenchFailed(f"{error}\nlast answer: {said}") from error
