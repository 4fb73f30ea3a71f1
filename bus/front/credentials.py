"""Who is the client system? API key (slow hash kept) or TLS client certificate, each bound to subsystems.

A checked key is remembered as a MAC (keyed BLAKE2b, RFC 7693) under a key of this process, because a slow hash costs
tens of milliseconds.
Credentials never reach a log line, another agency or a back end.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from bus import errors

KEY_HEADER = "X-LienThong-Key"
_SCRYPT = {"n": 2**14, "r": 8, "p": 1, "dklen": 32}
_REMEMBERED = 4096
_SLOW_CHECKS = 8


@dataclass(frozen=True, slots=True)
class ClientSystem:
    """A client system of the settings.

    Attributes:
        name: as the settings and metrics know it.
        subsystems: identifiers that it may act as.
        key_hash: of `hash_key`, empty when it has no key.
        certificate_sha256: hex digest of its certificate's DER form, empty when it has none.
    """

    name: str
    subsystems: frozenset[str]
    key_hash: str = ""
    certificate_sha256: str = ""


def hash_key(key: str, salt: bytes) -> str:
    """Slow hash of an API key: `scrypt$<salt>$<hash>`, both base64 (RFC 7914; N=2^14, r=8, p=1)."""
    # aiohttp decodes headers with surrogateescape: bytes that are not UTF-8 are hashed as they came
    digest = hashlib.scrypt(key.encode("utf-8", "surrogateescape"), salt=salt, **_SCRYPT)
    return f"scrypt${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def check_key(key: str, key_hash: str) -> bool:
    """Whether `key` is the one that `key_hash` was made of, in constant time."""
    _, salt, _ = key_hash.split("$")
    return hmac.compare_digest(hash_key(key, base64.b64decode(salt)), key_hash)


class Credentials:
    """Finds the client system of a request.

    Args:
        random: for the process's own key.
    """

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._own_key = random(32)
        self._by_name: Mapping[str, ClientSystem] = {}
        self._by_certificate: Mapping[str, ClientSystem] = {}
        self._remembered: OrderedDict[bytes, str] = OrderedDict()
        self._slow = asyncio.Semaphore(_SLOW_CHECKS)
        self._slow_waiting = 0

    def replace(self, systems: list[ClientSystem]) -> None:
        """Takes over new settings; forgets every remembered key."""
        self._by_name = {system.name: system for system in systems}
        self._by_certificate = {system.certificate_sha256: system for system in systems if system.certificate_sha256}
        self._remembered.clear()

    async def authenticate(self, request: web.BaseRequest) -> ClientSystem:
        """The client system that sent the request.

        Raises:
            CredentialsMissing: none came.
            CredentialsInvalid: not known, or wrong.
            TooManyInFlight: too many unknown keys are being checked.
        """
        presented = request.headers.get(KEY_HEADER)
        if presented is not None:
            return await self._by_key(presented)
        certificate = _certificate(request)
        if certificate is None:
            raise errors.CredentialsMissing(f"send your key in {KEY_HEADER}, or use a TLS client certificate")
        found = self._by_certificate.get(hashlib.sha256(certificate).hexdigest())
        if found is None:
            raise errors.CredentialsInvalid("the TLS client certificate is not bound to a client system")
        return found

    async def _by_key(self, presented: str) -> ClientSystem:
        remembered = hashlib.blake2b(
            presented.encode("utf-8", "surrogateescape"), key=self._own_key, digest_size=32
        ).digest()
        name = self._remembered.get(remembered)
        if name is not None:
            return self._by_name[name]
        system = self._by_name.get(presented.partition(".")[0])
        if system is None or not system.key_hash or len(presented) > 200 or not presented.isascii():
            raise errors.CredentialsInvalid("the key is not known")
        if self._slow_waiting >= 4 * _SLOW_CHECKS:
            raise errors.TooManyInFlight("too many keys are being checked; try again")
        self._slow_waiting += 1
        try:
            async with self._slow:
                good = await asyncio.to_thread(check_key, presented, system.key_hash)
        finally:
            self._slow_waiting -= 1
        if not good:
            raise errors.CredentialsInvalid("the key is not known")
        if self._by_name.get(system.name) is system:  # not if new settings came meanwhile
            self._remembered[remembered] = system.name
            if len(self._remembered) > _REMEMBERED:
                self._remembered.popitem(last=False)
        return system


def _certificate(request: web.BaseRequest) -> bytes | None:
    transport = request.transport
    ssl_object = None if transport is None else transport.get_extra_info("ssl_object")
    if ssl_object is None:
        return None
    certificate: bytes | None = ssl_object.getpeercert(binary_form=True)
    return certificate
