"""Requests to become a member: what is asked, and the operator's refusal.

A request is the member document that is wished for, signed by its own key: that proves the key is held, and the
operator can approve by adding its signature or by signing a corrected document with the same keys. Who has no
certificate yet sends a self-signed one, which counts here and nowhere else; the certificate that an authority of the
anchor then gives is left with the request until the applicant fetches it. A refusal is a statement signed by the
operator. Pure; stores nothing (`registrystore`) and appends nothing (`authority`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

import msgspec

from evidence import jws
from evidence.errors import CertificateInvalid, SignatureInvalid
from evidence.signer import Signer
from evidence.x509 import load_pem_chain, names_itself, verify_chain, verify_self_signed
from registry.authorship import pinned_keys, require_operator
from registry.documents import Member, Part, Text, Time, Word, decode, parse_time
from registry.envelope import Envelope, protected_header, read_envelope, verify_envelope
from registry.errors import DocumentMalformed, DocumentRefused, EnvelopeInvalid
from registry.publickeys import key_id, spki_public
from registry.state import State

REFUSAL_TYPE = "request-refusal"
RequestState = Literal["pending", "approved", "refused"]


class Refusal(Part, frozen=True, kw_only=True):
    """Why an operator refuses a request."""

    request: Word
    reason: Text
    issued: Time


class MemberRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request as the registry keeps it.

    Attributes:
        id: SHA-256 hex of the request's JWS.
        member: The identifier that is asked for.
        names: As asked for.
        keys: Key ids to be pinned.
        received_at: When it arrived.
        state: `pending`, `approved` or `refused`.
        reason: The operator's, when refused.
        decided_at: When it was decided.
    """

    id: str
    member: str
    names: dict[str, str]
    keys: tuple[str, ...]
    received_at: datetime
    state: RequestState = "pending"
    reason: str = ""
    decided_at: datetime | None = None


_refusal = msgspec.json.Decoder(Refusal)


def read_request(envelope: bytes, state: State, received_at: datetime) -> MemberRequest:
    """Check a request.

    Args:
        envelope: JWS of a member document with seq 0, signed by a key that it pins.
        state: The directory so far.
        received_at: Now.

    Raises:
        EnvelopeInvalid: The envelope or its signature does not verify.
        DocumentMalformed: Not an exact document.
        DocumentRefused: Not a request for a new member, or not signed by its own key.
    """
    parsed = read_envelope(envelope, genesis=state.genesis)
    document = decode(parsed.payload)
    if not isinstance(document, Member) or document.seq != 0 or document.instance != state.instance:
        raise DocumentRefused("not-a-request", "a request is the first member document of this instance")
    if state.member(document.subject) is not None:
        raise DocumentRefused("member-known", f"{document.subject} is already a member")
    signing, recovery = pinned_keys(document)
    authorities = () if state.anchor is None else state.anchor.certification_authorities
    signers = _self_signed(parsed, document.issued_at) or verify_envelope(parsed, authorities, document.issued_at)
    if not any(keyid in signing and named in {None, document.subject} for keyid, named in signers.items()):
        raise DocumentRefused("member-signature-missing", "a request is signed by a key that it pins for signing")
    return MemberRequest(
        id=parsed.digest,
        member=document.subject,
        names=document.names,
        keys=tuple(sorted(signing | recovery)),
        received_at=received_at,
    )


def _self_signed(envelope: Envelope, at: datetime) -> Mapping[str, str | None]:
    """The signer, where a request comes with nothing but a self-signed certificate; otherwise nothing."""
    if len(envelope.signatures) != 1 or not is_self_signed(envelope.signatures[0].chain):
        return {}
    [(signature, (der,))] = envelope.signatures
    try:
        certificate = verify_self_signed(der, at)
        jws.verify(signature, certificate.public_bytes)
    except CertificateInvalid as error:
        raise EnvelopeInvalid(str(error), code="certificate-invalid") from None
    except SignatureInvalid as error:
        raise EnvelopeInvalid(str(error), code="signature-invalid") from None
    member = None if certificate.member is None else str(certificate.member)
    return {key_id(spki_public(certificate.public_bytes)): member}


def is_self_signed(chain: Sequence[bytes]) -> bool:
    """Whether a chain is one certificate that names itself as its issuer; nothing is verified."""
    return len(chain) == 1 and names_itself(chain[0])


def check_certificate(request: MemberRequest, pem: bytes, state: State, at: datetime) -> None:
    """A certificate that is left for the applicant is from the anchor, for a requested key, in the member's name.

    Args:
        request: Whose.
        pem: Certificates, the leaf first.
        state: The directory so far.
        at: Now.

    Raises:
        EnvelopeInvalid: It is not; nothing was kept.
    """
    authorities = () if state.anchor is None else state.anchor.certification_authorities
    try:
        anchors = [der for one in authorities for der in load_pem_chain(one.encode())]
        certificate = verify_chain(load_pem_chain(pem), anchors, at, usage="member")
    except CertificateInvalid as error:
        raise EnvelopeInvalid(str(error), code="certificate-invalid") from None
    if key_id(spki_public(certificate.public_bytes)) not in request.keys or str(certificate.member) != request.member:
        raise EnvelopeInvalid(
            "the certificate is not for this member and one of the requested keys", code="certificate-invalid"
        )


def check_approval(request: MemberRequest, envelope: bytes, state: State) -> None:
    """An approval is a member document for the same identifier and exactly the requested keys.

    Raises:
        DocumentRefused: Another document; the operator may approve no key that was not asked for.
    """
    document = decode(read_envelope(envelope, genesis=state.genesis).payload)
    if not isinstance(document, Member) or document.subject != request.member:
        raise DocumentRefused("not-an-approval", f"an approval is a member document of {request.member}")
    signing, recovery = pinned_keys(document)
    if tuple(sorted(signing | recovery)) != request.keys:
        raise DocumentRefused("not-an-approval", "an approval pins exactly the requested keys")


def sign_refusal(refusal: Refusal, signer: Signer, chain: Sequence[bytes], genesis: str) -> bytes:
    """Sign a refusal as operator."""
    return jws.sign_flattened(msgspec.json.encode(refusal), protected_header(REFUSAL_TYPE, chain, genesis), signer)


def is_refusal(envelope: bytes, genesis: str) -> bool:
    """Whether an envelope says that it carries a refusal.

    Raises:
        EnvelopeInvalid: Not an envelope of this instance.
    """
    return read_envelope(envelope, genesis=genesis).type == REFUSAL_TYPE


def read_refusal(envelope: bytes, request: MemberRequest, state: State) -> Refusal:
    """Check a refusal of a request.

    Raises:
        EnvelopeInvalid: The envelope or its signature does not verify.
        DocumentMalformed: Not a refusal in its exact encoding.
        DocumentRefused: Of another request.
        AuthorshipRefused: Not signed by the operator.
    """
    parsed = read_envelope(envelope, genesis=state.genesis)
    try:
        refusal = _refusal.decode(parsed.payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise DocumentMalformed("not a refusal") from None
    if parsed.type != REFUSAL_TYPE or msgspec.json.encode(refusal) != parsed.payload:
        raise DocumentMalformed("not a refusal in its exact encoding")
    if refusal.request != request.id:
        raise DocumentRefused("not-a-refusal", "the refusal is of another request")
    authorities = () if state.anchor is None else state.anchor.certification_authorities
    require_operator(verify_envelope(parsed, authorities, parse_time(refusal.issued)), state)
    return refusal
