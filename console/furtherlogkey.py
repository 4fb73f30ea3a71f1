"""The log key of a further node, exchanged on its own machine: the next key takes the present one's place in time.

The next key lies beside the present one from its request on. Whether it may sign, this node's own verified copy of the
directory says, and that of the running gateway has to be as new; the registry's word alone changes no file. Publishes
nothing: the statement is made in the member's home (`carriedkeys`).
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from http.client import OK
from pathlib import Path
from typing import Any, NamedTuple

from console.doctor.reaching import fetch, listening_facts
from console.heldkeys import retire_log_key
from console.homes import HomeInvalid, MemberHome
from console.rotation import b64, is_unused, reload_gateway
from console.views import local_directory
from evidence.signer import FileSigner, generate_key_file


class Standing(NamedTuple):
    """How far an exchange is.

    Attributes:
        exchanged: Whether the next key took the present one's place now.
        usable_from: Since when the directory lets it sign; None where nothing waits, or nothing is known yet.
        is_waiting: Whether there still is a next key.
    """

    exchanged: bool = False
    usable_from: datetime | None = None
    is_waiting: bool = False


def next_log_key(home: MemberHome) -> Path:
    """Where the next key lies."""
    return home.keys / "log.next.pem"


def make_next(home: MemberHome, passphrase: Path | None) -> FileSigner:
    """The next key: that of an earlier try, or a new one."""
    path = next_log_key(home)
    if path.exists():
        return FileSigner.load(path, passphrase_path=passphrase)
    return generate_key_file(path, "ed25519", passphrase_path=passphrase)


def was_exchanged(home: MemberHome) -> bool:
    """Whether this node had another log key before."""
    return any((home.keys / "retired").glob("log-*.pub"))


def take(home: MemberHome, passphrase: Path | None, now: datetime) -> Standing:
    """Lets the next key take the present one's place, if the directory here names it for now.

    Killed before its end, it is given again. The gateway has to be told.

    Args:
        home: Of a further node.
        passphrase: File with the passphrase of both keys.
        now: Aware UTC.
    """
    following = next_log_key(home)
    if not following.exists():
        return Standing()
    key = FileSigner.load(following, passphrase_path=passphrase).public_bytes
    since = usable_from(home, key)
    if since is None or since > now:
        return Standing(usable_from=since, is_waiting=True)
    if _is_gateway_behind(home):
        return Standing(is_waiting=True)  # it would refuse the key, and go on with one that lies nowhere any more
    present = FileSigner.load(home.keys / "log.pem", passphrase_path=passphrase).public_bytes
    retire_log_key(home, b64(present))
    following.replace(home.keys / "log.pem")  # the earlier private key is gone with this
    return Standing(exchanged=True, usable_from=since)


def exchange(home: MemberHome, passphrase: Path | None, *, wait: bool) -> dict[str, Any]:
    """As `take`, for a person who asks for it: what hinders it is said.

    Args:
        home: Of a further node.
        passphrase: File with the passphrase of both keys.
        wait: Whether to wait until the key may sign.

    Raises:
        HomeInvalid: There is no next key, the directory here does not name it, or it is too early.
    """
    node = f"{home.facts.member}/@{home.facts.node}"
    if not next_log_key(home).exists():
        if is_unused(home):  # it was taken, and the gateway was not told
            return {"node": node, "exchanged": False, "reloaded": reload_gateway(home)}
        raise HomeInvalid(
            f"there is no next log key in {home.keys}; ask for one: lienthong node request --home {home.path} "
            "--days 30 --log-key --out FILE"
        )
    found = take(home, passphrase, datetime.now(UTC))
    if wait and found.is_waiting and found.usable_from is not None:
        time.sleep(max(0.0, (found.usable_from - datetime.now(UTC)).total_seconds()))
        found = take(home, passphrase, datetime.now(UTC))
    if not found.exchanged:
        raise HomeInvalid(f"the next log key of {node} cannot be used yet: {_why(found)}")
    return {"node": node, "exchanged": True, "usable_from": found.usable_from, "reloaded": reload_gateway(home)}


def _why(found: Standing) -> str:
    if found.usable_from is not None:
        return f"wait until {found.usable_from:%Y-%m-%dT%H:%M:%SZ} (--wait does)"
    return (
        "the directory here, or that of the running gateway, does not name it. It comes by itself once the member's "
        "home has endorsed the request (lienthong node add --request) and the gateway here runs"
    )


def _is_gateway_behind(home: MemberHome) -> bool:
    """Whether the running gateway works with an older directory than the one that lies here; it stores, then folds."""
    admin = listening_facts(home.data).get("admin")
    status, body = fetch(f"{admin}/status") if admin else (0, b"")
    if status != OK:
        return False  # none runs
    try:
        seen = int(json.loads(body)["directory"]["view"].partition(" ")[0])
    except (ValueError, KeyError, TypeError, AttributeError):
        return True
    with local_directory(home) as directory:
        return seen < directory.size


def usable_from(home: MemberHome, key: bytes) -> datetime | None:
    """Since when the directory names a key for this node's log; None where it does not, or not any more."""
    try:
        with local_directory(home) as directory:
            entry = directory.node(f"{home.facts.member}/@{home.facts.node}")
    except HomeInvalid:
        return None  # the gateway never ran
    if entry is None:
        return None
    if entry.log_key.public == key:
        return entry.key_from_at or entry.valid_from_at
    found = [one for one in entry.other_keys if one.key.public == key and not one.revoked and one.until_at is None]
    return found[0].from_at if found else None
