"""What a type annotation cannot say about one document."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec

from registry.documents.instants import parse_time
from registry.documents.kinds import (
    KEM_PUBLIC_BYTES,
    Anchor,
    AnyDocument,
    Catalogue,
    Member,
    Node,
    NodeLog,
    Sealing,
    Service,
)
from registry.errors import DocumentMalformed
from registry.publickeys import decode_base64, decode_ed25519, key_id


def check_shape(document: AnyDocument) -> None:
    """What a type annotation cannot say about one document."""
    if (document.prev is None) != (document.seq == 0):
        raise DocumentMalformed("prev must be absent at seq 0 and present afterwards")
    parse_time(document.issued)
    for name in ("valid_from", "until", "since", "resumes"):
        value = getattr(document, name, None)
        if value is not None:
            parse_time(value)
    match document:
        case Anchor():
            _check_anchor(document)
        case Member():
            for key in document.keys:
                key_id(key.public)
            _check_distinct(document.aliases, "alias")
        case Node():
            decode_ed25519(document.broker_key)
            _check_node_log(document.log)
        case Sealing():
            _check_sealing(document)
        case Service():
            _check_service(document)
        case Catalogue():
            _check_distinct(tuple(term.code for term in document.purposes), "purpose")
            _check_distinct(tuple(term.code for term in document.grounds), "ground")
        case _:
            pass


def _check_anchor(anchor: Anchor) -> None:
    if anchor.threshold > len(anchor.operators):
        raise DocumentMalformed("the anchor's threshold is larger than its number of operators")
    for operator in anchor.operators:
        if key_id(operator.public) != operator.keyid:
            raise DocumentMalformed("an operator's keyid is not that of its key")
    _check_distinct(tuple(operator.keyid for operator in anchor.operators), "operator")
    decode_ed25519(anchor.directory.log_key)
    decode_ed25519(anchor.directory.cosigner_key)


def _check_node_log(log: NodeLog) -> None:
    keys = (log.key, *(other.key for other in log.others))
    for key in keys:
        decode_ed25519(key)
    _check_distinct(keys, "log key")
    for time in (log.key_from, *(other.from_ for other in log.others), *(other.until for other in log.others)):
        if time is not None:
            parse_time(time)


def _check_sealing(document: Sealing) -> None:
    public = decode_base64(document.public)
    if len(public) != KEM_PUBLIC_BYTES[document.kem]:
        raise DocumentMalformed(f"a {document.kem} public key has {KEM_PUBLIC_BYTES[document.kem]} bytes")
    if document.kem == "P-256":
        _check_p256_point(public)
    if key_id(public) != document.keyid:
        raise DocumentMalformed("the subject of a sealing document ends with the SHA-256 of its public key")
    _check_distinct(document.use, "use")


def _check_service(document: Service) -> None:
    known = tuple(operation.id for operation in document.operations)
    _check_distinct(known, "operation")
    _check_distinct(tuple(one.operation for one in document.deprecated), "deprecated operation")
    for one in document.deprecated:
        if one.operation not in known:
            raise DocumentMalformed("a deprecated operation is not one of the service's")
        parse_time(one.since)
        if one.sunset is not None and parse_time(one.sunset) < parse_time(one.since):
            raise DocumentMalformed("an operation ends before it is deprecated")


def _check_p256_point(point: bytes) -> None:
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError:
        raise DocumentMalformed("a P-256 public key is an uncompressed point of the curve") from None


def _check_distinct(values: tuple[str, ...], what: str) -> None:
    if len(set(values)) != len(values):
        raise DocumentMalformed(f"the same {what} is named twice")
