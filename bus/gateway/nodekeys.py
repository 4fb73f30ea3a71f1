"""The node's own keys as files, and their exchange while the node runs.

The log key changes at a reload, once the directory names the new one for this log. Broker key and credentials are
read together at each connection, so that each is made with a pair that belongs together. Makes no keys
(`lienthong node rotate`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import chain

import msgspec
import structlog

from bus.errors import SettingsInvalid
from bus.settings import GatewaySettings
from bus.transport import nkeys
from evidence.errors import EvidenceError
from evidence.note import VerifierKey
from evidence.signer import FileSigner
from registry.fold import Directory
from registry.view import DirectoryView

_log = structlog.get_logger("lienthong.gateway")


def load_log_signer(settings: GatewaySettings) -> FileSigner:
    """The log key.

    Raises:
        KeyUnusable: its file cannot be used.
    """
    return FileSigner.load(settings.keys.log, passphrase_path=settings.keys.passphrase)


def keys_of_log(view: DirectoryView, origin: str) -> tuple[VerifierKey, ...]:
    """Every key that the directory names for a log, revoked ones included: what its stored checkpoints may be under."""
    entry = view.node_by_origin(origin)
    return () if entry is None else entry.all_keys()


def successor(
    settings: GatewaySettings, view: DirectoryView, origin: str, present: VerifierKey, now: datetime
) -> FileSigner | None:
    """The log key in the file, if it is another one than the present and everybody may know it.

    Args:
        settings: as read anew.
        view: the directory.
        origin: of the own log.
        present: the key that signs now.
        now: aware UTC.

    Raises:
        SettingsInvalid: the file cannot be used, or the directory does not name this key for this log now: checkpoints
            under it would be refused by everybody.
    """
    try:
        signer = load_log_signer(settings)
    except EvidenceError as error:
        raise SettingsInvalid([(0, "keys.log", str(error))]) from error
    if signer.public_bytes == present.public:
        return None
    entry = view.node_by_origin(origin)
    if entry is None or signer.public_bytes not in {key.public for key in entry.keys_at(now)}:
        raise SettingsInvalid(
            [(0, "keys.log", "the directory does not name this key for this log now; see `lienthong node rotate log`")]
        )
    return signer


class Announcements:
    """Raises an alarm for each change of keys that the operator announced alone: now is the time to object."""

    def __init__(self) -> None:
        self._told: set[tuple[str, datetime]] = set()

    def look(self, directory: Directory, alarm: Callable[[str, str], None]) -> None:
        """Tells of what is new."""
        for member, announced in directory.announcements().items():
            if (member, announced.due_at) not in self._told:
                self._told.add((member, announced.due_at))
                alarm("key-change-announced", member)
                _log.error("member.key-change-announced", member=member, due=announced.due_at.isoformat())


class BrokerFiles:
    """Key and credentials of the broker user, read together.

    The next key, which `lienthong node rotate broker` has in `….next.pem` beside the present one, counts as well: a
    command that was killed between credentials and key leaves a node that still connects.

    Args:
        settings: of the node; paths do not change while it runs.

    Raises:
        KeyUnusable: the key file cannot be used.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self._key = settings.keys.broker
        self._passphrase = settings.keys.passphrase
        self._credentials = settings.broker.credentials
        self._signer = self._load()

    def _load(self) -> FileSigner:
        return FileSigner.load(self._key, passphrase_path=self._passphrase)

    def _load_next(self) -> FileSigner | None:
        path = self._key.with_name(f"{self._key.stem}.next{self._key.suffix}")
        try:
            return FileSigner.load(path, passphrase_path=self._passphrase) if path.exists() else None
        except EvidenceError:
            return None  # nothing is lost: the present key decides

    def _on_disk(self) -> Iterator[FileSigner]:
        """Present key, then the next one.

        Raises:
            ValueError: the present key cannot be read.
        """
        try:
            yield self._load()
        except EvidenceError as error:
            raise ValueError("the broker key cannot be read") from error
        following = self._load_next()
        if following is not None:
            yield following

    def jwt(self) -> str:
        """The credentials as they are now; `sign` signs with the key that belongs to them.

        Raises:
            OSError: there are none.
            ValueError: key and credentials do not belong together now; a moment later they will.
        """
        text = self._credentials.read_text(encoding="ascii").strip()
        try:
            subject = nkeys.decode_claims(text).get("sub")
        except (ValueError, IndexError, msgspec.MsgspecError):
            return text  # the broker says what it thinks of them
        for signer in chain((self._signer,), self._on_disk()):
            if nkeys.public_text("user", signer.public_bytes) == subject:
                self._signer = signer
                return text
        raise ValueError("the broker key is not the one that the credentials are for")

    def holds(self, key: str) -> bool:
        """Whether the key of that text form lies on disk now, as the present or the next one.

        Raises:
            ValueError: the present key cannot be read.
        """
        return any(nkeys.public_text("user", signer.public_bytes) == key for signer in self._on_disk())

    def sign(self, data: bytes) -> bytes:
        """A signature for the broker's challenge."""
        return self._signer.sign(data)
