"""Who is the client system? API key (slow hash kept) or TLS client certificate, each bound to subsystems.

A client system may have several keys and certificates, so that one can be replaced without a gap. Credentials never
reach a log line, another agency or a back end.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from bus import errors
from bus.front.keyring import KeyRing, check_key, hash_key

__all__ = ["KEY_HEADER", "ClientSystem", "Credentials", "check_key", "hash_key"]

KEY_HEADER = "X-LienThong-Key"


@dataclass(frozen=True, slots=True)
class ClientSystem:
    """A client system of the settings.

    Attributes:
        name: as the settings and metrics know it.
        subsystems: identifiers that it may act as.
        key_hashes: of `hash_key`, one for each of its keys.
        certificates_sha256: hex digests of its certificates' DER forms.
        max_in_flight: calls that it may have under way at once; None: no limit of its own.
        per_second: calls that it may make a second; None: no limit.
    """

    name: str
    subsystems: frozenset[str]
    key_hashes: tuple[str, ...] = ()
    certificates_sha256: tuple[str, ...] = ()
    max_in_flight: int | None = None
    per_second: float | None = None


class Credentials:
    """Finds the client system of a request.

    Args:
        random: for the process's own key.
        monotonic: seconds, for the lock-out.
    """

    def __init__(self, random: Callable[[int], bytes], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._keys = KeyRing(random, monotonic)
        self._by_name: Mapping[str, ClientSystem] = {}
        self._by_certificate: Mapping[str, ClientSystem] = {}

    def replace(self, systems: list[ClientSystem]) -> None:
        """Takes over new settings."""
        self._by_name = {system.name: system for system in systems}
        self._by_certificate = {digest: system for system in systems for digest in system.certificates_sha256}
        self._keys.replace({system.name: system.key_hashes for system in systems if system.key_hashes})

    def systems(self) -> list[ClientSystem]:
        """The client systems of the settings."""
        return list(self._by_name.values())

    async def authenticate(self, request: web.BaseRequest) -> ClientSystem:
        """The client system that sent the request.

        Raises:
            CredentialsMissing: none came.
            CredentialsInvalid: not known, or wrong.
            GuessingLocked: too many wrong keys came from that address.
            TooManyInFlight: too many unknown keys are being checked.
        """
        presented = request.headers.get(KEY_HEADER)
        if presented is not None:
            name = await self._keys.name_of(presented, request.remote or "")
            system = self._by_name.get(name)
            if system is None:  # the settings changed while the key was checked
                raise errors.CredentialsInvalid("the key is not known")
            return system
        certificate = _certificate(request)
        if certificate is None:
            raise errors.CredentialsMissing(f"send your key in {KEY_HEADER}, or use a TLS client certificate")
        found = self._by_certificate.get(hashlib.sha256(certificate).hexdigest())
        if found is None:
            raise errors.CredentialsInvalid("the TLS client certificate is not bound to a client system")
        return found


def _certificate(request: web.BaseRequest) -> bytes | None:
    transport = request.transport
    ssl_object = None if transport is None else transport.get_extra_info("ssl_object")
    if ssl_object is None:
        return None
    certificate: bytes | None = ssl_object.getpeercert(binary_form=True)
    return certificate
