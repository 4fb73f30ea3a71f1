"""From a checked document to the immutable entry that the hot path reads.

Pure. The documents were checked before, so nothing here refuses.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from evidence.checkpoint import key_name
from evidence.note import VerifierKey
from registry.authorship import owner_of
from registry.documents import Access, ClosedLog, LogKeyWindow, Node, Sealing, Service, parse_checked_time
from registry.publickeys import decode_base64
from registry.view import (
    AccessEntry,
    DeprecatedOperation,
    LogKey,
    NodeEntry,
    NodeStatus,
    SealingKeyEntry,
    ServiceEntry,
    ServiceOperation,
)


def node_entry(document: Node, log_key: VerifierKey) -> NodeEntry:
    """The entry of a node statement; its status is still to be set."""
    return NodeEntry(
        node=document.subject,
        member=owner_of(document.subject),
        origin=document.log.origin,
        incarnation=int(document.log.origin.rpartition("/")[2]),
        log_key=log_key,
        broker_key=decode_base64(document.broker_key),
        tls=document.tls,
        valid_from_at=_valid_from(document),
        until_at=None if document.until is None else parse_checked_time(document.until),
        status="active",
        key_from_at=None if document.log.key_from is None else parse_checked_time(document.log.key_from),
        other_keys=tuple(_log_key(document.log.origin, other) for other in document.log.others),
        wire=document.wire,
    )


_SKEW = timedelta(hours=1)


def _valid_from(document: Node | Sealing) -> datetime:
    # What is issued in the future is not used before: a delay cannot be skipped by dating everything ahead.
    return max(parse_checked_time(document.valid_from), parse_checked_time(document.issued) - _SKEW)


def _log_key(origin: str, other: LogKeyWindow) -> LogKey:
    until_at = None if other.until is None else parse_checked_time(other.until)
    key = VerifierKey(key_name(origin), decode_base64(other.key))
    return LogKey(key, parse_checked_time(other.from_), until_at)


def replaced_status(entry: NodeEntry, status: NodeStatus, closes: ClosedLog | None = None) -> NodeEntry:
    """The entry with another status, and where its log was closed."""
    if closes is None:
        return entry if entry.status == status else msgspec.structs.replace(entry, status=status)
    return msgspec.structs.replace(
        entry, status=status, closed_size=closes.size, closed_root=bytes.fromhex(closes.root)
    )


def sealing_entry(document: Sealing) -> SealingKeyEntry:
    """The entry of a sealing key."""
    return SealingKeyEntry(
        keyid=document.keyid,
        owner=document.owner,
        kem=document.kem,
        public=decode_base64(document.public),
        use=frozenset(document.use),
        valid_from_at=_valid_from(document),
        until_at=None if document.until is None else parse_checked_time(document.until),
    )


def service_entry(document: Service) -> ServiceEntry:
    """The entry of a service."""
    operations = {
        operation.id: ServiceOperation(operation.id, operation.method, operation.path)
        for operation in document.operations
    }
    return ServiceEntry(
        id=document.subject,
        provider=owner_of(document.subject),
        subsystem=document.subject.rpartition("/")[0],
        contract_sha256=document.contract,
        title=document.title,
        version=document.version,
        operations=operations,
        fields=frozenset(document.fields),
        limits=document.limits,
        enabled=document.enabled,
        notice=document.notice,
        since_at=parse_checked_time(document.issued),
        until_at=None if document.until is None else parse_checked_time(document.until),
        deprecated={
            one.operation: DeprecatedOperation(
                parse_checked_time(one.since), None if one.sunset is None else parse_checked_time(one.sunset)
            )
            for one in document.deprecated
        },
        resumes_at=None if document.resumes is None else parse_checked_time(document.resumes),
    )


def access_entry(document: Access, author: str) -> AccessEntry:
    """The entry of an access right."""
    since_at = parse_checked_time(document.issued)
    return AccessEntry(
        subject=document.subject,
        client=document.client,
        service=document.service,
        operations=None if document.operations is None else frozenset(document.operations),
        purposes=frozenset(document.purposes),
        grounds=frozenset(document.grounds),
        official_required=document.official_required,
        fields=frozenset(document.fields),
        quota=document.quota,
        author=author,
        since_at=since_at,
        valid_from_at=since_at if document.valid_from is None else parse_checked_time(document.valid_from),
        until_at=None if document.until is None else parse_checked_time(document.until),
    )
