"""Settings of a gateway: read once, frozen, unknown keys refused, every error with its line.

Secrets are paths to files, never values. Paths are relative to the settings file. See config/gateway.toml for every key
with its meaning; a test compares the two.
"""

from __future__ import annotations

from bus.settings.files import absolute, load_settings, named_files
from bus.settings.reading import locate, parse_settings
from bus.settings.tables import (
    MOST_KEYS,
    ROLES,
    WEBHOOK_URL,
    Admin,
    AdminKey,
    Broker,
    Client,
    CommandSettings,
    DirectorySettings,
    Front,
    GatewayPart,
    GatewaySettings,
    Keys,
    LimitSettings,
    Logging,
    Registry,
    Retention,
    RevocationSettings,
    Service,
    ServiceCommands,
)

__all__ = [
    "MOST_KEYS",
    "ROLES",
    "WEBHOOK_URL",
    "Admin",
    "AdminKey",
    "Broker",
    "Client",
    "CommandSettings",
    "DirectorySettings",
    "Front",
    "GatewayPart",
    "GatewaySettings",
    "Keys",
    "LimitSettings",
    "Logging",
    "Registry",
    "Retention",
    "RevocationSettings",
    "Service",
    "ServiceCommands",
    "absolute",
    "load_settings",
    "locate",
    "named_files",
    "parse_settings",
]
