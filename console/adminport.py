"""Asking the admin API of a running gateway, as a command does."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any

from bus.errors import BusError
from console.homes import HomeInvalid, MemberHome

_DEADLINE_S = 10.0


class AdminRefused(BusError):
    """The gateway refused the act, or nobody answers at its admin port."""

    code = "admin-refused"
    title = "The gateway did not do it"
    disposition = "halt"


def ask(home: MemberHome, key_file: Path, method: str, path: str, body: dict[str, Any] | None = None) -> bytes:
    """One act; the answer's body.

    Args:
        home: of the member whose gateway runs.
        key_file: holds the admin key, one line.
        method: of HTTP.
        path: below `/api/v1`.
        body: sent as JSON.

    Raises:
        HomeInvalid: the gateway does not run, or never did.
        AdminRefused: with the gateway's code and reason.
    """
    host, _, port = _address(home).rpartition("/")[2].rpartition(":")
    # no proxy of the environment and no redirect: the key goes to this gateway only
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=_DEADLINE_S)
    headers = {"Authorization": f"X-Road-ApiKey token={_key(key_file)}"}
    try:
        connection.request(method, f"/api/v1{path}", None if body is None else json.dumps(body).encode(), headers)
        got = connection.getresponse()
        answer = got.read()
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise AdminRefused(
            f"the admin port does not answer ({type(error).__name__}); is the gateway running?"
        ) from error
    finally:
        connection.close()
    if got.status != 200:
        raise AdminRefused(_reason(answer))
    return answer


def _address(home: MemberHome) -> str:
    try:
        address = json.loads((home.data / "listening.json").read_bytes())["admin"]
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise HomeInvalid(f"the gateway of {home.path} does not run") from error
    return str(address)


def _key(path: Path) -> str:
    text = path.read_text(encoding="ascii", errors="replace").strip()
    if not text.isprintable() or not text.isascii() or " " in text:
        raise HomeInvalid(f"{path} does not hold an admin key: one line, as `lienthong admin key add` printed it")
    return text


def _reason(body: bytes) -> str:
    try:
        problem = json.loads(body)
        return f"{problem['code']}: {problem['detail']}"
    except (ValueError, KeyError, TypeError):
        return "the answer cannot be read"
