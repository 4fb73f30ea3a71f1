"""The node's own keys as files, and their exchange while the node runs.

The log key changes at a reload, once the directory names the new one for this log. Broker key and credentials are
read together at each connection, so that each is made with a pair that belongs together. Makes no keys
(`lienthong node rotate`).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

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
        for signer in (self._signer, None):
            try:
                found = signer or self._load()
            except EvidenceError as error:
                raise ValueError("the broker key cannot be read") from error
            if nkeys.public_text("user", found.public_bytes) == subject:
                self._signer = found
                return text
        raise ValueError("the broker key is not the one that the credentials are for")

    def holder(self) -> str:
        """Text form of the broker key as it lies on disk now.

        Raises:
            ValueError: it cannot be read.
        """
        try:
            return nkeys.public_text("user", self._load().public_bytes)
        except EvidenceError as error:
            raise ValueError("the broker key cannot be read") from error

    def sign(self, data: bytes) -> bytes:
        """A signature for the broker's challenge."""
        return self._signer.sign(data)
