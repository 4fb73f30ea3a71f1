"""Where an instance's operator and a member keep their files: one folder each, made and changed by commands only.

Instance home: `instance.json`, `operators/`, `keys/`, `ca/`, `broker/`, `registry/`. Member home: `member.json`,
`keys/`, `gateway.toml`, `gateway.d/`, `data/`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from bus.errors import BusError
from evidence.durable import sync_folder
from evidence.signer import FileSigner

T = TypeVar("T")


class HomeInvalid(BusError):
    """The folder is not what the command needs."""

    code = "home-invalid"
    title = "This folder is not the right home"
    disposition = "halt"


class BrokerServer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A server of the broker's cluster.

    Attributes:
        number: From 1.
        listen: host:port for gateways and the registry.
        routes: host:port for the other servers.
        leaf_listen: host:port for leaf brokers of members; empty takes none.
    """

    number: int
    listen: str
    routes: str
    leaf_listen: str = ""


class InstanceFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What `lienthong init instance` settled.

    Attributes:
        instance: name.
        genesis: 64 hex digits.
        registry_listen: host:port.
        broker_listen: host:port.
        heartbeat_s: how often the registry confirms the directory.
        credentials_s: how long a node's broker credentials are valid; it renews them after two thirds of it.
        broker_key_overlap_s: how long a node's broker key goes on after the node's statement names another one.
        broker_leaf_listen: host:port for leaf brokers of members; empty takes none.
        stream_max_bytes: size of each of the three streams of a member; the broker reserves it.
        stream_replicas: servers of a cluster that hold a copy of each stream.
        broker_servers: the servers when the broker is a cluster; `broker_listen` is then the first one's.
        registry_scheme: `https`, or `http` in homes that were made before and where loopback was asked for.
    """

    instance: str
    genesis: str
    registry_listen: str
    broker_listen: str
    heartbeat_s: float = 30.0
    credentials_s: int = 30 * 86_400
    broker_key_overlap_s: int = 60
    broker_leaf_listen: str = ""
    stream_max_bytes: int = 256 * 1024 * 1024
    stream_replicas: int = 1
    broker_servers: tuple[BrokerServer, ...] = ()
    registry_scheme: Literal["http", "https"] = "http"

    @property
    def broker_urls(self) -> tuple[str, ...]:
        """Addresses of all servers of the broker."""
        return tuple(f"tls://{server.listen}" for server in self.broker_servers) or (f"tls://{self.broker_listen}",)

    @property
    def registry_url(self) -> str:
        """Where the operator's own commands find the registry; it names the genesis where TLS hangs on it."""
        host, _, port = self.registry_listen.rpartition(":")
        here = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]", "::": "[::1]"}.get(host, host)  # noqa: S104 - not bound here
        return pinned_address(f"{self.registry_scheme}://{here}:{port}", self.genesis)


def pinned_address(url: str, genesis: str) -> str:
    """A registry's address; for HTTPS with the genesis as fragment (RFC 3986 section 3.5), which is never sent."""
    return f"{url}#sha256:{genesis}" if url.startswith("https:") else url


class MemberFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What `lienthong join` settled.

    Attributes:
        member: Its identifier.
        genesis: 64 hex digits.
        instance: Name.
        registry: Address of the registry, see `pinned_address`.
        passphrase: File with the passphrase of the member's key; empty when the key is not encrypted.
        node: Code of the further node whose home this is; the member key is elsewhere. Empty in the member's own home.
    """

    member: str
    genesis: str
    instance: str
    registry: str
    passphrase: str = ""
    node: str = ""


class InstanceHome:
    """Folder of an instance's operator."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.keys = path / "keys"
        self.ca = path / "ca"
        self.broker = path / "broker"
        self.registry = path / "registry"
        self.operators = path / "operators"

    @property
    def facts(self) -> InstanceFacts:
        """The instance's facts.

        Raises:
            HomeInvalid: no instance was initialised here.
        """
        return read_facts(self.path / "instance.json", InstanceFacts, "lienthong init instance")

    def write_facts(self, facts: InstanceFacts) -> None:
        """Settles the facts; once."""
        write_new(self.path / "instance.json", msgspec.json.encode(facts), 0o644)


class MemberHome:
    """Folder of a member and its node."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.keys = path / "keys"
        self.data = path / "data"
        self.settings = path / "gateway.toml"
        self.settings_parts = path / "gateway.d"
        self.member_key = self.keys / "member.pem"
        self.certificate = self.keys / "member.crt"
        self.anchors = path / "anchors.json"

    @property
    def facts(self) -> MemberFacts:
        """The member's facts.

        Raises:
            HomeInvalid: no member was initialised here.
        """
        return read_facts(self.path / "member.json", MemberFacts, "lienthong join")

    @property
    def passphrase(self) -> Path | None:
        """File with the passphrase of the member's key.

        Raises:
            HomeInvalid: no member was initialised here.
        """
        named = self.facts.passphrase
        return Path(named) if named else None

    def require_member(self) -> None:
        """Refuses what only the member's own home can do.

        Raises:
            HomeInvalid: this is the home of a further node, or of nobody.
        """
        if node := self.facts.node:
            raise HomeInvalid(
                f"{self.path} is the home of the node {node} alone: the member key is elsewhere. Give this command in "
                f"the member's own home; this node follows by itself. Further keys for its answers: lienthong node "
                f"request --home {self.path} --days 30 --out FILE"
            )

    def load_key(self) -> FileSigner:
        """The member's key.

        Raises:
            HomeInvalid: no member was initialised here.
            KeyUnusable: its file, or that of its passphrase, cannot be used.
        """
        return FileSigner.load(self.member_key, passphrase_path=self.passphrase)

    def write_facts(self, facts: MemberFacts) -> None:
        """Settles the facts; once."""
        write_new(self.path / "member.json", msgspec.json.encode(facts), 0o644)


def read_facts(path: Path, type_: type[T], made_by: str) -> T:
    """A JSON file that a command wrote.

    Raises:
        HomeInvalid: it is not there, or damaged.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=type_)
    except FileNotFoundError as error:
        raise HomeInvalid(f"there is no {path}; make it with `{made_by}`") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise HomeInvalid(f"{path} is not what `{made_by}` writes: {error}") from error


def write_new(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Writes a file that must not exist yet, durably.

    Raises:
        HomeInvalid: it exists; nothing was changed.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as error:
        raise HomeInvalid(f"{path} exists already; nothing was changed") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


def replace_file(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Writes or replaces a file atomically and durably."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)
