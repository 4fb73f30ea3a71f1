"""What became of a client system's commands, asked of its gateway's front and told as text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from bus.errors import BusError
from console.clientcalls import ClientAnswer, ClientCall, read_key, send

_PAGE = 200
_RECORD_OF = {"accepted": "command", "delivered": "receipt", "completed": "result", "failed": "result"}
_NOTHING_MORE = frozenset({"cancelled", "expired"})


class FrontRefused(BusError):
    """The gateway refused what a client system asked."""

    code = "front-refused"
    title = "The gateway refused it"
    disposition = "halt"


@dataclass(frozen=True, slots=True)
class Asking:
    """A client system at its gateway.

    Attributes:
        url: the gateway's front, http(s)://host:port.
        ca: PEM file of the front's authority; None: those of this machine.
        client: subsystem that asks.
        key_file: holds its API key.
    """

    url: str
    ca: Path | None
    client: str
    key_file: Path

    def ask(self, target: str, method: str = "GET", prefer: str = "") -> ClientAnswer:
        """One question; whatever the answer is.

        Raises:
            CredentialsInvalid, ProviderUnavailable, RequestMalformed: by name.
        """
        headers = {"X-Road-Client": self.client, "X-LienThong-Key": read_key(self.key_file), "Prefer": prefer}
        return send(ClientCall(self.url, target, method, headers=headers), self.ca)

    def told(self, target: str, method: str = "GET", prefer: str = "") -> dict[str, Any]:
        """One question; the object in the answer.

        Raises:
            FrontRefused: with the gateway's own code and words.
        """
        answer = self.ask(target, method, prefer)
        try:
            found = json.loads(answer.body)
            if answer.status >= 400:
                raise FrontRefused(f"{found['code']}: {found['detail']}")
        except (ValueError, KeyError, TypeError) as error:
            raise FrontRefused(f"HTTP {answer.status}, and the answer cannot be read") from error
        return dict(found)


def list_exchanges(asking: Asking, state: str, since: str, limit: int) -> tuple[list[dict[str, Any]], bool]:
    """Up to `limit` commands, the newest first, and whether there are more.

    Raises:
        FrontRefused: by name.
    """
    wanted = {name: value for name, value in (("state", state), ("since", since)) if value}
    target: str | None = "/exchanges?" + urlencode({**wanted, "limit": min(limit, _PAGE)})
    found: list[dict[str, Any]] = []
    while target is not None and len(found) < limit:
        page = asking.told(target)
        found += page["exchanges"]
        target = page.get("next")
    return found[:limit], target is not None or len(found) > limit


def render_list(found: Sequence[Mapping[str, Any]], more: bool) -> str:
    """One line each."""
    if not found:
        return "there are none"
    lines = [f"{'EXCHANGE':<38}{'STATE':<12}{'ACCEPTED':<21}WHAT"]
    lines += [
        f"{one['id']:<38}{one['state']:<12}{_at(one['times']['accepted'])[:19]:<21}"
        f"{'/'.join(one['service'].split('/')[2:])} {one['operation']}" + (f"  {one['code']}" if "code" in one else "")
        for one in found
    ]
    return "\n".join([*lines, *["there are more: --limit"] * more])


def render(one: Mapping[str, Any]) -> str:
    """A command's way so far, each step with the place of its record in the gateway's log."""
    why = ": ".join(str(part) for part in (one.get("code"), (one.get("notice") or {}).get("detail")) if part)
    lines = [
        f"exchange    {one['id']}",
        f"service     {one['service']} {one['operation']}",
        f"state       {one['state']}" + (f" ({why})" if why else ""),
    ]
    if waits_for := one.get("waits_for"):
        lines.append(f"behind      {waits_for}")
    records = one["records"]
    for state, at in sorted(one["times"].items(), key=lambda pair: str(pair[1])):
        index = records.get(_RECORD_OF.get(state, "outcome" if state in _NOTHING_MORE else state))
        lines.append(f"{state:<12}{_at(at)}" + (f"  record {index}" if index is not None else ""))
    if cancel := one.get("cancel"):
        refused = f", refused: {cancel['answer']}" if "answer" in cancel else ""
        lines.append(f"cancel      asked {_at(cancel['asked'])}{refused}")
    if "result" in one:
        lines.append(f"next        lienthong exchange result {one['id']}")
    elif one["state"] not in _NOTHING_MORE:
        lines.append(f"expires     {_at(one['expires'])}")
    return "\n".join(lines)


def _at(text: str) -> str:
    return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"
