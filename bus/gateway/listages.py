"""How long what the authorities' lists say is still good, and whether a list is missed.

An address whose authority the anchor names is satisfied by a current list of that authority, wherever it came from: one
of several mirrors is enough, and nothing of another authority helps. Addresses that speak for nobody in particular are
judged together, by the names of the authorities whose lists they gave. A list matters only where its authority may be
behind a member. Pure; fetches nothing and refuses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from evidence.crl import RevocationList

Until = Callable[[RevocationList], datetime]
_NOTHING = timedelta()


@dataclass(frozen=True, slots=True)
class Authorities:
    """Who is behind members, and who is known.

    Attributes:
        issuers: names (DER) of the authorities that issued what stands behind members now.
        named: key of a trusted authority (`RevocationList.signer`) to its name.
    """

    issuers: frozenset[bytes]
    named: Mapping[str, bytes]

    def matters(self, signer: str) -> bool:
        """Whether the authority with that key may be behind a member."""
        name = self.named.get(signer)
        if name is None:  # then only behind a member of whose authorities not all are known
            return not self.issuers or not self.issuers <= set(self.named.values())
        return not self.issuers or name in self.issuers


@dataclass(frozen=True, slots=True)
class Ages:
    """What is left.

    Attributes:
        left: for each address; not above zero where its list is too old or missing.
        stale: whether a list that matters is too old or missing.
    """

    left: Mapping[str, timedelta]
    stale: bool


def judge_ages(
    sources: Mapping[str, frozenset[str]],
    lists: Mapping[str, Sequence[RevocationList]],
    until: Until,
    authorities: Authorities,
    now: datetime,
) -> Ages:
    """Judges the lists that are here.

    Args:
        sources: addresses with whose list each has to give, see `registry.listaddresses`.
        lists: verified ones, by the address that gave them.
        until: how long a list may be relied on.
        authorities: who is behind members.
        now: aware UTC.
    """
    by_key: dict[str, datetime] = {}
    by_name: dict[bytes, datetime] = {}
    for one in (one for found in lists.values() for one in found):
        until_at = until(one)
        by_key[one.signer] = max(until_at, by_key.get(one.signer, until_at))
        by_name[one.issuer] = max(until_at, by_name.get(one.issuer, until_at))
    left: dict[str, timedelta] = {}
    open_: dict[str, Sequence[RevocationList]] = {}
    stale = False
    for address, expected in sources.items():
        if not expected:
            open_[address] = lists[address]
            left[address] = _left_at(lists[address], by_name, authorities.issuers, now)
            continue
        ends = [by_key[one] for one in expected if one in by_key]
        left[address] = max(ends) - now if ends else _NOTHING
        stale = stale or (left[address] <= _NOTHING and any(map(authorities.matters, expected)))
    return Ages(left, stale or (bool(open_) and _is_stale(open_.values(), by_name, authorities.issuers, now)))


def _is_stale(
    open_: Iterable[Sequence[RevocationList]],
    until: Mapping[bytes, datetime],
    issuers: frozenset[bytes],
    now: datetime,
) -> bool:
    needed = {issuer: until_at for issuer, until_at in until.items() if issuer in issuers}
    if any(until_at <= now for until_at in (needed or until).values()):
        return True
    # An address that never answered may have the list of an authority behind a member, until each has one.
    silent = any(not found for found in open_)
    return silent and (not until or not issuers <= until.keys())


def _left_at(
    found: Sequence[RevocationList], until: Mapping[bytes, datetime], issuers: frozenset[bytes], now: datetime
) -> timedelta:
    """How long what an address gave is still good: of the authorities behind a member, the first to end."""
    given = {one.issuer for one in found}
    return min(until[issuer] for issuer in (given & issuers or given)) - now if given else _NOTHING
