"""Sealing keys of a node in files, one JSON file a key, mode 0600: `{"owner", "use", "kem", "private"}`.

Written by `lienthong node add` and `node rotate sealing`; the directory says which of them others use, and when. The
gateway takes over new files by itself and destroys a key once nothing can be on its way to it any more.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from bus.errors import SettingsInvalid
from bus.sealing.keys import SealingKeyInvalid, SealingKeyPair
from evidence.durable import sync_folder
from registry.view import DirectoryView

_NEVER = datetime.max.replace(tzinfo=UTC)


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
    written = path.with_name(f".{path.name}.new")  # a running gateway watches the folder: it never sees half a key
    descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(stored))
        file.flush()
        os.fsync(file.fileno())
    if path.exists():
        written.unlink()
        raise FileExistsError(f"{path} exists already")
    written.rename(path)
    sync_folder(folder)
    return path


def expired(
    pairs: Mapping[str, Mapping[str, SealingKeyPair]], view: DirectoryView, now: datetime, kept_s: float
) -> list[str]:
    """Key ids that nothing can be sealed to any more, and that were kept long enough for what is still on its way.

    The newest key of each use is never among them: without it nobody could send anything until a person made another.

    Args:
        pairs: own keys by use and key id.
        view: the directory, which says until when others may seal to a key.
        now: aware UTC, from more than the own clock: a destroyed key does not come back when the clock is set right.
        kept_s: how long a key is kept after that.
    """
    gone: set[str] = set()
    newest: set[str] = set()
    for of_use in pairs.values():
        ends = {keyid: entry.until_at for keyid in of_use if (entry := view.sealing_key_by_id(keyid)) is not None}
        if ends:
            newest.add(max(ends, key=lambda keyid: ends[keyid] or _NEVER))
        for keyid, until_at in ends.items():
            if until_at is not None and until_at + timedelta(seconds=kept_s) <= now:
                gone.add(keyid)
    return sorted(gone - newest)


def destroy(folder: Path, keyids: Collection[str]) -> int:
    """Deletes the files of keys: from now on nobody can open what was sealed to them. How many there were."""
    count = 0
    for path in sorted(folder.glob("*.json")):
        try:
            stored = msgspec.json.decode(path.read_bytes(), type=StoredKey)
            pair = SealingKeyPair.load(stored.kem, base64.b64decode(stored.private))
        except (OSError, msgspec.MsgspecError, SealingKeyInvalid, ValueError):
            continue
        if pair.keyid in keyids:
            path.unlink(missing_ok=True)
            count += 1
    return count


def days_left(pairs: Mapping[str, SealingKeyPair], view: DirectoryView, now: datetime) -> float:
    """Days until nothing can be sealed to any of these keys any more; negative afterwards, infinite without an end."""
    ends = []
    for keyid in pairs:
        entry = view.sealing_key_by_id(keyid)
        if entry is not None and not view.is_revoked("key", keyid):
            if entry.until_at is None:
                return float("inf")
            ends.append((entry.until_at - now).total_seconds() / 86_400)
    return max(ends, default=0.0)


def load_keys(folder: Path) -> dict[str, dict[str, SealingKeyPair]]:
    """All key pairs of a folder: use to keyid to pair.

    Raises:
        SettingsInvalid: a file is open to others or not a key.
    """
    found: dict[str, dict[str, SealingKeyPair]] = {"query": {}, "answer": {}}
    for path in sorted(folder.glob("*.json")):
        try:
            if path.stat().st_mode & 0o077:
                raise SettingsInvalid([(0, "keys.sealing", f"{path} may be read by others; chmod 600 it")])
            stored = msgspec.json.decode(path.read_bytes(), type=StoredKey)
            pair = SealingKeyPair.load(stored.kem, base64.b64decode(stored.private))
        except FileNotFoundError:
            continue  # destroyed meanwhile
        except (msgspec.ValidationError, msgspec.DecodeError, SealingKeyInvalid, ValueError) as error:
            raise SettingsInvalid([(0, "keys.sealing", f"{path} is not a sealing key")]) from error
        found.setdefault(stored.use, {})[pair.keyid] = pair
    return found
