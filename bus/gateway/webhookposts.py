"""Sends webhooks over HTTP: TLS always checked, no redirects, no proxies of the environment, bounded in time.

The answer's body is not read. Keeps no queue; see `bus.delivery.webhooks`.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path

import aiohttp

from adapters.errors import AdapterError
from adapters.kinds.settings import read_secret
from bus import errors
from bus.delivery.webhooks import Target, secret_of
from bus.settings import GatewaySettings

_DEADLINE_S = 15.0
_CONNECTIONS = 32


def read_targets(settings: GatewaySettings) -> dict[str, Target]:
    """Webhooks of the settings by name of client system.

    Raises:
        SettingsInvalid: a secret or an authority cannot be used.
    """
    found = {}
    for client in settings.client:
        if not client.webhook_url or client.webhook_secret is None:
            continue
        try:
            secret = secret_of(read_secret(str(client.webhook_secret), "webhook_secret"))
        except AdapterError as error:
            raise errors.SettingsInvalid([(0, f"client {client.name}", str(error))]) from error
        except ValueError as error:
            message = "webhook_secret: the file must hold whsec_ and base64 of 24 to 64 random bytes"
            raise errors.SettingsInvalid([(0, f"client {client.name}", message)]) from error
        try:
            _context(str(client.webhook_ca or ""))
        except (OSError, ssl.SSLError) as error:
            message = f"webhook_ca: the file cannot be used ({type(error).__name__})"
            raise errors.SettingsInvalid([(0, f"client {client.name}", message)]) from error
        found[client.name] = Target(client.webhook_url, secret, str(client.webhook_ca or ""))
    return found


def _context(ca: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class WebhookPoster:
    """Implements `bus.delivery.webhooks.Poster`; opens its session with the first use."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[tuple[str, int], ssl.SSLContext] = {}

    async def post(self, target: Target, headers: Mapping[str, str], body: bytes) -> int:
        """See `bus.delivery.webhooks.Poster`."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS, ttl_dns_cache=10),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=_DEADLINE_S),
                auto_decompress=False,
                trust_env=False,
            )
        try:
            async with self._session.post(
                target.url, data=body, headers=dict(headers), allow_redirects=False, ssl=self._tls(target)
            ) as answer:
                return answer.status
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise ConnectionError(f"the receiver did not answer ({type(error).__name__})") from error

    def _tls(self, target: Target) -> ssl.SSLContext | bool:
        if not target.url.startswith("https:"):
            return True
        stamp = Path(target.ca).stat().st_mtime_ns if target.ca else 0
        found = self._contexts.get((target.ca, stamp))
        if found is None:
            if len(self._contexts) > 64:
                self._contexts.clear()
            found = self._contexts[target.ca, stamp] = _context(target.ca)
        return found

    async def close(self) -> None:
        """Closes its connections."""
        if self._session is not None:
            await self._session.close()
