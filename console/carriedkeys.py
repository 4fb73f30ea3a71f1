"""A further node's statement, as it follows from a carried request: which broker and log key it names, and since when.

A log key is exchanged in two requests. The first names the next key, and the statement gives that key a window that
begins when everybody may know of it. The node signs with it from then on (`furtherlogkey`), and its next request, which
the new key signs, puts it into first place and ends the earlier one. Where the present key was revoked, the next one
comes into first place at once.

The home keeps which log keys it endorsed in `nodes/CODE.keys`: what else stands in a statement is not said again.
Reads no log, makes no keys.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import msgspec

from console.heldkeys import key_id_of
from console.homes import HomeInvalid, MemberHome, read_facts, replace_file
from console.membership import MemberSpeaker
from console.nodebundle import NodeRequest, NodeRequestRefused, read_request
from console.predecessors import KeyNotOwn, Predecessor, is_revoked, own_predecessor, successor
from console.statements import raw
from evidence.header import encode_time
from evidence.identifiers import check_creatable
from registry.client import RegistryClient
from registry.documents import LogKeyWindow, Node, NodeLog, parse_time
from registry.envelope import sign_document


class Timing(NamedTuple):
    """How a next log key comes into use.

    Attributes:
        delay_s: So long everybody gets to learn of it before it signs.
        overlap_s: So long the earlier key still counts when the new one is in first place.
    """

    delay_s: float = 900.0
    overlap_s: float = 86_400.0


class Endorsed(NamedTuple):
    """What a statement names once a request was granted.

    Attributes:
        log: Base64 key in first place.
        next_log: Base64 key of the request that counts later; empty where none does.
        usable_from: Since when that one counts.
    """

    log: str
    next_log: str = ""
    usable_from: datetime | None = None


def following_log(
    before: NodeLog, asked: NodeRequest, valid_from: str, now: datetime, timing: Timing, *, is_stolen: bool
) -> NodeLog:
    """The log of the statement that grants a request; `before` itself where nothing changes.

    Args:
        before: Of the newest statement.
        asked: The request, verified.
        valid_from: Of the newest statement: since when its first key serves, where that is not said.
        now: Aware UTC.
        timing: Of the exchange.
        is_stolen: Whether the request's present log key was revoked.

    Raises:
        NodeRequestRefused: The request is signed by a key that ended, or that does not count yet.
    """
    if asked.next_log and asked.next_log == before.key:
        return before  # granted before, and the next key is in first place since
    log = _promoted(before, asked.log, valid_from, now, timing.overlap_s)
    if log.key != asked.log or not asked.next_log:
        return log
    named = next((one for one in log.others if one.key == asked.next_log), None)
    if named is not None and named.until is not None:
        raise NodeRequestRefused(
            "the request names a log key that ended already as the next one: use the newest request"
        )
    if is_stolen:
        others = tuple(one for one in log.others if one.key != asked.next_log)
        window = LogKeyWindow(key=asked.next_log, from_=encode_time(now))
        begun = msgspec.structs.replace(log, others=(*others, window))
        return _promoted(begun, asked.next_log, valid_from, now, 0.0)
    if named is not None:
        return log
    begins = encode_time(now + timedelta(seconds=timing.delay_s))
    return msgspec.structs.replace(log, others=(*log.others, LogKeyWindow(key=asked.next_log, from_=begins)))


def _promoted(log: NodeLog, key: str, valid_from: str, now: datetime, overlap_s: float) -> NodeLog:
    """With a named key in first place, and the one that was there ending."""
    window = next((one for one in log.others if one.key == key), None)
    if window is None:
        return log  # in first place, or of somebody else: that is refused with the other keys
    if window.until is not None:
        raise NodeRequestRefused("the request is signed by an earlier log key of the node: use its newest request")
    if parse_time(window.from_) > now:
        raise NodeRequestRefused(f"the log key that signed the request counts from {window.from_} on: endorse it then")
    ending = LogKeyWindow(
        key=log.key, from_=log.key_from or valid_from, until=encode_time(now + timedelta(seconds=overlap_s))
    )
    others = (*(one for one in log.others if one.key != key), ending)
    return msgspec.structs.replace(log, key=key, key_from=window.from_, others=others)


async def exchange_keys(
    client: RegistryClient, speaker: MemberSpeaker, signed: bytes, asked: NodeRequest, timing: Timing
) -> Endorsed:
    """States a node with the keys that a later request of it names; it proved its log key with it.

    Both keys change in one statement: whatever breaks in between can be done again.

    Raises:
        NodeRequestRefused: The request is older than the one that was granted last, or its log key does not count now.
        KeyNotOwn: The newest statement names a log key that this home did not endorse.
        RegistryError: The registry refused, or does not answer; do it again.
    """
    node = f"{asked.member}/@{asked.node}"
    before = await own_predecessor(client, speaker.home, Node, node)
    if before is None:
        if asked.next_log:
            raise NodeRequestRefused(f"there is no statement of {node} yet, so no log key of it can be exchanged")
        return Endorsed(asked.log)
    document, is_stolen = before.document, False
    if asked.next_log:
        is_stolen = await is_revoked(client, speaker.home, key_id_of(raw(asked.log)))
    log = following_log(document.log, asked, document.valid_from, datetime.now(UTC), timing, is_stolen=is_stolen)
    if asked.log not in {log.key, *(one.key for one in log.others)}:
        return Endorsed(asked.log)  # another machine under this name: refused with the other documents
    if (log, asked.broker) != (document.log, document.broker_key):
        _refuse_older(speaker, signed, asked, document)
        await _require_known(client, speaker.home, asked.node, document.log, {asked.log, asked.next_log})
        if log is not document.log:
            _remember(speaker.home, asked)
            log = msgspec.structs.replace(log, head=asked.head or log.head)
        await _submit(client, speaker, before, log, asked.broker)
    window = next((one for one in log.others if asked.next_log == one.key), None)
    if window is None:
        return Endorsed(log.key)
    return Endorsed(log.key, window.key, parse_time(window.from_))


async def _submit(
    client: RegistryClient, speaker: MemberSpeaker, before: Predecessor[Node], log: NodeLog, broker_key: str
) -> None:
    # its keys are in no file of this home: the requests that were endorsed speak for them
    document = successor(before, {"log": log, "broker_key": broker_key})
    await client.submit(sign_document(document, speaker.signer, speaker.chain, speaker.genesis))


def _refuse_older(speaker: MemberSpeaker, signed: bytes, asked: NodeRequest, document: Node) -> None:
    kept = _kept_path(speaker.home, asked.node)
    if kept.exists() and kept.read_bytes() == signed:
        return  # the newest one again
    if parse_time(asked.issued) <= _named_at(speaker.home, asked.node, document):
        raise NodeRequestRefused(
            f"the request of {asked.issued} names other keys than the newer statement of {document.subject}: "
            "use the newest request of that node"
        )


def _named_at(home: MemberHome, code: str, document: Node) -> datetime:
    """When the node asked for the keys of a statement, or a later time: it may have been said again since."""
    kept = _kept(home, code)
    if kept is not None and kept.broker == document.broker_key:
        return parse_time(kept.issued)
    return document.issued_at


async def require_endorsed(client: RegistryClient, home: MemberHome, code: str, document: Node) -> None:
    """Returns when a statement is about a node that this home endorsed, with the keys of its requests and no others.

    Raises:
        HomeInvalid: This home endorsed no such node.
        NodeRequestRefused: The statement names other keys.
        KeyNotOwn: It names a further log key that no request of the node named.
    """
    check_creatable(code)
    asked = _kept(home, code)
    if asked is None:
        raise HomeInvalid(
            f"{home.path} neither is the home of a node {code}, nor endorsed one (lienthong node add --request); "
            "nothing was signed"
        )
    if asked.node != code or document.broker_key != asked.broker or document.log.key not in {asked.log, asked.next_log}:
        raise NodeRequestRefused(
            f"the directory's statement of {document.subject} names other keys than the request that was endorsed: "
            "nothing was signed; is somebody signing as this member?"
        )
    await _require_known(client, home, code, document.log, set())


async def _require_known(client: RegistryClient, home: MemberHome, code: str, log: NodeLog, asked: set[str]) -> None:
    """Nothing to say of a statement's log keys but those that this home endorsed, or in which trust was withdrawn."""
    kept = _kept(home, code)
    known = {*asked, *_remembered(home, code), *(() if kept is None else (kept.log, kept.next_log))}
    for key in sorted({log.key, *(one.key for one in log.others)} - known):
        keyid = key_id_of(raw(key))
        if not await is_revoked(client, home, keyid):
            raise KeyNotOwn(
                f"the directory's statement of {home.facts.member}/@{code} names the log key {key}, which no request "
                "named that this home endorsed: nothing was signed. If it is not the node's, somebody signs as this "
                f"member: lienthong key revoke {keyid} --home {home.path}. If it is, put it into "
                f"{_keys_path(home, code)} (a JSON array)"
            )


def keep(home: MemberHome, asked: NodeRequest, signed: bytes) -> None:
    """Keeps the newest request that was granted; an older one never takes its place."""
    kept = _kept(home, asked.node)
    if kept is None or parse_time(kept.issued) <= parse_time(asked.issued):
        replace_file(_kept_path(home, asked.node), signed, 0o644)


def _remember(home: MemberHome, asked: NodeRequest) -> None:
    """Before anything is published: a key that was remembered in vain does no harm, the other way round it would."""
    known = {*_remembered(home, asked.node), asked.log, *([asked.next_log] if asked.next_log else [])}
    replace_file(_keys_path(home, asked.node), msgspec.json.encode(sorted(known)), 0o644)


def _remembered(home: MemberHome, code: str) -> list[str]:
    path = _keys_path(home, code)
    return read_facts(path, list[str], "lienthong node add --request") if path.exists() else []


def _kept(home: MemberHome, code: str) -> NodeRequest | None:
    path = _kept_path(home, code)
    return read_request(path.read_bytes(), home.facts.genesis, home.facts.member) if path.exists() else None


def _kept_path(home: MemberHome, code: str) -> Path:
    return home.path / "nodes" / f"{code}.request"


def _keys_path(home: MemberHome, code: str) -> Path:
    return home.path / "nodes" / f"{code}.keys"
