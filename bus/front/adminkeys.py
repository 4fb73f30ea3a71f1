"""Admin keys: sent as X-Road's API keys are (`Authorization: X-Road-ApiKey token=NAME.SECRET`) or as a bearer token."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from bus import errors
from bus.front.keyring import KeyRing

_SCHEMES = ("x-road-apikey token=", "bearer ")


@dataclass(frozen=True, slots=True)
class AdminSystem:
    """An admin key: its name, the roles that it carries, its slow hash."""

    name: str
    roles: tuple[str, ...]
    key_hash: str


class AdminKeys:
    """Finds the admin key of a request.

    Args:
        random: for the process's own key.
        monotonic: seconds, for the lock-out.
    """

    def __init__(self, random: Callable[[int], bytes], monotonic: Callable[[], float]) -> None:
        self._keys = KeyRing(random, monotonic)
        self._by_name: Mapping[str, AdminSystem] = {}

    def replace(self, systems: list[AdminSystem]) -> None:
        """Takes over new settings."""
        self._by_name = {system.name: system for system in systems}
        self._keys.replace({system.name: (system.key_hash,) for system in systems})

    def systems(self) -> list[AdminSystem]:
        """The admin keys of the settings."""
        return list(self._by_name.values())

    async def authenticate(self, request: web.BaseRequest) -> AdminSystem:
        """The key that came with a request.

        Raises:
            CredentialsMissing: none came.
            CredentialsInvalid: nobody's.
            GuessingLocked, TooManyInFlight: by name.
        """
        stated = request.headers.get("Authorization", "")
        scheme = next((one for one in _SCHEMES if stated[: len(one)].lower() == one), "")
        if not scheme:
            raise errors.CredentialsMissing("send the admin key as `Authorization: X-Road-ApiKey token=KEY`")
        name = await self._keys.name_of(stated[len(scheme) :].strip(), request.remote or "")
        found = self._by_name.get(name)
        if found is None:  # the settings changed while the key was checked
            raise errors.CredentialsInvalid("the key is not known")
        return found
