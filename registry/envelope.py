"""Signed envelopes of directory documents: JWS with a certificate chain in every signature.

Each protected header has exactly `alg`, `typ` (`lienthong-<type>+json`), `genesis` and `x5c`; only the first anchor has
no genesis. One signature is written flattened, several general (`evidence.jws`). The chain proves that an authority of
the anchor vouches for the key when the document was issued; which key must have signed is `authorship`'s question, and
the answer is always a pinned key.

Certificates are judged at the document's `issued`, not now: everyone who folds the log, also years later, must come
to the same directory. The authority keeps `issued` near its own clock when it appends; a stolen key is revoked,
whatever its certificate says. No revocation list is asked here.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from evidence import jws
from evidence.errors import CertificateInvalid, EvidenceError, JwsMalformed, SignatureInvalid
from evidence.jws import JwsSignature
from evidence.signer import Signer
from evidence.x509 import Certificate, load_pem_chain, verify_chain
from registry.documents import MAX_DOCUMENT_BYTES, Anchor, AnyDocument, encode
from registry.errors import EnvelopeInvalid, TooLarge
from registry.publickeys import key_id, spki_public

_PREFIX, _SUFFIX = "lienthong-", "+json"
_HOUR = timedelta(hours=1)
_NO_GENESIS = frozenset({"alg", "typ", "x5c"})
_WITH_GENESIS = _NO_GENESIS | {"genesis"}


class EnvelopeSignature(NamedTuple):
    """One signature and the chain (DER, leaf first) that came with it; neither is verified."""

    signature: JwsSignature
    chain: tuple[bytes, ...]


class Envelope(NamedTuple):
    """A parsed envelope; nothing in it is verified.

    Attributes:
        type: Document type that all signatures name.
        payload: The document's bytes.
        digest: SHA-256 hex of the JWS: what a successor names as `prev`.
        signatures: At least one.
    """

    type: str
    payload: bytes
    digest: str
    signatures: tuple[EnvelopeSignature, ...]


def sign_document(document: AnyDocument, signer: Signer, chain: Sequence[bytes], genesis: str | None) -> bytes:
    """Sign a document.

    Args:
        document: The document.
        signer: A member's or operator's key.
        chain: DER certificates for that key, leaf first; the authority itself may be left out.
        genesis: 64 hex digits; None for the first anchor only.

    Returns:
        The JWS to submit. Further signatures: `add_signature`.

    Raises:
        EnvelopeInvalid: Genesis missing, or present in a first anchor.
        TooLarge: It does not fit into a leaf.
    """
    protected = protected_header(document.type, chain, genesis)
    if (genesis is None) != (isinstance(document, Anchor) and document.seq == 0):
        raise EnvelopeInvalid("every document but the first anchor carries the genesis", code="wrong-genesis")
    return _bounded(jws.sign_flattened(encode(document), protected, signer))


def add_signature(envelope: bytes, signer: Signer, chain: Sequence[bytes]) -> bytes:
    """Add a further signature over the same document, under the same type and genesis.

    Raises:
        EnvelopeInvalid: The envelope breaks a rule already.
        TooLarge: It does not fit into a leaf any more.
    """
    try:
        first = jws.parse(envelope).signatures[0].protected
        type_ = _type_of(first.get("typ"))
        signed = jws.add_signature(envelope, protected_header(type_, chain, first.get("genesis")), signer)
    except JwsMalformed as error:
        raise EnvelopeInvalid(str(error)) from None
    return _bounded(signed)


def genesis_of(anchor: Anchor) -> str:
    """The instance's identity: SHA-256 hex of its first anchor's payload."""
    return hashlib.sha256(encode(anchor)).hexdigest()


def protected_header(type_: str, chain: Sequence[bytes], genesis: str | None) -> dict[str, object]:
    """The protected header of a signature, without its `alg`."""
    header: dict[str, object] = {"typ": f"{_PREFIX}{type_}{_SUFFIX}"}
    if genesis is not None:
        header["genesis"] = genesis
    header["x5c"] = [base64.b64encode(der).decode() for der in chain]
    return header


def _bounded(envelope: bytes) -> bytes:
    if len(envelope) > MAX_DOCUMENT_BYTES:
        raise TooLarge(
            f"the signed document has {len(envelope)} bytes; {MAX_DOCUMENT_BYTES} fit into a leaf",
            limit=MAX_DOCUMENT_BYTES,
        )
    return envelope


def read_envelope(envelope: bytes, *, genesis: str | None) -> Envelope:
    """Parse an envelope and check its protected headers; verifies nothing.

    Args:
        envelope: JWS bytes.
        genesis: The instance; None where the first anchor is expected.

    Raises:
        EnvelopeInvalid: Not an exact JWS, too large, another genesis, or a header with other members.
    """
    if len(envelope) > MAX_DOCUMENT_BYTES:
        raise EnvelopeInvalid(f"{len(envelope)} bytes; {MAX_DOCUMENT_BYTES} fit into a leaf", code="document-too-large")
    try:
        parsed = jws.parse(envelope)
    except JwsMalformed as error:
        raise EnvelopeInvalid(str(error)) from None
    types = {_check_header(signature.protected, genesis) for signature in parsed.signatures}
    if len(types) != 1:
        raise EnvelopeInvalid("the signatures name different types of document")
    signatures = tuple(EnvelopeSignature(signature, _chain(signature.protected)) for signature in parsed.signatures)
    return Envelope(types.pop(), parsed.payload, hashlib.sha256(envelope).hexdigest(), signatures)


def _check_header(protected: Mapping[str, object], genesis: str | None) -> str:
    if protected.get("genesis") != genesis:
        raise EnvelopeInvalid("signed for another instance: the genesis differs", code="wrong-genesis")
    if protected.keys() != (_NO_GENESIS if genesis is None else _WITH_GENESIS):
        raise EnvelopeInvalid("a protected header has exactly alg, typ, genesis and x5c")
    return _type_of(protected["typ"])


def _type_of(typ: object) -> str:
    if not isinstance(typ, str) or not typ.startswith(_PREFIX) or not typ.endswith(_SUFFIX):
        raise EnvelopeInvalid("typ is not lienthong-<type>+json")
    return typ[len(_PREFIX) : -len(_SUFFIX)]


def _chain(protected: Mapping[str, object]) -> tuple[bytes, ...]:
    x5c = protected["x5c"]
    if not isinstance(x5c, list) or not 1 <= len(x5c) <= 6:
        raise EnvelopeInvalid("x5c has 1 to 6 certificates")
    chain = []
    for entry in x5c:
        try:
            der = base64.b64decode(entry, validate=True)
        except (ValueError, TypeError):
            raise EnvelopeInvalid("x5c is not base64") from None
        if base64.b64encode(der).decode() != entry:
            raise EnvelopeInvalid("x5c is not in its exact base64 form")
        chain.append(der)
    return tuple(chain)


def verify_envelope(envelope: Envelope, authorities: tuple[str, ...], at: datetime) -> Mapping[str, str | None]:
    """Verify every signature and every chain; one that fails refuses the whole document.

    Args:
        envelope: From `read_envelope`.
        authorities: PEM certificates of the anchor.
        at: When the certificates must have been valid: the document's `issued`.

    Returns:
        Key id of each signer, with the member that its certificate names, or None where it names none.

    Raises:
        EnvelopeInvalid: A signature or chain does not verify.
    """
    anchors = _load_authorities(authorities)
    signers: dict[str, str | None] = {}
    try:
        for signature, chain in envelope.signatures:
            certificate = _verify_chain_cached(chain, anchors, at)
            jws.verify(signature, certificate.public_bytes)
            member = None if certificate.member is None else str(certificate.member)
            signers[_key_id(certificate.public_bytes)] = member
    except CertificateInvalid as error:
        raise EnvelopeInvalid(str(error), code="certificate-invalid") from None
    except SignatureInvalid as error:
        raise EnvelopeInvalid(str(error), code="signature-invalid") from None
    return signers


@lru_cache(maxsize=1024)
def _key_id(spki: bytes) -> str:
    return key_id(spki_public(spki))


@lru_cache(maxsize=16)
def _load_authorities(authorities: tuple[str, ...]) -> tuple[bytes, ...]:
    try:
        return tuple(der for pem in authorities for der in load_pem_chain(pem.encode()))
    except EvidenceError as error:
        raise EnvelopeInvalid(
            f"an authority of the anchor cannot be read: {error}", code="certificate-invalid"
        ) from None


def _verify_chain_cached(chain: tuple[bytes, ...], anchors: tuple[bytes, ...], at: datetime) -> Certificate:
    hour = at.replace(minute=0, second=0, microsecond=0)
    try:
        return _verify_chain_all_hour(chain, anchors, hour)
    except CertificateInvalid:
        return verify_chain(chain, anchors, at, usage="member")


@lru_cache(maxsize=1024)
def _verify_chain_all_hour(chain: tuple[bytes, ...], anchors: tuple[bytes, ...], hour: datetime) -> Certificate:
    # Validity is an interval: what holds at both ends of an hour holds at every instant of it.
    verify_chain(chain, anchors, hour + _HOUR, usage="member")
    return verify_chain(chain, anchors, hour, usage="member")
