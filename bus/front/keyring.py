"""Keys of the form `NAME.SECRET`: which name sent one? Of each key only a slow hash is kept.

A checked key is remembered as a MAC (keyed BLAKE2b, RFC 7693) under a key of this process, because a slow hash costs
tens of milliseconds. Keys never reach a log line. Does not say what a name may do.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable, Mapping

from bus import errors
from bus.front.guessing import Guessing

_SCRYPT = {"n": 2**14, "r": 8, "p": 1, "dklen": 32}
_REMEMBERED = 4096
_WRONG_REMEMBERED = 4096
_SLOW_CHECKS = 8
_NOBODY = ""


def hash_key(key: str, salt: bytes) -> str:
    """Slow hash of an API key: `scrypt$<salt>$<hash>`, both base64 (RFC 7914; N=2^14, r=8, p=1)."""
    # aiohttp decodes headers with surrogateescape: bytes that are not UTF-8 are hashed as they came
    digest = hashlib.scrypt(key.encode("utf-8", "surrogateescape"), salt=salt, **_SCRYPT)
    return f"scrypt${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def check_key(key: str, key_hash: str) -> bool:
    """Whether `key` is the one that `key_hash` was made of, in constant time."""
    _, salt, _ = key_hash.split("$")
    return hmac.compare_digest(hash_key(key, base64.b64decode(salt)), key_hash)


class KeyRing:
    """Names with their key hashes, several each, so that a key can be replaced without a gap.

    Args:
        random: for the process's own key.
        monotonic: seconds, for the lock-out.
    """

    def __init__(self, random: Callable[[int], bytes], monotonic: Callable[[], float]) -> None:
        self._own_key = random(32)
        self._monotonic = monotonic
        self._hashes: Mapping[str, tuple[str, ...]] = {}
        self._remembered: OrderedDict[bytes, tuple[str, str]] = OrderedDict()
        self._wrong: OrderedDict[bytes, None] = OrderedDict()
        self._guessing = Guessing()
        self._slow = asyncio.Semaphore(_SLOW_CHECKS)
        self._slow_waiting = 0

    def replace(self, hashes: Mapping[str, tuple[str, ...]]) -> None:
        """Takes over new keys; what was remembered of others is forgotten."""
        self._hashes = hashes
        self._wrong.clear()  # what was wrong may be right by the new settings
        gone = [mac for mac, (name, key_hash) in self._remembered.items() if key_hash not in hashes.get(name, ())]
        for mac in gone:
            del self._remembered[mac]

    async def name_of(self, presented: str, source: str) -> str:
        """Whose key it is.

        Args:
            presented: the key as it was sent.
            source: address that sent it.

        Raises:
            CredentialsInvalid: nobody's.
            GuessingLocked: too many wrong ones came from there for that name.
            TooManyInFlight: too many unknown keys are being checked.
        """
        mac = hashlib.blake2b(presented.encode("utf-8", "surrogateescape"), key=self._own_key, digest_size=32).digest()
        known = self._remembered.get(mac)
        if known is not None:
            return known[0]
        name = presented.partition(".")[0]
        hashes = self._hashes.get(name, ())
        counted = name if hashes else _NOBODY  # memory is bounded by the names that there are
        self._refuse_locked(source, counted, mac)
        found = await self._checked(presented, hashes) if hashes else ""
        if not found:
            if hashes and self._hashes.get(name) == hashes:  # not if new settings came meanwhile
                self._remember_wrong(mac)
            self._guessing.failed(source, counted, self._monotonic())
            raise errors.CredentialsInvalid("the key is not known")
        if found not in self._hashes.get(name, ()):
            raise errors.CredentialsInvalid("the key is not known")  # it was withdrawn while it was checked
        self._guessing.succeeded(source, counted)
        self._remembered[mac] = (name, found)
        if len(self._remembered) > _REMEMBERED:
            self._remembered.popitem(last=False)
        return name

    def _remember_wrong(self, mac: bytes) -> None:
        self._wrong[mac] = None
        if len(self._wrong) > _WRONG_REMEMBERED:
            self._wrong.popitem(last=False)

    def _refuse_locked(self, source: str, name: str, mac: bytes) -> None:
        now_s = self._monotonic()
        wait_s = self._guessing.locked_s(source, name, now_s)
        if wait_s <= 0:
            return
        # A system that repeats its outdated key would take every turn from the one with the right key.
        if name != _NOBODY and mac not in self._wrong:
            wait_s = min(wait_s, self._guessing.turn_in_s(source, name, now_s))
            if wait_s <= 0:
                self._guessing.take_turn(source, name, now_s)
                return
        error = errors.GuessingLocked("too many wrong keys came from your address; check the key, then try again")
        error.retry_after_s = int(wait_s) + 1
        raise error

    async def _checked(self, presented: str, hashes: tuple[str, ...]) -> str:
        """The hash that the key belongs to, empty when it is none of them."""
        if len(presented) > 200 or not presented.isascii():
            return ""
        if self._slow_waiting >= 4 * _SLOW_CHECKS:
            raise errors.TooManyInFlight("too many keys are being checked; try again")
        self._slow_waiting += 1
        try:
            async with self._slow:
                return await asyncio.to_thread(_first_good, presented, hashes)
        finally:
            self._slow_waiting -= 1


def _first_good(presented: str, hashes: tuple[str, ...]) -> str:
    return next((key_hash for key_hash in hashes if check_key(presented, key_hash)), "")
