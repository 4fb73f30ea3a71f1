"""Step 6 of both sides: the seal of a verified record is opened, its salted digests checked before anything is used."""

from __future__ import annotations

import msgspec

from bus import errors
from bus.exchange.verification import VerifiedRecord
from bus.sealing.contents import SALT_BYTES, ContentsMalformed, Particulars, decode_particulars, salted_hex, unpack
from bus.sealing.epoch import Opener, SealBroken, message_aad
from bus.sealing.keys import SealingKeyPair


class Opened(msgspec.Struct, frozen=True, gc=False):
    """What was inside a seal.

    Attributes:
        particulars: decoded.
        body: raw bytes.
        kept: salts and encoded particulars, for the particulars store.
    """

    particulars: Particulars
    body: bytes
    kept: tuple[bytes, bytes]


def unseal(
    opener: Opener, genesis: str, record: VerifiedRecord, receiver: str, pair: SealingKeyPair, use: str
) -> Opened:
    """Opens a record's seal with a key of the receiver.

    Raises:
        AnswerUnverifiable: broken seal or digests that differ; the caller decides what that means.
    """
    head, sealed = record.header, record.envelope
    aad = message_aad(genesis, head.node, head.to, head.id, pair.keyid)
    try:
        plain = opener.open(
            origin=record.node.origin,
            receiver=receiver,
            pair=pair,
            use=use,
            wrapped=sealed.wrapped,
            nonce=sealed.nonce,
            ciphertext=sealed.ciphertext,
            aad=aad,
        )
        salts, encoded, body = unpack(plain)
        if salted_hex(salts[:SALT_BYTES], encoded) != head.partdigest or salted_hex(salts[SALT_BYTES:], body) != (
            head.bodydigest
        ):
            raise SealBroken("the salted digests differ from the header")
        return Opened(decode_particulars(encoded), body, (salts, encoded))
    except (SealBroken, ContentsMalformed) as error:
        raise errors.AnswerUnverifiable(f"the sealed part cannot be used ({error})") from error
