"""Strict reading of a source's settings and of the secret files that they name.

Every error carries the dotted key below the source's own table. Does not read settings files: the caller hands in
plain mappings.
"""

import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from adapters.errors import SettingsInvalid

Decoded = TypeVar("Decoded", bound=msgspec.Struct)
MAX_SECRET_BYTES = 64 * 1024
_WHERE = re.compile(r" - at `(?:key in )?\$(?P<path>[^`]*)`$")
_UNKNOWN = re.compile(r"unknown field `(?P<field>[^`]*)`")
_MISSING = re.compile(r"missing required field `(?P<field>[^`]*)`")


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all settings structs: frozen, unknown keys refused."""


def decode(settings: object, shape: type[Decoded], prefix: str = "") -> Decoded:
    """Read a plain mapping into a settings struct.

    Args:
        settings: What stood in the settings, as plain values.
        shape: The struct to make.
        prefix: Dotted key of this mapping, empty at the top.

    Raises:
        SettingsInvalid: A key is unknown, missing or of another type.
    """
    try:
        return msgspec.convert(settings, shape)
    except msgspec.ValidationError as error:
        raise _translated(str(error), prefix) from None


def _translated(text: str, prefix: str) -> SettingsInvalid:
    where = _WHERE.search(text)
    key = prefix + (where["path"] if where else "")
    message = text[: where.start()] if where else text
    if unknown := _UNKNOWN.search(message):
        return SettingsInvalid(dotted(key, unknown["field"]), "this key is not known; remove it or correct its name")
    if missing := _MISSING.search(message):
        return SettingsInvalid(dotted(key, missing["field"]), "this key is required")
    return SettingsInvalid(key.removeprefix("."), message[:1].lower() + message[1:])


def dotted(prefix: str, key: str) -> str:
    """Join two parts of a key path; either may be empty."""
    return ".".join(part for part in (prefix.strip("."), key) if part)


def positive(settings: msgspec.Struct, names: Mapping[str, float], prefix: str = "") -> None:
    """Refuse numbers that are zero or negative or beyond their bound.

    Args:
        settings: The struct to look at.
        names: Field names with the largest value that makes sense.
        prefix: Dotted key of the struct.

    Raises:
        SettingsInvalid: One of them is out of range.
    """
    for name, largest in names.items():
        value = getattr(settings, name)
        if not 0 < value <= largest:
            raise SettingsInvalid(dotted(prefix, name), f"must be more than 0 and at most {largest:g}")


def read_secret(path: str, key: str) -> str:
    """Read a secret of one line from a file that others cannot read.

    Args:
        path: The file; its last line break is not part of the secret.
        key: Dotted key of the setting, for errors.

    Raises:
        SettingsInvalid: The file is missing, open to others, empty, or more than one line of text.
    """
    try:
        with Path(path).open("rb") as file:
            mode = stat.S_IMODE(Path(path).stat().st_mode)
            data = file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise SettingsInvalid(key, f"the secret file cannot be read: {error.strerror}") from error
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise SettingsInvalid(key, f"the secret file is open to others (mode {mode:04o}); make it 0600")
    try:
        secret = data.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise SettingsInvalid(key, "the secret file is not text") from None
    if not secret or not secret.isprintable() or len(data) > MAX_SECRET_BYTES:
        raise SettingsInvalid(key, "the secret file must hold one line of text")
    return secret
