"""Which servers of a broker can be reached, each asked alone, and whether each has copies of everything.

A connection that finds one of them does not tell, nor does a server that is back and still catches up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from bus.transport.copies import Copies
from console.doctor.findings import Finding

SERVERS, COPIES = "broker-servers", "broker-copies"


def check_servers(urls: Sequence[str], reaches: Callable[[str], bool], do: str) -> Iterable[Finding]:
    """One line about all servers; none where the broker is one server.

    Args:
        urls: `tls://host:port` of each.
        reaches: whether a server takes our credentials; called in threads, at the same time for all.
        do: what to do about one that does not.
    """
    if len(urls) < 2:
        return
    with ThreadPoolExecutor(len(urls), SERVERS) as threads:
        answers = list(threads.map(reaches, urls))
    away = [url for url, there in zip(urls, answers, strict=True) if not there]
    here = len(urls) - len(away)
    if not away:
        yield Finding(SERVERS, "ok", f"all {here} servers of the broker are reached")
        return
    seen = f"{here} of {len(urls)} servers of the broker are reached; not {', '.join(away)}"
    if here > len(urls) // 2:
        yield Finding(SERVERS, "warn", seen, do)
    else:
        yield Finding(SERVERS, "fail", f"{seen}: too few to store commands, if nobody reaches more", do)


def check_copies(found: Copies) -> Iterable[Finding]:
    """One line: whether one more server may be stopped."""
    wait = "stop no other server before this is well; it settles by itself once all servers run"
    if found.leaderless:
        named = ", ".join(found.leaderless[:3])
        yield Finding(COPIES, "fail", f"{len(found.leaderless)} of {found.count} streams stand still: {named}", wait)
    elif found.incomplete:
        named = ", ".join(found.behind)
        seen = f"{len(found.incomplete)} of {found.count} streams and consumers lack a current copy, at {named}"
        yield Finding(COPIES, "warn", seen, wait)
    else:
        yield Finding(COPIES, "ok", f"every server has current copies of all {found.count} streams and consumers")
