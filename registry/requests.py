"""Requests to become a member: what is asked, and the operator's refusal.

A request is the member document that is wished for, signed by its own key: that proves the key is held, and the
operator can approve by adding its signature or by signing a corrected document with the same keys. A refusal is a
statement signed by the operator. Pure; stores nothing (`registrystore`) and appends nothing (`authority`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec

from evidence import jws
from evidence.signer import Signer
from registry.authorship import pinned_keys, require_operator
from registry.documents import Member, Part, Text, Time, Word, decode, parse_time
from registry.envelope import protected_header, read_envelope, verify_envelope
from registry.errors import DocumentMalformed, DocumentRefused
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
    signers = verify_envelope(parsed, authorities, document.issued_at)
    if not any(keyid in signing and named in {None, document.subject} for keyid, named in signers.items()):
        raise DocumentRefused("member-signature-missing", "a request is signed by a key that it pins for signing")
    return MemberRequest(
        id=parsed.digest,
        member=document.subject,
        names=document.names,
        keys=tuple(sorted(signing | recovery)),
        received_at=received_at,
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
