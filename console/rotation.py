"""Exchanging a node's keys without a gap: new keys are known to everybody before they are used, old ones count a while.

Each function publishes first and changes files afterwards; whatever breaks in between can be done again. A running
gateway of the same home is told to reload.
"""

from __future__ import annotations

import base64
import json
import os
import signal
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import msgspec

from bus.gateway.sealingkeys import load_keys, write_key
from bus.sealing.keys import SealingKeyPair
from bus.settings import load_settings
from console.furthernodes import has_further_nodes, renew_bundles
from console.heldkeys import retire_log_key
from console.homes import HomeInvalid, MemberHome, replace_file
from console.membership import MemberSpeaker, Speaker, call_registry
from console.predecessors import Predecessor, own_predecessor
from evidence import note
from evidence.checkpoint import key_name
from evidence.errors import EvidenceError
from evidence.header import encode_time
from evidence.identifiers import NodeId, log_origin
from evidence.log import LogReader
from evidence.note import VerifierKey
from evidence.signer import FileSigner, generate_key_file
from registry.client import RegistryClient
from registry.documents import LogHead, LogKeyWindow, Node, NodeLog, Sealing, parse_time

_SKEW = timedelta(minutes=1)
_LEAD_S, _CARRYING_S = 300.0, 86_400.0


def b64(data: bytes) -> str:
    """A key as documents write it."""
    return base64.b64encode(data).decode()


def node_of(home: MemberHome) -> str:
    """The node of a home.

    Raises:
        HomeInvalid: it has no node yet.
        SettingsInvalid: its settings cannot be read.
    """
    if not home.settings.exists():
        raise HomeInvalid(f"there is no {home.settings}; make a node with `lienthong node add`")
    return load_settings(home.settings).node


async def statement(client: RegistryClient, home: MemberHome, node: str) -> Predecessor[Node]:
    """The newest statement of a node of this member.

    Raises:
        HomeInvalid: the directory has none.
        PredecessorUnproven: this member did not sign it.
    """
    found = await own_predecessor(client, home, Node, node)
    if found is None:
        raise HomeInvalid(f"the directory has no statement of {node}")
    return found


def log_head(home: MemberHome) -> LogHead | None:
    """The newest tree of the node's log, for the directory to date; None before the first record."""
    path = home.data / "log.db"
    if not path.exists():
        return None
    try:
        with LogReader(path) as reader:
            head = reader.head()
    except EvidenceError:
        return None
    return LogHead(size=head.size, root=head.root.hex()) if head.size else None


def reload_gateway(home: MemberHome) -> bool:
    """Tells the running gateway of this home to read its files again; False when none runs."""
    try:
        pid = int(json.loads((home.data / "listening.json").read_bytes())["pid"])
        # A crashed gateway leaves the file behind, and its number may be somebody else's by now.
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"gateway" not in command:
            return False
        os.kill(pid, signal.SIGHUP)
    except (OSError, ValueError, KeyError):
        return False
    return True


# --- log key --------------------------------------------------------------------------------------------------------


def prepare_log_key(home: MemberHome, delay_s: float) -> dict[str, Any]:
    """Makes the next log key and has the directory name it beside the present one.

    Args:
        home: of the member.
        delay_s: after that it may be used: longer than any gateway goes without a fresh directory.

    Raises:
        KeyUnusable: there is a next key already.
        RegistryError: the registry refused, or does not answer; the next key is not used.
    """
    node, speaker, following = node_of(home), Speaker.member(home), home.keys / "log.next.pem"
    now = datetime.now(UTC)
    from_at = now + timedelta(seconds=delay_s)
    key = _load_or_make(home, following)

    async def publish(client: RegistryClient) -> datetime:
        found = await statement(client, home, node)
        before = found.document
        named = {other.key: other for other in before.log.others}
        if b64(key.public_bytes) in named:
            return parse_time(named[b64(key.public_bytes)].from_)
        window = LogKeyWindow(key=b64(key.public_bytes), from_=encode_time(from_at))
        log = msgspec.structs.replace(before.log, others=(*before.log.others, window), head=log_head(home))
        await client.submit(await speaker.amend(client, found, log=log))
        return from_at

    return {"node": node, "usable_from": call_registry(speaker.url, publish), "key_file": following}


def _load_or_make(home: MemberHome, path: Path) -> FileSigner:
    """An Ed25519 key file, encrypted as the node's settings say."""
    passphrase = load_settings(home.settings).keys.passphrase
    if path.exists():
        return FileSigner.load(path, passphrase_path=passphrase)
    return generate_key_file(path, "ed25519", passphrase_path=passphrase)


def log_key_step(home: MemberHome) -> Literal["prepare", "activate", "reload"]:
    """What comes next in an exchange of the log key, wherever an earlier command ended.

    Raises:
        HomeInvalid: it has no node yet.
        RegistryError: the registry does not answer.
    """
    following = home.keys / "log.next.pem"
    node, speaker = node_of(home), Speaker.member(home)
    before = call_registry(speaker.url, lambda client: statement(client, home, node)).document.log
    if following.exists():
        key = b64(_load_or_make(home, following).public_bytes)
        return "activate" if key in {before.key, *(other.key for other in before.others)} else "prepare"
    return "reload" if _taken_and_unused(home, before) else "prepare"


def _taken_and_unused(home: MemberHome, log: NodeLog) -> bool:
    """Whether the key in the file is the directory's newest, and the log's newest checkpoint still is under another."""
    settings = load_settings(home.settings)
    present = FileSigner.load(settings.keys.log, passphrase_path=settings.keys.passphrase)
    return b64(present.public_bytes) == log.key and is_unused(home)


def is_unused(home: MemberHome) -> bool:
    """Whether the log's newest checkpoint is under another key than the one in the file."""
    settings = load_settings(home.settings)
    path = settings.data / "log.db"
    present = FileSigner.load(settings.keys.log, passphrase_path=settings.keys.passphrase)
    if not path.exists():
        return False
    try:
        with LogReader(path) as reader:
            newest = note.parse(reader.note())
    except EvidenceError:
        return False  # no checkpoint yet
    origin = log_origin(settings.genesis, NodeId.parse(settings.node), settings.incarnation)
    own = VerifierKey(key_name(origin), present.public_bytes)
    return own.id not in {signature.key_id for signature in newest.signatures}


def activate_log_key(home: MemberHome, overlap_s: float) -> dict[str, Any]:
    """Lets the prepared key sign from now on; the old one is accepted for `overlap_s` more.

    Where the key was taken already and only the gateway may not know, it is told again.

    Raises:
        HomeInvalid: nothing was prepared, or it is too early.
        RegistryError: the registry refused, or does not answer; do it again.
    """
    node, speaker, following = node_of(home), Speaker.member(home), home.keys / "log.next.pem"
    if not following.exists():
        if log_key_step(home) == "reload":
            return {"node": node, "reloaded": reload_gateway(home)}
        raise HomeInvalid(f"there is no {following}; prepare it with `lienthong node rotate log --prepare`")
    key, now = _load_or_make(home, following), datetime.now(UTC)
    text = b64(key.public_bytes)

    async def publish(client: RegistryClient) -> None:
        found = await statement(client, home, node)
        before = found.document
        if before.log.key == text:
            return
        window = next((other for other in before.log.others if other.key == text), None)
        if window is None or parse_time(window.from_) > now:
            when = "the directory does not name it" if window is None else f"wait until {window.from_}"
            raise HomeInvalid(f"the next log key of {node} cannot be used yet: {when}")
        until = encode_time(now + timedelta(seconds=overlap_s))
        old = LogKeyWindow(key=before.log.key, from_=before.log.key_from or before.valid_from, until=until)
        others = (*(other for other in before.log.others if other.key != text), old)
        log = NodeLog(
            key=text,
            origin=before.log.origin,
            closes=before.log.closes,
            key_from=window.from_,
            others=others,
            head=log_head(home) or before.log.head,
        )
        signed = await speaker.amend(client, found, log=log)
        retire_log_key(home, before.log.key)
        await client.submit(signed)

    call_registry(speaker.url, publish)
    following.replace(load_settings(home.settings).keys.log)  # the old private key is gone with this
    return {"node": node, "reloaded": reload_gateway(home)}


def pin_log(home: MemberHome) -> dict[str, Any]:
    """Has the directory name the newest tree of the log: everything in it is dated by the directory's cosignature.

    Raises:
        HomeInvalid: the log is empty.
        RegistryError: the registry refused, or does not answer.
    """
    node, speaker, head = node_of(home), Speaker.member(home), log_head(home)
    if head is None:
        raise HomeInvalid(f"{node} has no log yet")

    async def publish(client: RegistryClient) -> None:
        before = await statement(client, home, node)
        log = msgspec.structs.replace(before.document.log, head=head)
        await client.submit(await speaker.amend(client, before, log=log))

    call_registry(speaker.url, publish)
    return {"node": node, "size": head.size, "root": head.root}


# --- broker key -----------------------------------------------------------------------------------------------------


def rotate_broker_key(home: MemberHome) -> dict[str, Any]:
    """A new broker key, named in the directory, with credentials for it; taken with the next connection.

    Raises:
        RegistryError: the registry refused, or does not answer; do it again.
    """
    node, speaker, following = node_of(home), Speaker.member(home), home.keys / "broker.next.pem"
    key = _load_or_make(home, following)
    settings = load_settings(home.settings)
    # In whatever step a command is killed: the gateway takes credentials for either of the two keys.

    async def publish(client: RegistryClient) -> str:
        before = await statement(client, home, node)
        if before.document.broker_key != b64(key.public_bytes):
            await client.submit(await speaker.amend(client, before, broker_key=b64(key.public_bytes)))
        return (await client.credentials(node)).jwt

    jwt = call_registry(speaker.url, publish)
    replace_file(settings.broker.credentials, jwt.encode())
    following.replace(settings.keys.broker)
    return {"node": node, "reloaded": reload_gateway(home)}


# --- sealing keys ---------------------------------------------------------------------------------------------------


def rotate_sealing_keys(
    home: MemberHome, days: int, *, every_s: float = 86_400.0, lead_s: float | None = None
) -> dict[str, Any]:
    """Makes and publishes the sealing keys of the coming days, each for one period and the next.

    Args:
        home: of the member.
        days: how many periods ahead.
        every_s: length of a period.
        lead_s: the first new key begins this much later: by then the gateways have it and everybody knows it. None:
            five minutes, or a day where bundles have to be carried to further nodes.

    Raises:
        RegistryError: the registry refused, or does not answer; what was published counts, do it again.
    """
    node, speaker = node_of(home), Speaker.member(home)
    if lead_s is None:
        lead_s = _CARRYING_S if has_further_nodes(home) else _LEAD_S
    folder = load_settings(home.settings).keys.sealing
    for unfinished in folder.glob(".*.json.new"):
        unfinished.unlink(missing_ok=True)  # half a key of a command that was killed: nobody ever used it
    plan = ((home.facts.member, "query", ("query", "command")), (node, "answer", ("answer",)))
    now = datetime.now(UTC)

    async def publish(client: RegistryClient) -> dict[str, str]:
        ends = {}
        for owner, use, uses in plan:
            pairs = load_keys(folder)[use]
            present = await _published(client, home, owner, pairs)
            known = {one.document.keyid for one in present}
            unsaid = [pair for keyid, pair in pairs.items() if keyid not in known]  # of a command that broke off
            start = max(
                _following([one.document for one in present], timedelta(seconds=every_s), now),
                now + timedelta(seconds=lead_s),
            )
            for number in range(days):
                from_at = start + timedelta(seconds=number * every_s)
                until_at = from_at + timedelta(seconds=2 * every_s)
                pair = unsaid.pop() if unsaid else _write_new_pair(folder, owner, use)
                await _say_key(client, speaker, pair, (owner, uses), from_at, until_at)
                ends[use] = encode_time(until_at)
            await _end_long_ones(client, speaker, present, start + timedelta(seconds=every_s), every_s)
        return ends

    ends = call_registry(speaker.url, publish)
    return {
        "node": node,
        "keys": days * len(plan),
        "last_until": ends,
        "bundles": renew_bundles(home),
        "reloaded": reload_gateway(home),
    }


def _following(present: list[Sealing], period: timedelta, now: datetime) -> datetime:
    """When the next key begins: half-way through the life of the last one, so that there is always one in use.

    Keys that live longer than a period and the next (those of `node add`) are no series: the series begins now.
    """
    spans = [(parse_time(one.valid_from), parse_time(one.until)) for one in present if one.until is not None]
    series = [(from_at, until_at) for from_at, until_at in spans if until_at - from_at <= 2 * period]
    if not series:
        return now
    from_at, until_at = max(series)
    return from_at + (until_at - from_at) / 2


async def _published(
    client: RegistryClient, home: MemberHome, owner: str, keyids: Iterable[str]
) -> list[Predecessor[Sealing]]:
    """Newest documents of these keys."""
    found = [await own_predecessor(client, home, Sealing, f"{owner}#{keyid}") for keyid in keyids]
    return [one for one in found if one is not None]


def _write_new_pair(folder: Path, owner: str, use: str) -> SealingKeyPair:
    """Makes a key and keeps it before anybody can seal to it."""
    pair = SealingKeyPair.generate()
    write_key(folder, owner, use, pair)
    return pair


async def _say_key(
    client: RegistryClient,
    speaker: Speaker,
    pair: SealingKeyPair,
    what: tuple[str, tuple[str, ...]],
    from_at: datetime,
    until_at: datetime,
) -> None:
    owner, uses = what
    await speaker.say(
        client,
        Sealing,
        f"{owner}#{pair.keyid}",
        kem=pair.public_key.kem,
        public=b64(pair.public_key.public),
        use=uses,
        valid_from=encode_time(from_at),
        until=encode_time(until_at),
    )


async def _end_long_ones(
    client: RegistryClient,
    speaker: MemberSpeaker,
    present: list[Predecessor[Sealing]],
    end_at: datetime,
    every_s: float,
) -> None:
    """Keys that live longer than a period and the next end with the first of the series."""
    for before in present:
        one = before.document
        longest = parse_time(one.valid_from) + timedelta(seconds=2 * every_s)
        if (one.until is None or parse_time(one.until) > max(end_at, longest)) and parse_time(one.valid_from) < end_at:
            await client.submit(await speaker.amend(client, before, until=encode_time(end_at)))
