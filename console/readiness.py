"""Is a process of a home ready? Asked through the file that says where it listens, and its health address."""

from __future__ import annotations

import http.client
import json
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path

from bus.errors import BusError
from console.health import failing

_PAUSE_S = 0.1
_NO_BROKER = "the broker does not run (lienthong broker)"


class NotReady(BusError):
    """A process was not ready in time."""

    code = "not-ready"
    title = "Not ready in time"


def _listening(folder: Path) -> dict[str, str]:
    """Facts of a running process; empty when it does not listen."""
    try:
        facts = json.loads((folder / "listening.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _is_cluster(home: Path) -> bool:
    """Whether the broker is several servers, on whatever machines: the registry is ready once it has reached them."""
    try:
        return bool(json.loads((home / "instance.json").read_text(encoding="utf-8")).get("broker_servers"))
    except (OSError, ValueError, AttributeError):
        return False


def _answers(url: str, ca: Path | None = None) -> str:
    """Empty when the address answers 200, otherwise what it says; `ca` is whom HTTPS trusts."""
    try:
        context = ssl.create_default_context(cafile=str(ca)) if url.startswith("https:") and ca else None
        try:
            with urllib.request.urlopen(url, timeout=2, context=context) as answer:  # noqa: S310 - a loopback address from our own file
                return "" if answer.status == 200 else f"HTTP {answer.status}"
        except urllib.error.HTTPError as error:
            return ", ".join(failing(error.read())) or f"HTTP {error.code}"
    except (OSError, http.client.HTTPException, ValueError) as error:
        return f"no answer ({type(error).__name__})"


def missing(home: Path) -> str:
    """What a home lacks to be ready; empty when it is ready."""
    if (home / "server.json").exists():  # one server of a cluster, carried to its machine
        monitor = _listening(home).get("monitor")
        return _answers(f"{monitor}/healthz?js-enabled-only=true") if monitor else _NO_BROKER
    if (home / "instance.json").exists():
        if not _is_cluster(home) and not _listening(home / "broker"):
            return _NO_BROKER
        registry = _listening(home / "registry").get("url")
        return (
            _answers(f"{registry}/readyz", home / "ca" / "ca.crt")
            if registry
            else "the registry does not run (lienthong registry)"
        )
    gateway = _listening(home / "data").get("admin")
    return _answers(f"{gateway}/readyz") if gateway else "the gateway does not run (lienthong gateway)"


def wait_ready(homes: list[Path], timeout_s: float) -> float:
    """Waits for all homes; how many seconds it took.

    Raises:
        NotReady: with what was missing.
    """
    started = time.monotonic()
    for home in homes:
        while reason := missing(home):
            if time.monotonic() - started > timeout_s:
                raise NotReady(f"{home} is not ready after {timeout_s:g} s: {reason}")
            time.sleep(_PAUSE_S)
    return time.monotonic() - started
