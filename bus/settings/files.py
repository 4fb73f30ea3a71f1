"""From gateway.toml and gateway.d/ to settings: paths made absolute, named files looked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from bus.errors import SettingsInvalid
from bus.settings.reading import line_of, locate, read
from bus.settings.tables import GatewayPart, GatewaySettings, Section


def load_settings(path: Path) -> GatewaySettings:
    """Settings from a file and the parts in `gateway.d` beside it, with all paths made absolute.

    Raises:
        SettingsInvalid: with every problem and its line; also when a file that it names is missing.
    """
    settings = absolute(read(GatewaySettings, _text(path), str(path)), path.resolve().parent)
    _require_files(settings, path)
    clients, services, admins = list(settings.client), list(settings.service), list(settings.admin_key)
    for part_path in sorted((path.parent / "gateway.d").glob("*.toml")):
        part = absolute(read(GatewayPart, _text(part_path), str(part_path)), path.resolve().parent)
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
        (line_of(lines, key), key, f"there is no file {file}")
        for key, file in named_files(settings)
        if not file.exists()
    ]
    if missing:
        raise SettingsInvalid(missing, str(path))


def absolute(value: Any, base: Path) -> Any:
    """The same settings with relative paths joined to `base`."""
    if isinstance(value, Path):
        return base / value
    if isinstance(value, Section):
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
