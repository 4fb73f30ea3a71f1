"""What waits in the outbox, by receiving member: for the operator who sees that it grows and asks for whom.

Counted now and then from an index of the store, not at each change. The number of members that are named is
bounded. By service counts the outbox itself (`Outbox.by_service`): in the store that stands in the header only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from bus.delivery.store import DeliveryReader
from bus.transport import subjects

MOST_MEMBERS = 50
OTHERS = "others"
UNREAD = "unread"
"""Of an earlier run, and not tried since the start: for which service is read when it is."""
_COUNT = "SELECT subject, count(*), min(since_s) FROM outbox GROUP BY subject"


class Depth(NamedTuple):
    """Records of a kind (`command` or `reply`) that wait for a member; the oldest since then (seconds since 1970)."""

    member: str
    kind: str
    records: int
    oldest_s: int


async def read_depths(store: DeliveryReader, instance: str) -> list[Depth]:
    """Depths of the outbox, the deepest first.

    Args:
        store: what waits.
        instance: own instance, which subjects leave out.

    Raises:
        SourceUnreadable: the store cannot be read now.
    """
    return bounded(
        Depth(*_receiver(subject, instance), count, oldest_s) for subject, count, oldest_s in await store.rows(_COUNT)
    )


def bounded(found: Iterable[Depth], most: int = MOST_MEMBERS) -> list[Depth]:
    """One depth for each member and kind; beyond the `most` deepest, all the rest together as `others`."""
    summed: dict[tuple[str, str], Depth] = {}
    for one in found:
        _add(summed, one)
    deepest = sorted(summed.values(), key=lambda one: (-one.records, one))
    named = {depth[:2]: depth for depth in deepest[:most]}
    for one in deepest[most:]:
        _add(named, one._replace(member=OTHERS))
    return list(named.values())


def _add(to: dict[tuple[str, str], Depth], one: Depth) -> None:
    known = to.get(one[:2])
    to[one[:2]] = (
        one
        if known is None
        else known._replace(records=known.records + one.records, oldest_s=min(known.oldest_s, one.oldest_s))
    )


def _receiver(subject: str, instance: str) -> tuple[str, str]:
    parts = subject.split(".")
    kind = "command" if parts[1] == "c" else "reply"
    return subjects.member_of_token(parts[-2], instance) or OTHERS, kind
