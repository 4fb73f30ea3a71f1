"""Sessions of one-door systems: each bound to the system that logged in, bounded in number and in time. Pure state.

They live in memory: after a restart a system logs in again, which all of them do when a session is refused.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass

_MOST_PER_DESK = 16
_FAILURES, _FAILURES_S, _MOST_ADDRESSES = 10, 60.0, 1024


@dataclass(frozen=True, slots=True)
class _Session:
    desk: str
    until_s: float


class Sessions:
    """Who is logged in.

    Args:
        passwords: By name of the desk system.
        life_s: How long a session lives.
        monotonic: Clock, seconds.
        token: Makes a new session's text.
    """

    def __init__(
        self, passwords: dict[str, str], life_s: float, monotonic: Callable[[], float], token: Callable[[], str]
    ) -> None:
        self._passwords = {name: _hashed(password) for name, password in passwords.items()}
        self._life_s = life_s
        self._monotonic = monotonic
        self._token = token
        self._sessions: dict[bytes, _Session] = {}
        self._failures: dict[str, tuple[float, int]] = {}

    def __len__(self) -> int:
        """Sessions that are valid now."""
        self._expire()
        return len(self._sessions)

    def log_in(self, name: str, password: str, address: str) -> str | None:
        """A new session, or None: wrong, or from an address that was wrong too often in the last minute."""
        since_s, failures = self._failures.get(address, (0.0, 0))
        now_s = self._monotonic()
        if now_s - since_s > _FAILURES_S:
            failures, since_s = 0, now_s
        known = self._passwords.get(name)
        # one comparison whatever the name: time tells nobody which names exist
        right = hmac.compare_digest(known or b"\x00" * 32, _hashed(password)) and known is not None
        if failures >= _FAILURES or not right:
            if len(self._failures) >= _MOST_ADDRESSES:
                self._failures.clear()
            self._failures[address] = (since_s, failures + 1)
            return None
        self._failures.pop(address, None)
        return self._made(name, now_s)

    def _made(self, name: str, now_s: float) -> str:
        self._expire()
        own = [key for key, session in self._sessions.items() if session.desk == name]
        for key in own[: max(0, len(own) - _MOST_PER_DESK + 1)]:
            del self._sessions[key]
        text = self._token()
        self._sessions[_hashed(text)] = _Session(name, now_s + self._life_s)
        return text

    def desk_of(self, session: str) -> str | None:
        """Name of the desk system whose session it is; None when it is none, or over."""
        found = self._sessions.get(_hashed(session))
        return found.desk if found is not None and found.until_s > self._monotonic() else None

    def _expire(self) -> None:
        now_s = self._monotonic()
        for key in [key for key, session in self._sessions.items() if session.until_s <= now_s]:
            del self._sessions[key]


def _hashed(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()
