"""Asking a gateway about its commands, page by page, and telling a busy person what came back."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from bus.settings import load_settings
from console.adminport import ask
from console.homes import HomeInvalid, MemberHome
from console.views import other_nodes

_PAGE = 50
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_AGE = re.compile(r"([0-9]{1,9})([smhd])")
_DONE = {
    "redriven": "brought back: tried again now",
    "due-now": "was waiting: tried again now",
    "discarded": "ended; the sender gets the reason",
    "busy": "left alone: an attempt is under way",
    "failed": "left alone: it has its end already",
    "not-now": "not done: log or broker of the gateway was away; do it again",
    "cancelled": "cancelled: it was never sent",
    "cancel-asked": "its provider is asked to refuse it; its state says how that ends",
    "already-delivered": "left alone: its provider has taken it",
    "expired": "left alone: its time is over",
    "closed": "left alone: it has its end already",
    "would-cancel": "would be cancelled",
    "would-redrive": "would be tried again",
    "would-discard": "would be ended",
}


def age_s(text: str) -> int | None:
    """Seconds of an age like `90s`, `30m`, `2h`, `3d`; None for none.

    Raises:
        HomeInvalid: it is not in this form.
    """
    if not text:
        return None
    match = _AGE.fullmatch(text)
    if match is None:
        raise HomeInvalid(f"{text!r} is no age; write 90s, 30m, 2h or 3d")
    return int(match[1]) * _UNITS[match[2]]


def list_commands(
    home: MemberHome, key_file: Path, direction: str, wanted: Mapping[str, Any], limit: int
) -> tuple[list[dict[str, Any]], bool]:
    """Up to `limit` commands, the oldest first, and whether there are more.

    Raises:
        HomeInvalid, AdminRefused: by name.
    """
    found: list[dict[str, Any]] = []
    named = {name: value for name, value in wanted.items() if value not in ("", None)}
    more, after = True, -1
    while more and len(found) < limit:
        page = {**named, "direction": direction, "limit": min(_PAGE, limit - len(found))}
        if after >= 0:
            page["after"] = after
        got = json.loads(ask(home, key_file, "GET", f"/commands?{urlencode(page)}"))
        found += got["commands"]
        more = bool(got["more"])
        after = found[-1]["index"] if found else after
    return found, more


def act_on(
    home: MemberHome,
    key_file: Path,
    act: str,
    ids: Sequence[str],
    every: bool,
    wanted: Mapping[str, Any],
    reason: str,
    dry_run: bool,
) -> dict[str, Any]:
    """Does it, page by page; the commands with their fates, and the ids that nobody knows.

    Raises:
        HomeInvalid: neither ids nor --all, or both.
        AdminRefused: by name.
    """
    if bool(ids) == every:
        raise HomeInvalid("name the commands by id, or say --all with --service, --code or --older-than")
    base: dict[str, Any] = {"reason": reason, "dry_run": dry_run}
    found: list[dict[str, Any]] = []
    unknown: list[str] = []
    if ids:
        for start in range(0, len(ids), _PAGE):
            got = _one(home, key_file, act, {**base, "ids": list(ids[start : start + _PAGE])})
            found += got["commands"]
            unknown += got["unknown"]
            if is_broken_off(found):
                break
        return {"commands": found, "unknown": unknown, "dry_run": dry_run}
    told = {name: wanted[name] for name in ("state", "service", "code") if wanted[name]}
    older_s = age_s(wanted["older_than"])
    body = {**base, "all": True, **told, **({} if older_s is None else {"older_than_s": older_s})}
    more, after = True, -1
    while more:
        got = _one(home, key_file, act, {**body, "after": after})
        found += got["commands"]
        more = bool(got["more"]) and not is_broken_off(found)
        after = found[-1]["index"] if found else after
    return {"commands": found, "unknown": [], "dry_run": dry_run}


def is_broken_off(found: Sequence[Mapping[str, Any]]) -> bool:
    """Whether an act on many ended before the last one."""
    return any(one["fate"] == "not-now" for one in found)


def is_done(found: Mapping[str, Any]) -> bool:
    """Whether an act came to its end, and on commands that are all here."""
    return not found["unknown"] and not is_broken_off(found["commands"])


def _one(home: MemberHome, key_file: Path, act: str, body: dict[str, Any]) -> dict[str, Any]:
    got: dict[str, Any] = json.loads(ask(home, key_file, "POST", f"/commands/{act}", body))
    return got


def render(found: Sequence[Mapping[str, Any]], more: bool, now: datetime, direction: str) -> str:
    """The list as text."""
    if not found:
        return "there are none"
    lines = [f"{'COMMAND':<38}{'STATE':<11}{'SINCE':<12}{'ATTEMPTS':<10}{'NEXT':<12}WHY"]
    for one in found:
        why = ": ".join(part for part in (one.get("code"), one.get("detail")) if part) or _behind(one)
        tried = str(one["attempts"]) if "attempts" in one else "-"
        lines.append(
            f"{one['id']:<38}{one['state']:<11}{_ago(one['since'], now):<12}{tried:<10}"
            f"{_in(one.get('next'), now):<12}{why or '-'}"
        )
        lines.append(f"  {_short(one['client'])} -> {_short(one['service'])} {one['operation']}")
    states = Counter(str(one["state"]) for one in found)
    lines.append(", ".join(f"{count} {state}" for state, count in sorted(states.items())) + ("; more: --limit" * more))
    if direction == "incoming" and "dead" in states:
        lines.append("next      lienthong commands redrive|discard ID… --reason TEXT, or --all --service S --code C")
    return "\n".join(lines)


def asked_and_others(home: MemberHome) -> tuple[str, list[str]]:
    """The node that a home's commands are asked of, and the member's other nodes: each knows only its own commands."""
    node = load_settings(home.settings).node
    return node, [one.node for one in other_nodes(home, node)]


def render_asked(node: str, others: Sequence[str]) -> str:
    """For a member with several nodes: which one was asked, and how the others are."""
    if not others:
        return ""
    named = ", ".join(one.rpartition("@")[2] for one in others)
    return (
        f"\nasked     {node.rpartition('@')[2]} only; also {named}: lienthong commands list --home and --key-file of "
        "that node, on its machine"
    )


def render_act(found: Mapping[str, Any], act: str, dry_run: bool) -> str:
    """What became of each as text."""
    lines = [
        f"{one['id']:<38}{_DONE.get(one['fate'], one['fate'])}   {_short(one['service'])}" for one in found["commands"]
    ]
    lines += [f"{one:<38}not here: no such command is open" for one in found["unknown"]]
    if dry_run:
        lines.append(f"nothing was done; without --dry-run: {act} {len(found['commands'])}")
    elif found["commands"]:
        own = all(one["direction"] == "outgoing" for one in found["commands"])
        lines.append("next      lienthong commands list" + " --outgoing" * own)
    return "\n".join(lines) or "nothing fits"


def _behind(one: Mapping[str, Any]) -> str:
    """Of a command in a line: behind which one."""
    return f"waits for {one['waits_for']}" if one.get("waits_for") else ""


def _short(identifier: str) -> str:
    """Without instance and class, which are the same for nearly all."""
    return "/".join(identifier.split("/")[2:]) or identifier


def _ago(text: str, now: datetime) -> str:
    return f"{_span((now - _time(text)).total_seconds())} ago"


def _in(text: str | None, now: datetime) -> str:
    if not text:
        return "-"
    left_s = (_time(text) - now).total_seconds()
    return "now" if left_s <= 0 else f"in {_span(left_s)}"


def _span(seconds: float) -> str:
    number = max(0, int(seconds))
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if number >= 2 * size:
            return f"{number // size} {unit}"
    return f"{number} s"


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
