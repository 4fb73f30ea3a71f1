"""The tables of the settings file, each key with its default. Reads nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import msgspec

MOST_KEYS = 8
WEBHOOK_URL = re.compile(r"https?://[^/\s#@]+(/[^\s#]*)?")
ROLES = (
    "XROAD_SECURITY_OFFICER",
    "XROAD_REGISTRATION_OFFICER",
    "XROAD_SERVICE_ADMINISTRATOR",
    "XROAD_SYSTEM_ADMINISTRATOR",
    "XROAD_SECURITYSERVER_OBSERVER",
    "auditor",
)
"""Roles of admin keys: X-Road's five of a security server, and who reads evidence."""


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file."""


class Keys(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Key files of the node (PEM, mode 0600) and the member's certificate chain."""

    log: Path
    broker: Path
    sealing: Path
    member_certificate: Path | None = None
    member_signers: Path | None = None
    passphrase: Path | None = None
    sealing_kept_s: float = 604_800.0


class Broker(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to reach the broker."""

    urls: tuple[str, ...]
    ca: Path
    credentials: Path
    connect_deadline_s: float = 10.0


class Registry(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The registry's HTTP interface: the way to new broker credentials when the broker refuses the old ones."""

    url: str = ""


class Front(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The port for client systems."""

    listen: str = "127.0.0.1:8443"
    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    plain_http: bool = False
    max_body_bytes: int = 4 * 1024 * 1024
    max_header_bytes: int = 16 * 1024


class Admin(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The port for operators: health, metrics, evidence. Loopback unless configured."""

    listen: str = "127.0.0.1:9443"


class DirectorySettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How old the directory may be before calls are refused."""

    max_age_s: float = 900.0


class RevocationSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How old revocation lists may be, and what happens when none is to be had."""

    max_age_s: float = 604_800.0
    refresh_s: float = 3_600.0
    when_unreachable: Literal["refuse", "warn"] = "refuse"


class LimitSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of one gateway."""

    per_client: int = 256
    per_service: int = 1024
    lookups_per_s: float = 200.0
    long_polls: int = 200
    served_per_service: int = 512
    handlers: int = 2_000
    deadline_s: float = 30.0
    clock_skew_s: float = 60.0
    hints_per_s: float = 20.0
    drain_s: float = 15.0
    join_every_s: float = 45.0
    pending_records: int = 10_000
    json_depth: int = 64


class CommandSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Commands: how long they live, and how they are repeated."""

    life_s: float = 259_200.0
    longest_life_s: float = 604_800.0
    retry_s: float = 30.0
    retry_max_s: float = 900.0
    waiting: int = 150_000
    at_once: int = 64
    tasks: int = 100_000
    at_backend: int = 16
    attempt_s: float = 5.0
    attempt_max_s: float = 900.0
    attempts_for_s: float = 259_200.0
    attempts: int = 1_000
    node_dead_s: float = 10.0


class Retention(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long contents are kept beside the log; the log itself is permanent."""

    particulars_days: int = 366
    results_days: float = 7.0
    commands_days: float = 90.0


class Client(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A client system and the subsystems that it may act as."""

    name: str
    subsystems: tuple[str, ...]
    key: Path | None = None
    certificate_sha256: str = ""
    further_keys: tuple[Path, ...] = ()
    further_certificates_sha256: tuple[str, ...] = ()
    max_in_flight: int | None = None
    per_second: float | None = None
    webhook_url: str = ""
    webhook_secret: Path | None = None
    webhook_ca: Path | None = None


class AdminKey(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key for the admin port and the roles that it carries."""

    name: str
    roles: tuple[str, ...]
    key: Path


class ServiceCommands(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is different for the commands of one service; without a key, `[commands]` holds."""

    attempt_s: float | None = None
    attempt_max_s: float | None = None
    attempts_for_s: float | None = None
    attempts: int | None = None


class Service(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A service's back end: a kind and its own settings."""

    id: str
    kind: str
    settings: dict[str, Any] = {}
    commands: ServiceCommands = ServiceCommands()


class Logging(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Log lines: `json` for machines, `console` for people."""

    format: str = "json"
    level: str = "info"


class GatewaySettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    node: str
    genesis: str
    keys: Keys
    broker: Broker
    incarnation: int = 1
    data: Path = Path("data")
    registry: Registry = Registry()
    front: Front = Front()
    admin: Admin = Admin()
    directory: DirectorySettings = DirectorySettings()
    revocation: RevocationSettings = RevocationSettings()
    limits: LimitSettings = LimitSettings()
    commands: CommandSettings = CommandSettings()
    retention: Retention = Retention()
    logging: Logging = Logging()
    client: tuple[Client, ...] = ()
    service: tuple[Service, ...] = ()
    admin_key: tuple[AdminKey, ...] = ()


class GatewayPart(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of `gateway.d` beside gateway.toml: further clients, services and admin keys, written by commands."""

    client: tuple[Client, ...] = ()
    service: tuple[Service, ...] = ()
    admin_key: tuple[AdminKey, ...] = ()
