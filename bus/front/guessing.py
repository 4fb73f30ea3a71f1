"""Lock-out of who guesses keys: by source address and name, growing from try to try, in bounded memory.

Somebody who guesses the key of one name is locked out for that name alone: other systems behind the same address go
on, and so does the genuine system of that name: at once while its key is remembered (`keyring` asks for those first),
else with the next turn, of which a locked pair has one every few seconds. Names that nobody has are counted together.
Does not tell a guesser from the genuine system: who floods an address takes most of its turns. Pure: seconds come in as
arguments.
"""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv6Address, ip_address

import msgspec

FREE_TRIES = 5
FIRST_S, LONGEST_S = 1.0, 300.0
FORGOTTEN_S = 900.0
TURN_S = 5.0
_KEPT = 10_000


class _Failures(msgspec.Struct):
    count: int = 0
    until_s: float = 0.0
    last_s: float = 0.0
    turn_s: float = float("-inf")


class Guessing:
    """Counts wrong keys.

    Args:
        kept: how many pairs of source and name are remembered; the one that failed longest ago is forgotten first.
    """

    def __init__(self, kept: int = _KEPT) -> None:
        self._kept = kept
        self._failures: OrderedDict[tuple[str, str], _Failures] = OrderedDict()

    def __len__(self) -> int:
        return len(self._failures)

    def locked_s(self, source: str, name: str, now_s: float) -> float:
        """Seconds for which keys of that name from that source are not looked at; 0 when they are."""
        found = self._failures.get((prefix_of(source), name))
        if found is None or now_s - found.last_s > FORGOTTEN_S:
            return 0.0
        return max(0.0, found.until_s - now_s)

    def turn_in_s(self, source: str, name: str, now_s: float) -> float:
        """Seconds until one key of a locked pair is looked at all the same; 0 when it is its turn."""
        found = self._failures.get((prefix_of(source), name))
        if found is None:
            return 0.0
        return max(0.0, max(found.last_s, found.turn_s) + TURN_S - now_s)

    def take_turn(self, source: str, name: str, now_s: float) -> None:
        """The turn of a locked pair is used; the next one comes `TURN_S` later."""
        found = self._failures.get((prefix_of(source), name))
        if found is not None:
            found.turn_s = now_s

    def failed(self, source: str, name: str, now_s: float) -> None:
        """A wrong key: after five of them the name is locked for a second, then two, four, … five minutes."""
        key = (prefix_of(source), name)
        found = self._failures.pop(key, None)
        if found is None or now_s - found.last_s > FORGOTTEN_S:
            found = _Failures()
        found.count += 1
        found.last_s = now_s
        if found.count >= FREE_TRIES:
            found.until_s = now_s + min(LONGEST_S, FIRST_S * 2.0 ** min(found.count - FREE_TRIES, 30))
        self._failures[key] = found
        if len(self._failures) > self._kept:
            self._failures.popitem(last=False)

    def succeeded(self, source: str, name: str) -> None:
        """A good key ends the count."""
        self._failures.pop((prefix_of(source), name), None)


def prefix_of(source: str) -> str:
    """What one guesser cannot change at will: an IPv4 address, or the /64 of an IPv6 one; other texts as they are."""
    try:
        address = ip_address(source.partition("%")[0])
    except ValueError:
        return source
    if isinstance(address, IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped) if mapped is not None else str(IPv6Address(int(address) >> 64 << 64))
    return str(address)
