"""Settings of a gateway: read once, frozen, unknown keys refused, every error with its line.

Secrets are paths to files, never values. Paths are relative to the settings file. See config/gateway.toml for every key
with its meaning; a test compares the two.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_origin

import msgspec

from bus.errors import SettingsInvalid
from evidence.errors import IdentifierInvalid
from evidence.identifiers import NodeId, ServiceId, SubsystemId

T = TypeVar("T", "GatewaySettings", "GatewayPart")

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


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file."""


class Keys(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Key files of the node (PEM, mode 0600) and the member's certificate chain."""

    log: Path
    broker: Path
    sealing: Path
    member_certificate: Path | None = None
    member_signers: Path | None = None
    passphrase: Path | None = None
    sealing_kept_s: float = 604_800.0


class Broker(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to reach the broker."""

    urls: tuple[str, ...]
    ca: Path
    credentials: Path
    connect_deadline_s: float = 10.0


class Registry(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The registry's HTTP interface: the way to new broker credentials when the broker refuses the old ones."""

    url: str = ""


class Front(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The port for client systems."""

    listen: str = "127.0.0.1:8443"
    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    plain_http: bool = False
    max_body_bytes: int = 4 * 1024 * 1024
    max_header_bytes: int = 16 * 1024


class Admin(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The port for operators: health, metrics, evidence. Loopback unless configured."""

    listen: str = "127.0.0.1:9443"


class DirectorySettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How old the directory may be before calls are refused."""

    max_age_s: float = 900.0


class RevocationSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How old revocation lists may be, and what happens when none is to be had."""

    max_age_s: float = 604_800.0
    refresh_s: float = 3_600.0
    when_unreachable: Literal["refuse", "warn"] = "refuse"


class LimitSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of one gateway."""

    per_client: int = 256
    per_service: int = 1024
    served_per_service: int = 512
    handlers: int = 2_000
    deadline_s: float = 30.0
    clock_skew_s: float = 60.0
    hints_per_s: float = 20.0
    drain_s: float = 15.0
    join_every_s: float = 45.0
    pending_records: int = 10_000
    json_depth: int = 64


class CommandSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Commands: how long they live, and how they are repeated."""

    life_s: float = 259_200.0
    longest_life_s: float = 604_800.0
    retry_s: float = 30.0
    retry_max_s: float = 900.0
    waiting: int = 100_000
    at_once: int = 64
    tasks: int = 100_000
    at_backend: int = 16
    attempt_s: float = 5.0
    attempt_max_s: float = 900.0
    attempts_for_s: float = 259_200.0
    attempts: int = 1_000
    node_dead_s: float = 10.0


class Retention(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long contents are kept beside the log; the log itself is permanent."""

    particulars_days: int = 366
    results_days: float = 7.0
    commands_days: float = 90.0


class Client(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
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


class AdminKey(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key for the admin port and the roles that it carries."""

    name: str
    roles: tuple[str, ...]
    key: Path


class ServiceCommands(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is different for the commands of one service; without a key, `[commands]` holds."""

    attempt_s: float | None = None
    attempt_max_s: float | None = None
    attempts_for_s: float | None = None
    attempts: int | None = None


class Service(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A service's back end: a kind and its own settings."""

    id: str
    kind: str
    settings: dict[str, Any] = {}
    commands: ServiceCommands = ServiceCommands()


class Logging(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Log lines: `json` for machines, `console` for people."""

    format: str = "json"
    level: str = "info"


class GatewaySettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
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


class GatewayPart(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of `gateway.d` beside gateway.toml: further clients, services and admin keys, written by commands."""

    client: tuple[Client, ...] = ()
    service: tuple[Service, ...] = ()
    admin_key: tuple[AdminKey, ...] = ()


_TABLE = re.compile(r"^\s*(\[\[?)\s*([A-Za-z0-9_.\- ]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"^\s*([A-Za-z0-9_-]+)\s*=")


def locate(text: str) -> dict[str, int]:
    """Line (from 1) of every table and key of a TOML text, by dotted path; `service[0].kind` in arrays of tables."""
    lines: dict[str, int] = {}
    counts: dict[str, int] = {}
    prefix = ""
    for number, line in enumerate(text.splitlines(), 1):
        if table := _TABLE.match(line):
            prefix = _table_path(table[2].replace(" ", ""), table[1] == "[[", counts)
            lines.setdefault(prefix, number)
        elif key := _KEY.match(line):
            lines.setdefault(f"{prefix}.{key[1]}" if prefix else key[1], number)
    return lines


def _table_path(name: str, is_array: bool, counts: dict[str, int]) -> str:
    parts = name.split(".")
    head = parts[0]
    if is_array and len(parts) == 1:
        counts[head] = counts.get(head, -1) + 1
    if head in counts:
        head = f"{head}[{counts[head]}]"
    return ".".join([head, *parts[1:]])


def _find_problems(cls: type[_Section], data: Mapping[str, Any], at: str, problems: list[tuple[str, str]]) -> None:
    """Converts each field alone, so that every error is found."""
    fields = {field.name: field for field in msgspec.structs.fields(cls)}
    prefix = f"{at}." if at else ""
    problems.extend((f"{prefix}{name}", "unknown key") for name in data if name not in fields)
    for name, field in fields.items():
        if name not in data:
            if field.required:
                problems.append((f"{prefix}{name}", "required key is missing"))
            continue
        value, type_ = data[name], field.type
        if _is_section(type_) and isinstance(value, dict):
            _find_problems(type_, value, f"{prefix}{name}", problems)
        elif get_origin(type_) is tuple and isinstance(value, list) and _is_section(type_.__args__[0]):
            for position, item in enumerate(value):
                if isinstance(item, dict):
                    _find_problems(type_.__args__[0], item, f"{prefix}{name}[{position}]", problems)
                else:
                    problems.append((f"{prefix}{name}[{position}]", "must be a table"))
        else:
            try:
                msgspec.convert(value, type_, dec_hook=_path)
            except msgspec.ValidationError as error:
                problems.append((f"{prefix}{name}", str(error)))


def _is_section(type_: Any) -> bool:
    return isinstance(type_, type) and issubclass(type_, _Section)


def _path(type_: type, value: Any) -> Any:
    if type_ is Path and isinstance(value, str):
        return Path(value)
    raise msgspec.ValidationError(f"Expected a path, got {type(value).__name__}")


def parse_settings(text: str, path: str = "") -> GatewaySettings:
    """Settings from a TOML text.

    Raises:
        SettingsInvalid: with every problem and its line.
    """
    return _parse(GatewaySettings, text, path)


def _parse(cls: type[T], text: str, path: str) -> T:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        raise SettingsInvalid([(int(line[1]) if line else 0, "", str(error))], path) from error
    problems: list[tuple[str, str]] = []
    _find_problems(cls, data, "", problems)
    settings: T | None = None
    if not problems:
        settings = msgspec.convert(data, cls, dec_hook=_path)
        problems.extend(_meaning(settings))
    if problems or settings is None:
        lines = locate(text)
        raise SettingsInvalid([(_line(lines, key), key, message) for key, message in problems], path)
    return settings


def _line(lines: Mapping[str, int], key: str) -> int:
    while key:
        if key in lines:
            return lines[key]
        key = key.rpartition(".")[0]
    return 1


def _meaning(settings: GatewaySettings | GatewayPart) -> list[tuple[str, str]]:
    """What types cannot say."""
    found: list[tuple[str, str]] = []
    checks: list[tuple[str, Any, str]] = []
    if isinstance(settings, GatewaySettings):
        checks.append(("node", NodeId, settings.node))
        found.extend(_node_meaning(settings))
    for at, service in enumerate(settings.service):
        checks.append((f"service[{at}].id", ServiceId, service.id))
        found.extend(_attempts_meaning(service.commands, f"service[{at}].commands"))
    for at, client in enumerate(settings.client):
        checks.extend((f"client[{at}].subsystems", SubsystemId, item) for item in client.subsystems)
        if client.key is None and not client.certificate_sha256:
            found.append((f"client[{at}]", "needs key (a file made by `lienthong client add`) or certificate_sha256"))
        if "." in client.name or not client.name:
            found.append((f"client[{at}].name", "must be non-empty and without a dot"))
        found.extend(_client_meaning(client, f"client[{at}]"))
    for at, admin in enumerate(settings.admin_key):
        found.extend(_admin_key_meaning(admin, f"admin_key[{at}]"))
    for key, kind, text in checks:
        try:
            kind.parse(text)
        except IdentifierInvalid as error:
            found.append((key, str(error)))
    return found


def _attempts_meaning(told: CommandSettings | ServiceCommands, at: str) -> list[tuple[str, str]]:
    found = [
        (f"{at}.{key}", "must be more than 0")
        for key in ("attempt_s", "attempt_max_s", "attempts_for_s", "attempts")
        if (number := getattr(told, key)) is not None and number <= 0
    ]
    if told.attempt_s is not None and told.attempt_max_s is not None and told.attempt_s > told.attempt_max_s:
        found.append((f"{at}.attempt_s", "must be at most attempt_max_s"))
    return found


def _client_meaning(client: Client, at: str) -> list[tuple[str, str]]:
    found = []
    if len(client.further_keys) >= MOST_KEYS:
        found.append((f"{at}.further_keys", f"a client system has at most {MOST_KEYS} keys"))
    found += [
        (at, "a certificate is named by 64 lower-case hex digits")
        for digest in (client.certificate_sha256, *client.further_certificates_sha256)
        if digest and not re.fullmatch(r"[0-9a-f]{64}", digest)
    ]
    if client.webhook_url and not WEBHOOK_URL.fullmatch(client.webhook_url):
        found.append((f"{at}.webhook_url", "must be https:// (or http:// on a network of your own), host and path"))
    if bool(client.webhook_url) != (client.webhook_secret is not None):
        found.append((f"{at}.webhook_url", "webhook_url and webhook_secret go together"))
    if client.max_in_flight is not None and client.max_in_flight < 1:
        found.append((f"{at}.max_in_flight", "must be at least 1"))
    if client.per_second is not None and client.per_second <= 0:
        found.append((f"{at}.per_second", "must be more than 0"))
    return found


def _admin_key_meaning(key: AdminKey, at: str) -> list[tuple[str, str]]:
    found = [(f"{at}.roles", f"{role} is none of {', '.join(ROLES)}") for role in key.roles if role not in ROLES]
    if not key.roles:
        found.append((f"{at}.roles", "a key without a role may do nothing"))
    if not re.fullmatch(r"[A-Za-z0-9-]{1,64}", key.name):
        found.append((f"{at}.name", "must be 1 to 64 letters, digits and '-'"))
    return found


def _node_meaning(settings: GatewaySettings) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    front = settings.front
    if not re.fullmatch(r"[0-9a-f]{64}", settings.genesis):
        found.append(("genesis", "must be 64 lower-case hex digits"))
    if settings.registry.url and not re.fullmatch(
        r"https?://[^/\s#]+(/[^\s#]*)?(#sha256:[0-9a-f]{64})?", settings.registry.url
    ):
        found.append(("registry.url", "must be http:// or https:// and a host"))
    commands = settings.commands
    if not 0 < commands.life_s <= commands.longest_life_s:
        found.append(("commands.life_s", "must be more than 0 and at most longest_life_s"))
    if not 0 < commands.retry_s <= commands.retry_max_s:
        found.append(("commands.retry_s", "must be more than 0 and at most retry_max_s"))
    if settings.retention.commands_days < settings.retention.results_days:
        found.append(("retention.commands_days", "must be at least results_days"))
    found += [
        (f"commands.{key}", "must be at least 1")
        for key in ("waiting", "at_once", "tasks", "at_backend")
        if getattr(commands, key) < 1
    ]
    found.extend(_attempts_meaning(commands, "commands"))
    if (front.certificate is None) != (front.key is None):
        found.append(("front", "certificate and key go together"))
    if front.certificate is None and not front.plain_http:
        found.append(("front", "needs certificate and key, or plain_http = true behind a proxy of your own"))
    for key, listen in (("front.listen", front.listen), ("admin.listen", settings.admin.listen)):
        if not re.fullmatch(r".+:\d{1,5}", listen):
            found.append((key, "must be host:port"))
    return found


def load_settings(path: Path) -> GatewaySettings:
    """Settings from a file and the parts in `gateway.d` beside it, with all paths made absolute.

    Raises:
        SettingsInvalid: with every problem and its line; also when a file that it names is missing.
    """
    settings = absolute(_parse(GatewaySettings, _text(path), str(path)), path.resolve().parent)
    _require_files(settings, path)
    clients, services, admins = list(settings.client), list(settings.service), list(settings.admin_key)
    for part_path in sorted((path.parent / "gateway.d").glob("*.toml")):
        part = absolute(_parse(GatewayPart, _text(part_path), str(part_path)), path.resolve().parent)
        _require_files(part, part_path)
        for item in part.client:
            _once(item.name, [client.name for client in clients], "client.name", part_path)
        for item in part.service:
            _once(item.id, [service.id for service in services], "service.id", part_path)
        clients.extend(part.client)
        services.extend(part.service)
        admins.extend(part.admin_key)
    everything = (
        ("client.name", [c.name for c in clients]),
        ("service.id", [s.id for s in services]),
        ("admin_key.name", [a.name for a in admins]),
    )
    for key, names in everything:
        for at, name in enumerate(names):
            _once(name, names[:at], key, path)
    merged: GatewaySettings = msgspec.structs.replace(
        settings, client=tuple(clients), service=tuple(services), admin_key=tuple(admins)
    )
    return merged


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsInvalid([(0, "", f"cannot be read: {error.__class__.__name__}")], str(path)) from error


def _once(name: str, known: list[str], key: str, path: Path) -> None:
    if name in known:
        raise SettingsInvalid([(1, key, f"{name} appears twice")], str(path))


def _require_files(settings: GatewaySettings | GatewayPart, path: Path) -> None:
    lines = locate(_text(path))
    missing = [
        (_line(lines, key), key, f"there is no file {file}") for key, file in named_files(settings) if not file.exists()
    ]
    if missing:
        raise SettingsInvalid(missing, str(path))


def absolute(value: Any, base: Path) -> Any:
    """The same settings with relative paths joined to `base`."""
    if isinstance(value, Path):
        return base / value
    if isinstance(value, _Section):
        changed = {name: absolute(getattr(value, name), base) for name in value.__struct_fields__}
        return type(value)(**changed)
    if isinstance(value, tuple):
        return tuple(absolute(item, base) for item in value)
    return value


def named_files(settings: GatewaySettings | GatewayPart) -> list[tuple[str, Path]]:
    """Every file that the settings name, with its key."""
    named: list[tuple[str, Path | None]] = [(f"client[{at}].key", one.key) for at, one in enumerate(settings.client)]
    for at, client in enumerate(settings.client):
        named += [(f"client[{at}].further_keys", file) for file in client.further_keys]
        named += [
            (f"client[{at}].webhook_secret", client.webhook_secret),
            (f"client[{at}].webhook_ca", client.webhook_ca),
        ]
    named += [(f"admin_key[{at}].key", one.key) for at, one in enumerate(settings.admin_key)]
    if isinstance(settings, GatewaySettings):
        keys, front = settings.keys, settings.front
        named += [
            ("keys.log", keys.log),
            ("keys.broker", keys.broker),
            ("keys.sealing", keys.sealing),
            ("keys.member_certificate", keys.member_certificate),
            ("keys.member_signers", keys.member_signers),
            ("keys.passphrase", keys.passphrase),
            ("broker.ca", settings.broker.ca),
            ("front.certificate", front.certificate),
            ("front.key", front.key),
            ("front.client_ca", front.client_ca),
        ]
    return [(key, file) for key, file in named if file is not None]
