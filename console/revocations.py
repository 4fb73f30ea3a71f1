"""Withdrawing trust from a member, a node or a key: by its owner or by the operator, in the directory, for good."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from console.groups import speaker_of
from console.homes import HomeInvalid, MemberHome
from console.membership import call_registry
from console.ownword import own_store
from evidence.header import encode_time
from evidence.identifiers import MemberId, NodeId
from evidence.signer import public_key_of_pem
from registry.client import RegistryClient
from registry.documents import Revocation
from registry.errors import RegistryUnavailable
from registry.fold import Directory
from registry.publickeys import key_id, spki_public
from registry.view import RevocationKind

_KEY_ID = re.compile(r"[0-9a-f]{64}")


def own_member(home: Path) -> str | None:
    """The member of a member home; None for an instance home."""
    return None if (home / "instance.json").exists() else MemberHome(home).facts.member


def target_of(kind: RevocationKind, text: str | None, home: Path) -> str:
    """The full identifier of what a person named.

    Args:
        kind: member, node or key.
        text: a member id (a member's own may be left out); a node id, or the code of an own node; a key id of 64 hex
            digits, or a file with the public key or certificate (PEM).
        home: of who speaks.

    Raises:
        HomeInvalid: nothing was named, or it is no key.
        IdentifierInvalid: it is no identifier.
        KeyUnusable: the file holds no public key.
    """
    own = own_member(home)
    if kind == "key":
        return _key_target(text)
    if text is None:
        if own is None or kind == "node":
            raise HomeInvalid(f"name the {kind} to revoke")
        return own
    if kind == "member":
        return str(MemberId.parse(text))
    if "/" not in text and own is not None:
        return str(NodeId(MemberId.parse(own), text.removeprefix("@")))
    return str(NodeId.parse(text))


def _key_target(text: str | None) -> str:
    if text is not None and _KEY_ID.fullmatch(text):
        return text
    if text is None or not Path(text).is_file():
        raise HomeInvalid("name a key by its id (64 hex digits, see `lienthong key list`) or by a PEM file")
    public = public_key_of_pem(Path(text))
    return key_id(public if len(public) == 32 else spki_public(public))


def revoke(
    home: Path,
    kind: RevocationKind,
    target: str,
    *,
    since_at: datetime | None,
    reason: str,
    dry_run: bool,
    folders: Sequence[Path] = (),
) -> dict[str, Any]:
    """Publishes a revocation, or only says what it would say.

    Args:
        home: of who withdraws: the member itself or the operator.
        kind: member, node or key.
        target: full identifier.
        since_at: from when on it is not to be trusted; None is now.
        reason: for everybody to read.
        dry_run: compose, sign and publish nothing.
        folders: with further operator keys, where the operator speaks.

    Raises:
        SignaturesMissing: too few operator keys are at hand; a proposal was kept.
        HomeInvalid: `since_at` lies ahead, or the directory has no such member or node.
        RegistryError: the registry refused, or does not answer.
    """
    now = datetime.now(UTC)
    since_at = since_at or now
    if since_at > now:
        raise HomeInvalid(
            "a revocation cannot begin in the future: leave --since out, or name an instant that has passed"
        )
    speaker, _ = speaker_of(home, folders)

    async def work(client: RegistryClient) -> tuple[int | None, str | None]:
        if kind != "key" and await client.newest(kind, target) is None:
            raise HomeInvalid(f"the directory has no {kind} {target}: nothing was revoked")
        subject, since = f"{kind}:{target}", encode_time(since_at)
        if dry_run:  # not signed: what is signed somebody else could submit
            await speaker.draft(client, Revocation, subject, since=since, reason=reason)
            return None, None
        signed = await speaker.compose(client, Revocation, subject, since=since, reason=reason)
        try:
            index = (await client.submit(signed)).index
        except RegistryUnavailable:
            _keep(home, signed)  # whatever became of it: here it counts
            raise
        acknowledged = encode_time(datetime.now(UTC))
        _keep(home, signed)
        return index, acknowledged

    index, acknowledged = call_registry(speaker.url, work)
    return {
        "kind": kind,
        "target": target,
        "since": encode_time(since_at),
        "reason": reason,
        "revoked": index is not None,
        "index": index,
        "acknowledged": acknowledged,
    }


def _keep(home: Path, signed: bytes) -> None:
    """A member keeps what it withdrew: its gateway honours it at once, and alarms when the directory lacks it."""
    if own_member(home) is None:
        return
    own = own_store(MemberHome(home))
    try:
        own.put(signed)
    finally:
        own.close()


def known_keys(directory: Directory, owner: str | None) -> list[dict[str, Any]]:
    """Keys that the directory has seen, each with its one use; of one owner, or all."""
    rows = []
    for keyid, use in sorted(directory.keys.items(), key=lambda item: (item[1].owner, item[1].use, item[0])):
        if owner is None or use.owner == owner:
            revocation = directory.revocation("key", keyid)
            rows.append(
                {
                    "key": keyid,
                    "use": use.use,
                    "of": use.holder or use.owner,
                    "revoked_since": None if revocation is None else encode_time(revocation.since_at),
                }
            )
    return rows
