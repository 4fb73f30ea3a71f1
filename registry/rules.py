"""Checks of one document against the directory so far, other than who signed it.

Pure. Each check raises `DocumentRefused` with the stable code under which the fold reports the document as skipped.
Shape alone is checked in `documents`, authors in `authorship`.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta

from evidence.errors import IdentifierInvalid
from evidence.identifiers import (
    MemberId,
    NodeId,
    ServiceId,
    SubsystemId,
    check_creatable,
    check_service_creatable,
    parse_origin,
)
from registry.authorship import pinned_keys
from registry.documents import (
    CODE,
    Access,
    Anchor,
    AnyDocument,
    Catalogue,
    Group,
    Member,
    Node,
    Revocation,
    Sealing,
    Service,
    Subsystem,
    parse_checked_time,
)
from registry.errors import DocumentRefused
from registry.keyuse import KeyUse, claims
from registry.state import State


def check_type(document: AnyDocument, announced: str) -> None:
    """The protected header's `typ` names the payload's type."""
    if document.type != announced:
        raise DocumentRefused("type-mismatch", f"signed as {announced}, but the document is a {document.type}")


def check_instance(document: AnyDocument, state: State) -> None:
    """The document is for this instance, and the first one of all is an anchor."""
    if state.anchor is None:
        if not isinstance(document, Anchor):
            raise DocumentRefused("no-anchor", "the first document of a directory is its anchor")
    elif document.instance != state.instance:
        raise DocumentRefused("wrong-instance", f"for instance {document.instance}, this is {state.instance}")


def check_genesis(document: AnyDocument, payload: bytes, genesis: str) -> None:
    """The first anchor's payload hashes to the genesis that was learnt out of band."""
    if hashlib.sha256(payload).hexdigest() != genesis or document.seq != 0:
        raise DocumentRefused("wrong-genesis", "the first anchor is not that of the expected instance")


ISSUED_AHEAD_AT_MOST = timedelta(hours=1)
"""How far `issued` may be ahead of the time that the reader verified."""


def check_date(document: AnyDocument, state: State) -> None:
    """The document is not dated ahead, as far as the reader has verified a time.

    A confirmation is taken: it waits for its time in the directory (`State.reach`).
    """
    waits = isinstance(document, Anchor) and state.anchor is None
    waits = waits or (isinstance(document, Member) and document.change == "confirmed")
    if state.verified_at is not None and not waits and document.issued_at > state.verified_at + ISSUED_AHEAD_AT_MOST:
        raise DocumentRefused("issued-ahead", f"{document.subject}: issued long after the directory was confirmed")


def check_sequence(document: AnyDocument, state: State) -> None:
    """The document is the next of its chain: `seq`, `prev` and `issued` follow its predecessor's."""
    head = state.head(document.type, document.subject)
    expected = 0 if head is None else head.seq + 1
    if document.seq != expected:
        code = "sequence-replayed" if document.seq < expected else "sequence-gap"
        raise DocumentRefused(code, f"seq {document.seq} where {expected} is next for {document.subject}")
    if head is None:
        return
    if document.prev != head.digest:
        raise DocumentRefused("predecessor-mismatch", f"prev is not the newest document of {document.subject}")
    if document.issued < head.issued:
        raise DocumentRefused("issued-before-predecessor", f"issued before the newest document of {document.subject}")


def check_subject(document: AnyDocument, state: State) -> None:
    """The subject is a creatable identifier of the right kind, in its one spelling, in this instance."""
    try:
        match document:
            case Anchor():
                check_creatable(document.instance)
                _require(document.subject == document.instance, "an anchor's subject is the instance")
            case Member():
                _check_member_id(document.subject, state)
            case Node():
                _check_node_id(document.subject, state)
            case Sealing():
                check = _check_node_id if "/@" in document.owner else _check_member_id
                check(document.owner, state)
            case Subsystem():
                _check_subsystem_id(document.subject, state)
            case Service():
                _check_service_id(document.subject, state)
            case Group():
                _check_group_id(document.subject, state)
            case Access():
                _check_access_id(document, state)
            case Catalogue():
                _require(document.subject == state.instance, "a catalogue's subject is the instance")
            case _:
                _check_target(document, state)
    except IdentifierInvalid as error:
        raise DocumentRefused("subject-invalid", str(error)) from None


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise DocumentRefused("subject-invalid", message)


def _check_parts(id_: MemberId | SubsystemId | NodeId, text: str, member: MemberId, state: State) -> None:
    for part in member.parts:
        check_creatable(part)
    _require(member.instance == state.instance, f"{text} is not in this instance")
    _require(str(id_) == text, f"{text} is not in its canonical spelling")


def _check_member_id(text: str, state: State) -> None:
    id_ = MemberId.parse(text)
    _check_parts(id_, text, id_, state)


def _check_node_id(text: str, state: State) -> None:
    id_ = NodeId.parse(text)
    _check_parts(id_, text, id_.member, state)


def _check_subsystem_id(text: str, state: State) -> None:
    id_ = SubsystemId.parse(text)
    check_creatable(id_.subsystem)
    _check_parts(id_, text, id_.member, state)


def _check_service_id(text: str, state: State) -> None:
    id_ = ServiceId.parse(text)
    check_service_creatable(id_.service)
    _require(str(id_) == text, f"{text} is not in its canonical spelling")
    _check_subsystem_id(str(id_.subsystem), state)


def _check_code(code: str) -> None:
    _require(CODE.fullmatch(code) is not None, "the part after '#' is 1 to 64 letters, digits and '-'")


def _check_group_id(text: str, state: State) -> None:
    owner, _, code = text.partition("#")
    _check_code(code)
    if owner != state.instance:
        _check_member_id(owner, state)


def _check_access_id(document: Access, state: State) -> None:
    service, _, code = document.subject.partition("#")
    _check_code(code)
    _require(service == document.service, "the subject of an access right begins with its service")
    _check_service_id(service, state)
    _check_client(document.client, state)


def _check_client(text: str, state: State) -> None:
    if "#" in text:
        _check_group_id(text, state)
    elif text.count("/") == 2:
        _check_member_id(text, state)
    else:
        _check_subsystem_id(text, state)


def _check_target(document: Revocation, state: State) -> None:
    _require(document.subject == f"{document.kind}:{document.target}", "a target is a member, a node or a key")
    match document.kind:
        case "member":
            _check_member_id(document.target, state)
        case "node":
            _check_node_id(document.target, state)
        case _:
            known = len(document.target) == 64 and set(document.target) <= set("0123456789abcdef")
            _require(known, "a key is named by its key id")


def check_content(document: AnyDocument, state: State) -> None:
    """What the document says fits what the directory says: keys have one use, references exist, nothing is taken."""
    _check_keys(document, state)
    match document:
        case Anchor():
            _check_anchor(document, state)
        case Member():
            _check_aliases(document, state)
            _check_announcement(document, state)
        case Node():
            _check_node_log(document, state)
        case Sealing():
            _check_sealing(document, state)
        case Service():
            known = state.subsystem(document.subject.rpartition("/")[0]) is not None
            _refuse_unless(known, "subsystem-unknown", "the subsystem of a service is published before it")
        case Access():
            known = state.service(document.service) is not None
            _refuse_unless(known, "service-unknown", "a service is published before rights to it")
        case Group():
            for client in document.clients:
                _refuse_unless("#" not in client, "subject-invalid", "a group names members and subsystems only")
                _check_client_of_group(client, state)
        case _:
            pass


def _refuse_unless(condition: bool, code: str, message: str) -> None:
    if not condition:
        raise DocumentRefused(code, message)


def _check_client_of_group(client: str, state: State) -> None:
    try:
        _check_client(client, state)
    except IdentifierInvalid as error:
        raise DocumentRefused("subject-invalid", str(error)) from None


def _check_keys(document: AnyDocument, state: State) -> None:
    seen: dict[str, KeyUse] = {}
    for keyid, use in claims(document):
        known = seen.get(keyid) or state.keys.get(keyid)
        # The same key again is fine for the same use by the same holder, and never otherwise.
        if known is not None and known != use:
            raise DocumentRefused(
                "key-reused", f"key {keyid[:16]} of {document.subject} is already known for another use: make a new key"
            )
        if keyid in seen:
            raise DocumentRefused("key-reused", f"key {keyid[:16]} is named twice in {document.subject}")
        seen[keyid] = use


def _check_anchor(document: Anchor, state: State) -> None:
    if state.anchor is not None and document.directory != state.anchor.directory:
        raise DocumentRefused("directory-key-changed", "the keys of the directory cannot change within one log")
    if state.anchor is not None and document.recovery_delay_s < state.anchor.recovery_delay_s:
        # Otherwise the operator alone could shorten what protects members from the operator.
        raise DocumentRefused("recovery-delay-shortened", "an anchor may lengthen the delay of recoveries only")


_BACK_DATED_AT_MOST = timedelta(minutes=5)


def _check_announcement(document: Member, state: State) -> None:
    if document.change == "confirmed":
        known = state.announced(document.subject) is not None
        _refuse_unless(known, "recovery-not-announced", "what is confirmed was announced before")
    if document.change != "announced":
        return
    before = state.member(document.subject)
    known = before is not None and pinned_keys(document) != (before.signing_keys, before.recovery_keys)
    _refuse_unless(known, "announcement-empty", "an announcement is of other keys for a member")
    # The delay counts from `issued`: whatever stands in the log already says that it cannot be much older.
    newest = state.newest_issued
    on_time = not newest or document.issued_at >= parse_checked_time(newest) - _BACK_DATED_AT_MOST
    _refuse_unless(on_time, "announcement-back-dated", "an announcement is not issued before what is in the directory")


def _check_aliases(document: Member, state: State) -> None:
    prefix = document.subject.rpartition("/")[0]
    for alias in document.aliases:
        try:
            check_creatable(alias)
        except IdentifierInvalid as error:
            raise DocumentRefused("alias-invalid", str(error)) from None
        id_ = f"{prefix}/{alias}"
        taken = state.member(id_) is not None or state.alias_holder(id_) not in {None, document.subject}
        if taken or id_ == document.subject:
            raise DocumentRefused("alias-taken", f"{id_} already names a member")
    if state.alias_holder(document.subject) is not None:
        raise DocumentRefused("alias-taken", f"{document.subject} is already an alias of another member")


def _check_node_log(document: Node, state: State) -> None:
    try:
        origin = parse_origin(document.log.origin)
    except IdentifierInvalid as error:
        raise DocumentRefused("origin-invalid", str(error)) from None
    if origin.genesis != state.genesis or str(origin.node) != document.subject:
        raise DocumentRefused("origin-invalid", "the origin is not that of this node in this instance")
    before = state.node(document.subject)
    closes = document.log.closes
    if before is None:
        _refuse_unless(closes is None, "incarnation-invalid", "a first statement closes no log")
    elif before.origin == document.log.origin:
        # `closes` of the statement that opened this log may be repeated or dropped, its keys may not: what was signed
        # with them has to verify as long as the log is looked at.
        kept = {document.log.key, *(other.key for other in document.log.others)}
        _refuse_unless(
            state.log_keys(before.origin) <= kept,
            "log-key-dropped",
            "a statement names all earlier keys of the same log among `others`; without them it is a new incarnation",
        )
    else:
        _refuse_unless(origin.incarnation > before.incarnation, "incarnation-invalid", "incarnations only go up")
        _refuse_unless(
            closes is not None and closes.origin == before.origin,
            "incarnation-invalid",
            "a new incarnation closes the log before it at a size and root",
        )


def _check_sealing(document: Sealing, state: State) -> None:
    if "/@" in document.owner:
        _refuse_unless(state.node(document.owner) is not None, "node-unknown", "a node is stated before its keys")
    before = state.sealing_key_by_id(document.keyid)
    if before is not None and (before.kem != document.kem or before.use != frozenset(document.use)):
        raise DocumentRefused("key-reused", "a later document may only change the validity of a sealing key")
