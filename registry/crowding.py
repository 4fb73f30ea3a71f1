"""Who makes room when too many ask to become a member: nobody fills the list, or a name, from one place.

A newcomer is always taken. Room is made by whoever takes the most of it: of a network that has too many requests, or of
the network with the most of them for a name or altogether, the oldest goes. So an honest applicant, alone in his
network, is the last to go, and can ask again. Who has many networks has them side by side: the wider one around them
counts first. What the operator began to approve stays. Pure; keeps nothing.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

MOST_PER_NETWORK = 250
"""Pending requests of one network: a ministry whose agencies all ask from behind one address has room."""
MOST_PER_NAME = 32
"""Pending requests for one name, by other keys: the operator compares their ids."""


class Pending(NamedTuple):
    """A pending request, as far as room is concerned.

    Attributes:
        id: Of the request.
        member: The name that is asked for.
        network: Where it came from; empty is nowhere in particular.
        held: The operator began to approve it.
    """

    id: str
    member: str
    network: str
    held: bool = False


def to_drop(pending: Sequence[Pending], newcomer: Pending, most: int) -> list[str] | None:
    """Ids of the requests that make room for a newcomer; None where none may.

    Args:
        pending: Oldest first, the newcomer not among them.
        newcomer: What is to be added.
        most: How many may be pending altogether, the newcomer included.
    """
    left, dropped = list(pending), []
    crowds = (
        (lambda one: bool(one.network) and one.network == newcomer.network, MOST_PER_NETWORK),
        (lambda one: one.member == newcomer.member, MOST_PER_NAME),
        (lambda one: True, most),
    )
    for belongs, limit in crowds:
        while len(crowd := [one for one in left if belongs(one)]) >= limit:
            goes = _of_the_largest(crowd, newcomer)
            if goes is None:
                return None
            left.remove(goes)
            dropped.append(goes.id)
    return dropped


def _of_the_largest(crowd: Iterable[Pending], newcomer: Pending) -> Pending | None:
    """The oldest that may go, of the network that has the most of them, within the site that has."""
    free = [one for one in crowd if not one.held]
    networks = Counter(one.network for one in [*free, newcomer])
    site = {network: _site(network) for network in networks}
    sites = Counter(site[one.network] for one in [*free, newcomer])
    return max(free, key=lambda one: (sites[site[one.network]], networks[one.network]), default=None)


def _site(network: str) -> str:
    """What one customer of a provider is given at once: a /48 of IPv6, a /24 of IPv4; other texts as they are."""
    try:
        known = ipaddress.ip_network(network)
    except ValueError:
        return network
    return str(known.supernet(new_prefix=min(known.prefixlen, 48 if known.version == 6 else 24)))
