"""The registry's side of the broker: who may come in, and the key of the streams' account.

Reads what the registry wrote; whether the broker was told so is for the registry's own metrics.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from bus.transport import nkeys
from bus.transport.guestbook import Guest, GuestBook
from console.doctor.findings import Finding
from console.homes import InstanceHome
from console.instance import read_broker_identity
from console.leaves import registry_directory
from evidence.signer import FileSigner
from registry.fold import Directory

GUESTS, STREAMS = "guests", "streams-key"


def check_guests(home: InstanceHome) -> Iterable[Finding]:
    """Who may come in to the broker, against the directory.

    Raises:
        GuestBookUnreadable: the file is damaged.
    """
    path = home.broker / "guests.json"
    if not (home.registry / "copy.db").exists():
        return [Finding(GUESTS, "ok", "nobody yet: the registry never ran")]
    guests, directory = GuestBook(path, _never).guests(), registry_directory(home)
    wrong = list(_contradictions(directory, guests))
    if wrong:
        do = f"lienthong registry --home {home.path} settles it within seconds while it runs; its log says why not"
        return [Finding(GUESTS, "fail", seen, do) for seen in wrong]
    refused = sum(guest.withdrawn for guest in guests.values())
    return [Finding(GUESTS, "ok", f"{len(guests) - refused} keys may come in, {refused} are refused")]


def _contradictions(directory: Directory, guests: dict[str, Guest]) -> Iterable[str]:
    for member in directory.members():
        for node in directory.nodes_of(member.id):
            guest = guests.get(nkeys.public_text("user", node.broker_key))
            if guest is None:
                yield f"{node.node} is not among the broker's guests"
            elif guest.withdrawn and node.status == "active":
                yield f"{node.node} is well in the directory and refused at the broker"
            elif not guest.withdrawn and node.status == "revoked":
                yield f"{node.node} is revoked in the directory and not refused at the broker"


def _never(path: Path, data: bytes) -> NoReturn:
    raise AssertionError(f"the doctor changes nothing: {path}, {len(data)} bytes")


def check_streams_key(home: InstanceHome) -> Iterable[Finding]:
    """The key of the streams' account is the one that the broker was told.

    Raises:
        HomeInvalid: the instance was made before there was one; the message says what to do.
        KeyUnusable: its file cannot be used.
    """
    path = home.broker / "streams.pem"
    public = nkeys.public_text("account", FileSigner.load(path).public_bytes)
    if read_broker_identity(home).streams_account != public:
        do = f"put back the {path.name} that belongs to {home.broker / 'identity.json'}: both from one backup"
        return [Finding(STREAMS, "fail", f"{path} is not the key of the streams' account", do)]
    return [Finding(STREAMS, "ok", "the key of the streams' account is here")]
