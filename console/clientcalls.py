"""One call through a gateway's front, as a client system makes it. Keeps nothing and verifies no record."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import click
from yarl import URL

from bus.errors import CredentialsInvalid, ProviderUnavailable, RequestMalformed

_DEADLINE_S = 90.0
"""More than a call may take (`[limits] deadline_s`) or be waited for (`Prefer: wait`, at most 60 s)."""


@dataclass(frozen=True, slots=True)
class ClientCall:
    """What is sent.

    Attributes:
        url: the gateway's front, http(s)://host:port.
        target: path and query, percent-encoded.
        method: of HTTP.
        body: empty sends none.
        headers: those without a value are left out.
    """

    url: str
    target: str
    method: str = "GET"
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClientAnswer:
    """What came back."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def show(self, include: bool) -> None:
        """Prints the body; with `include`, status and headers before it."""
        if include:
            click.echo("\n".join([f"HTTP {self.status}", *(f"{name}: {value}" for name, value in self.headers), ""]))
        click.echo(self.body.decode("utf-8", "replace"))


def read_key(path: Path) -> str:
    """The API key in a file.

    Raises:
        CredentialsInvalid: it is no text.
    """
    try:
        return path.read_text(encoding="ascii").strip()
    except UnicodeDecodeError as error:
        raise CredentialsInvalid(f"{path} does not hold a key") from error


def send(call: ClientCall, ca: Path | None) -> ClientAnswer:
    """Makes the call and waits for its answer, at most 90 s.

    Args:
        call: what to send.
        ca: PEM file of the front's authority; None: those of this machine.

    Raises:
        ProviderUnavailable: the gateway does not answer.
        RequestMalformed: something in it cannot be sent over HTTP.
    """
    try:
        return asyncio.run(_send(call, ssl.create_default_context(cafile=None if ca is None else str(ca))))
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ProviderUnavailable(f"the gateway at {call.url} does not answer ({type(error).__name__})") from error
    except ValueError as error:
        raise RequestMalformed(
            "the method, the path or a header cannot be sent; look for spaces and line breaks"
        ) from error


async def _send(call: ClientCall, tls: ssl.SSLContext) -> ClientAnswer:
    headers = {name: value for name, value in call.headers.items() if value}
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_DEADLINE_S)) as session,
        session.request(
            call.method,
            URL(f"{call.url.rstrip('/')}{call.target}", encoded=True),
            data=call.body or None,
            headers=headers,
            ssl=tls,
        ) as answer,
    ):
        return ClientAnswer(answer.status, tuple(answer.headers.items()), await answer.read())
