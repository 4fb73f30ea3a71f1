"""What types cannot say about settings: names, patterns, numbers that go together."""

from __future__ import annotations

import re
from typing import Any

from bus.settings.tables import (
    MOST_KEYS,
    ROLES,
    WEBHOOK_URL,
    AdminKey,
    Client,
    CommandSettings,
    GatewayPart,
    GatewaySettings,
    ServiceCommands,
)
from evidence.errors import IdentifierInvalid
from evidence.identifiers import NodeId, ServiceId, SubsystemId


def problems_of(settings: GatewaySettings | GatewayPart) -> list[tuple[str, str]]:
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
    found += [
        (f"limits.{key}", "must be more than 0")
        for key in ("lookups_per_s", "long_polls")
        if getattr(settings.limits, key) <= 0
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
