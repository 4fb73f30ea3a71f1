"""Settings of the one-door front: one TOML file, checked as a whole before anything listens."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

from adapters.errors import SettingsInvalid
from adapters.kinds.settings import Settings, decode, dotted, positive, read_secret

_AGENCY = re.compile(r"[0-9A-Z]+(\.[0-9A-Z]+)*")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


class DeskSettings(Settings, frozen=True):
    """One one-door system that may log in.

    Attributes:
        name: Its user name.
        password_file: File of one line, mode 0600.
        agencies: Codes (`madonvi`) for which it speaks, in both forms if it writes both; with all that are below them.
    """

    name: str
    password_file: str
    agencies: tuple[str, ...]


class OneDoorSettings(Settings, frozen=True):
    """Settings of `lienthong adapter onedoor`.

    Attributes:
        gateway: Address of the own gateway's front, `https://host:port`.
        client: Subsystem in whose name it calls, `INSTANCE/CLASS/MEMBER/SUBSYSTEM`.
        key_file: File with the key of a client system of that subsystem, mode 0600.
        service: Service that takes dossiers, `INSTANCE/CLASS/MEMBER/SUBSYSTEM/SERVICE`.
        desk: One-door systems.
        ca_file: PEM file of the gateway's authority; empty means the system's.
        listen: `host:port` for one-door systems.
        certificate_file: PEM file for TLS on `listen`; without it only a loopback address may be listened on.
        certificate_key_file: Its key.
        purpose: `X-LienThong-Purpose` of every call.
        legal_basis: `X-LienThong-Legal-Basis` of every call.
        session_s: How long a session lives.
        deadline_s: Longest time for one call of the gateway.
        max_body_bytes: Longest request.
        max_items: Elements of `data` in one request.
        max_requests: Requests served at once; more are told to come again.
    """

    gateway: str
    client: str
    key_file: str
    service: str
    desk: tuple[DeskSettings, ...]
    ca_file: str = ""
    listen: str = "127.0.0.1:8490"
    certificate_file: str = ""
    certificate_key_file: str = ""
    purpose: str = ""
    legal_basis: str = ""
    session_s: float = 3600.0
    deadline_s: float = 20.0
    max_body_bytes: int = 4 * 1024 * 1024
    max_items: int = 100
    max_requests: int = 64


def load(path: Path) -> OneDoorSettings:
    """Read and check a settings file; file names in it are relative to it.

    Raises:
        SettingsInvalid: With the dotted key that is wrong.
    """
    try:
        plain = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsInvalid("", f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsInvalid("", f"{path} is not TOML: {error}") from error
    read = decode(_absolute(plain, path.resolve().parent), OneDoorSettings)
    positive(read, {"session_s": 86_400, "deadline_s": 300, "max_body_bytes": 64 << 20, "max_items": 10_000})
    positive(read, {"max_requests": 10_000})
    if urlsplit(read.gateway).scheme not in {"http", "https"} or not urlsplit(read.gateway).hostname:
        raise SettingsInvalid("gateway", "is an address like https://127.0.0.1:8443")
    for key, parts in (("client", 4), ("service", 5)):
        if len([part for part in getattr(read, key).split("/") if part]) != parts:
            raise SettingsInvalid(key, f"has {parts} parts, separated by /")
    _check_listen(read)
    if not read.desk:
        raise SettingsInvalid("desk", "at least one one-door system is required")
    names = [desk.name for desk in read.desk]
    for place, desk in enumerate(read.desk):
        key = f"desk[{place}]"
        if _NAME.fullmatch(desk.name) is None or names.count(desk.name) > 1:
            raise SettingsInvalid(dotted(key, "name"), "is a name of its own of a-z, 0-9, _ and -")
        if not desk.agencies or any(_AGENCY.fullmatch(code) is None or len(code) > 35 for code in desk.agencies):
            raise SettingsInvalid(dotted(key, "agencies"), "names agency codes like H37.02.02")
        read_secret(desk.password_file, dotted(key, "password_file"))
    read_secret(read.key_file, "key_file")
    return read


def _check_listen(read: OneDoorSettings) -> None:
    host, _, port = read.listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise SettingsInvalid("listen", "is host:port")
    if bool(read.certificate_file) != bool(read.certificate_key_file):
        raise SettingsInvalid("certificate_file", "and certificate_key_file belong together")
    if not read.certificate_file and host.strip("[]") not in {"127.0.0.1", "::1", "localhost"}:
        raise SettingsInvalid("listen", "is not a loopback address: passwords need TLS, set certificate_file")


def _absolute(value: object, base: Path, key: str = "") -> object:
    if isinstance(value, dict):
        return {name: _absolute(inner, base, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [_absolute(inner, base, key) for inner in value]
    return str(base / value) if isinstance(value, str) and key.endswith("_file") and value else value
