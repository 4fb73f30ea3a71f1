"""Composing a record: seal first, then a header over the sealed bytes. Used by both sides.

Pure but for the clock port. It does not log and does not send.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import msgspec

from bus.ports import Clock
from bus.sealing.contents import SALT_BYTES, Particulars, encode_particulars, pack, salted_hex
from bus.sealing.epoch import Sealer, message_aad, sealdigest
from bus.sealing.keys import SealingPublicKey
from evidence import header, leaf
from evidence.header import AnswerClass, Header, OutcomeClass, Type, uuid7
from registry.view import SealingKeyEntry


class Draft(msgspec.Struct, frozen=True, gc=False):
    """A record that is composed but not logged: its header, its leaf, the sealed part, and what is kept beside the log.

    Attributes:
        header: as encoded in `header_bytes`.
        header_bytes: what travels.
        leaf: what is logged.
        kept: salts and encoded particulars, for the particulars store.
    """

    header: Header
    header_bytes: bytes
    leaf: bytes
    wrapped: bytes
    nonce: bytes
    ciphertext: bytes
    kept: tuple[bytes, bytes]


class Composer:
    """Composes records of one node.

    Args:
        genesis: of the instance.
        node: own node identifier.
        clock: time and randomness.
        sealer: of this node.
        view: current directory view string, `"<size> <root hex>"`.
    """

    def __init__(self, genesis: str, node: str, clock: Clock, sealer: Sealer, view: Callable[[], str]) -> None:
        self._genesis = genesis
        self._node = node
        self._clock = clock
        self._sealer = sealer
        self._view = view
        self._keys: dict[str, SealingPublicKey] = {}

    def sealed(
        self,
        type_: Type,
        *,
        source: str,
        to: str,
        receiver: str,
        key: SealingKeyEntry,
        use: str,
        operation: str,
        particulars: Particulars,
        body: bytes,
        now: datetime,
        expires_at: datetime | None = None,
        inreplyto: str | None = None,
        class_: AnswerClass | None = None,
    ) -> Draft:
        """A record with sealed contents: query, answer or refusal.

        Args:
            type_: header type.
            source: speaking subsystem or service.
            to: addressee.
            receiver: member or node that owns `key`.
            key: sealing key of the receiver from the directory.
            use: query, answer, command or topic.
            operation: OpenAPI operationId.
            particulars: inside the seal.
            body: inside the seal.
            now: aware UTC.
            expires_at: when the receiver drops it.
            inreplyto: leaf hash (hex) of the request.
            class_: ok, refused or failed.
        """
        random = self._clock.random(2 * SALT_BYTES + 10)
        salts = random[: 2 * SALT_BYTES]
        record_id = uuid7(int(now.timestamp() * 1000), random[2 * SALT_BYTES :])
        encoded = encode_particulars(particulars)
        aad = message_aad(self._genesis, self._node, to, record_id, key.keyid)
        wrapped, nonce, ciphertext = self._sealer.seal(
            pack(salts, encoded, body), receiver=receiver, key=self._public(key), use=use, aad=aad
        )
        made = Header(
            specversion="1.0",
            id=record_id,
            time=header.encode_time(now),
            type=type_,
            source=source,
            node=self._node,
            to=to,
            operation=operation,
            expires=None if expires_at is None else header.encode_time(expires_at),
            inreplyto=inreplyto,
            class_=class_,
            keyid=key.keyid,
            sealdigest=sealdigest(wrapped, nonce, ciphertext),
            partdigest=salted_hex(salts[:SALT_BYTES], encoded),
            bodydigest=salted_hex(salts[SALT_BYTES:], body),
            dir=self._view(),
        )
        header_bytes = header.encode_made(made)
        return Draft(
            made,
            header_bytes,
            leaf.wrap(leaf.EXCHANGE, header_bytes),
            wrapped,
            nonce,
            ciphertext,
            (salts, encoded),
        )

    def outcome(self, request: Header, request_leaf_hash: str, class_: OutcomeClass, now: datetime) -> bytes:
        """Leaf of an `outcome`: the closing record of a request that got no proven answer."""
        record_id = uuid7(int(now.timestamp() * 1000), self._clock.random(10))
        made = Header(
            specversion="1.0",
            id=record_id,
            time=header.encode_time(now),
            type="outcome",
            source=request.source,
            node=self._node,
            to=request.to,
            operation=request.operation,
            inreplyto=request_leaf_hash,
            class_=class_,
            dir=self._view(),
        )
        return leaf.wrap(leaf.EXCHANGE, header.encode(made))

    def _public(self, key: SealingKeyEntry) -> SealingPublicKey:
        found = self._keys.get(key.keyid)
        if found is None:
            if len(self._keys) > 4096:
                self._keys.clear()
            found = self._keys[key.keyid] = SealingPublicKey.load(key.kem, key.public)
        return found
