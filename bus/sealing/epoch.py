"""Epoch keys: one HPKE operation serves many messages.

A sender makes an epoch key per (own node, receiver's key, use), keeps it in memory for minutes and wraps it for the
receiver; the wrapped key rides on every message, so that any node of the receiver can open it, and what was opened once
is remembered by (verified sender, own key, wrapped bytes). HPKE base mode, RFC 9180: the origin comes from the signed
header. AES-GCM with a fixed IV is safe here because every message has a key of its own (fresh 32-byte nonce in the
HMAC). AES-GCM does not commit to its key: the salted digests are checked before the contents are used.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from evidence.errors import EvidenceError

from .keys import SealingKeyPair, SealingPublicKey

LABEL = b"lienthong/v1/seal"
NONCE_BYTES = 32
MAX_MESSAGES = 2**32
_EPOCH_BYTES = 8
_IV = bytes(12)
_KEY_BYTES = 32


class SealBroken(EvidenceError):
    """The sealed bytes cannot be opened: altered, for somebody else, or under a key that is gone."""

    code = "seal-broken"
    disposition = "reject"


def _lp(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def sealdigest(wrapped: bytes, nonce: bytes, ciphertext: bytes) -> str:
    """SHA-256 over wrapped key, nonce and ciphertext, each after its 32-bit big-endian length; lower-case hex."""
    digest = hashlib.sha256(
        len(wrapped).to_bytes(4, "big")
        + wrapped
        + len(nonce).to_bytes(4, "big")
        + nonce
        + len(ciphertext).to_bytes(4, "big")
    )
    digest.update(ciphertext)
    return digest.hexdigest()


@lru_cache(maxsize=4096)
def _aad_ends(genesis: str, node: str, to: str, keyid: str) -> tuple[bytes, bytes]:
    return _lp(LABEL, genesis.encode(), node.encode(), to.encode()), _lp(keyid.encode())


def message_aad(genesis: str, node: str, to: str, record_id: str, keyid: str) -> bytes:
    """Additional data that binds a ciphertext to its header; each part after its 32-bit length."""
    head, tail = _aad_ends(genesis, node, to, keyid)
    encoded = record_id.encode()
    return head + len(encoded).to_bytes(4, "big") + encoded + tail


def _info(genesis: str, origin: str, receiver: str, keyid: str, use: str, epoch: bytes) -> bytes:
    return _lp(LABEL, genesis.encode(), origin.encode(), receiver.encode(), keyid.encode(), use.encode(), epoch)


_INNER_PAD, _OUTER_PAD = bytes(x ^ 0x36 for x in range(256)), bytes(x ^ 0x5C for x in range(256))


class MessageKeys:
    """Message keys of one epoch key: HMAC-SHA-512 (RFC 2104) with both pads hashed once.

    The standard library's one-shot HMAC costs three times as much per message; a test holds the two equal.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, epoch_key: bytes) -> None:
        padded = epoch_key.ljust(128, b"\0")
        self._inner = hashlib.sha512(padded.translate(_INNER_PAD) + LABEL)
        self._outer = hashlib.sha512(padded.translate(_OUTER_PAD))

    def derive(self, nonce: bytes, aad: bytes) -> bytes:
        """The 32-byte key of one message."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(nonce + aad)
        outer.update(inner.digest())
        return outer.digest()[:_KEY_BYTES]


@dataclass(slots=True)
class _Epoch:
    keys: MessageKeys
    wrapped: bytes
    until_s: float
    messages: int = 0


class Sealer:
    """The sending half. Not for use by several threads.

    Args:
        genesis: the instance's identity, 64 hex digits.
        origin: log origin of this node.
        random: source of random bytes.
        monotonic: seconds.
        lifetime_s: how long one epoch key serves.
    """

    def __init__(
        self,
        genesis: str,
        origin: str,
        random: Callable[[int], bytes],
        monotonic: Callable[[], float],
        lifetime_s: float = 300.0,
    ) -> None:
        self._genesis = genesis
        self._origin = origin
        self._random = random
        self._monotonic = monotonic
        self._lifetime_s = lifetime_s
        self._epochs: OrderedDict[tuple[str, str, str], _Epoch] = OrderedDict()

    def seal(
        self, plain: bytes, *, receiver: str, key: SealingPublicKey, use: str, aad: bytes
    ) -> tuple[bytes, bytes, bytes]:
        """Wrapped key, nonce, ciphertext for `plain`.

        Args:
            plain: padded contents.
            receiver: identifier of the member (or node) that the key belongs to.
            key: the receiver's sealing key from the directory.
            use: query, answer, command or topic.
            aad: of `message_aad`.
        """
        epoch = self._epoch(receiver, key, use)
        epoch.messages += 1
        nonce = self._random(NONCE_BYTES)
        return epoch.wrapped, nonce, AESGCM(epoch.keys.derive(nonce, aad)).encrypt(_IV, plain, aad)

    def _epoch(self, receiver: str, key: SealingPublicKey, use: str) -> _Epoch:
        name = (receiver, key.keyid, use)
        now_s = self._monotonic()
        found = self._epochs.get(name)
        if found is not None and now_s < found.until_s and found.messages < MAX_MESSAGES:
            return found
        secret = self._random(_KEY_BYTES)
        number = self._random(_EPOCH_BYTES)
        wrapped = number + key.wrap(secret, _info(self._genesis, self._origin, receiver, key.keyid, use, number))
        made = _Epoch(MessageKeys(secret), wrapped, now_s + self._lifetime_s)
        self._epochs[name] = made
        self._epochs.move_to_end(name)
        if len(self._epochs) > 4096:
            self._epochs.popitem(last=False)
        return made


class Opener:
    """The receiving half: remembers opened epoch keys, bounded per sender.

    Args:
        genesis: the instance's identity.
        per_sender: how many opened epoch keys of one sending node are remembered.
    """

    def __init__(self, genesis: str, per_sender: int = 64) -> None:
        self._genesis = genesis
        self._per_sender = per_sender
        self._opened: dict[str, OrderedDict[tuple[str, str, bytes], MessageKeys]] = {}

    def open(
        self,
        *,
        origin: str,
        receiver: str,
        pair: SealingKeyPair,
        use: str,
        wrapped: bytes,
        nonce: bytes,
        ciphertext: bytes,
        aad: bytes,
    ) -> bytes:
        """Plaintext of a sealed part, from a *verified* sender `origin`.

        Raises:
            SealBroken: it cannot be opened with this key.
        """
        keys = self._epoch_keys(origin, receiver, pair, use, wrapped)
        try:
            return AESGCM(keys.derive(nonce, aad)).decrypt(_IV, ciphertext, aad)
        except InvalidTag as error:
            raise SealBroken("the sealed part cannot be opened") from error

    def _epoch_keys(self, origin: str, receiver: str, pair: SealingKeyPair, use: str, wrapped: bytes) -> MessageKeys:
        of_sender = self._opened.setdefault(origin, OrderedDict())
        name = (pair.keyid, use, wrapped)
        known = of_sender.get(name)
        if known is not None:
            return known
        epoch = wrapped[:_EPOCH_BYTES]
        info = _info(self._genesis, origin, receiver, pair.keyid, use, epoch)
        try:
            secret = pair.unwrap(wrapped[_EPOCH_BYTES:], info)
        except (InvalidTag, ValueError) as error:
            raise SealBroken("the wrapped key cannot be opened") from error
        if len(secret) != _KEY_BYTES:
            raise SealBroken("the wrapped key has a wrong length")
        keys = of_sender[name] = MessageKeys(secret)
        if len(of_sender) > self._per_sender:
            of_sender.popitem(last=False)
        return keys
