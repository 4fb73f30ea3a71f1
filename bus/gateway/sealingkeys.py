"""Sealing keys of a node in files, one JSON file a key, mode 0600: `{"owner", "use", "kem", "private"}`.

Written by `lienthong node add`; the directory says which of them others use.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path

import msgspec

from bus.errors import SettingsInvalid
from bus.sealing.keys import SealingKeyInvalid, SealingKeyPair


class StoredKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A sealing key file.

    Attributes:
        owner: member or node identifier.
        use: query (the member's) or answer (the node's).
        kem: of bus.sealing.keys.KEMS.
        private: base64 of the private form.
    """

    owner: str
    use: str
    kem: str
    private: str


def write_key(folder: Path, owner: str, use: str, pair: SealingKeyPair) -> Path:
    """Writes a key file that does not exist yet; returns its path."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{use}-{pair.keyid[:16]}.json"
    stored = StoredKey(owner, use, pair.public_key.kem, base64.b64encode(pair.private).decode())
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(stored))
    return path


def load_keys(folder: Path) -> dict[str, dict[str, SealingKeyPair]]:
    """All key pairs of a folder: use to keyid to pair.

    Raises:
        SettingsInvalid: a file is open to others or not a key.
    """
    found: dict[str, dict[str, SealingKeyPair]] = {"query": {}, "answer": {}}
    for path in sorted(folder.glob("*.json")):
        if path.stat().st_mode & 0o077:
            raise SettingsInvalid([(0, "keys.sealing", f"{path} may be read by others; chmod 600 it")])
        try:
            stored = msgspec.json.decode(path.read_bytes(), type=StoredKey)
            pair = SealingKeyPair.load(stored.kem, base64.b64decode(stored.private))
        except (msgspec.ValidationError, msgspec.DecodeError, SealingKeyInvalid, ValueError) as error:
            raise SettingsInvalid([(0, "keys.sealing", f"{path} is not a sealing key")]) from error
        found.setdefault(stored.use, {})[pair.keyid] = pair
    return found
