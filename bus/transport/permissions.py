"""What a guest of the broker may do: the table of protocol.md, Broker. Pure.

A node publishes only as itself (its own token stands last), subscribes to what is addressed to it, pulls from its own
consumers only, and never creates or changes a stream or a consumer. There is no `allow_responses`. The lists do not
grow with access rights: who may call whom is the provider's decision.

Says nothing of who gets these rights (`minting`) and who loses them (`guests`).
"""

from __future__ import annotations

from collections.abc import Iterable

from bus.transport import subjects


def node_publish(member: str, node: str) -> list[str]:
    """Subjects that the node may publish on."""
    return [
        f"lt.q.*.{subjects.member_token(member)}",
        f"lt.k.*.{subjects.node_token(node)}",
        "_I.>",
        *_streams_publish(member, [node]),
    ]


def node_subscribe(member: str, node: str) -> list[str]:
    """Subjects that the node may subscribe to; `"subject group"` forces the queue group."""
    return [
        f"lt.q.{subjects.member_token(member)}.* {subjects.query_group(member)}",
        f"lt.k.{subjects.node_token(node)}.*",
        f"{subjects.inbox(node)}>",
        subjects.DIRECTORY_SUBJECTS,
    ]


def leaf_publish(member: str, nodes: Iterable[str]) -> list[str]:
    """What the leaf broker of a member may send to the hub: what the member's nodes may."""
    nodes = list(nodes)
    return [
        f"lt.q.*.{subjects.member_token(member)}",
        *(f"lt.k.*.{subjects.node_token(node)}" for node in nodes),
        "_I.>",
        *_streams_publish(member, nodes),
    ]


def leaf_subscribe(member: str, nodes: Iterable[str]) -> list[str]:
    """What the hub sends to the leaf broker of a member: what is addressed to the member and its nodes."""
    return [
        f"lt.q.{subjects.member_token(member)}.*",
        *(subject for node in nodes for subject in (f"lt.k.{subjects.node_token(node)}.*", f"{subjects.inbox(node)}>")),
        subjects.DIRECTORY_SUBJECTS,
    ]


def _streams_publish(member: str, nodes: Iterable[str]) -> list[str]:
    """Sending into streams only as oneself; taking from one's own consumers only; claims among one's own nodes."""
    token = subjects.member_token(member)
    found = [
        f"lt.c.*.{token}",
        f"lt.c.{subjects.LARGE}.*.{token}",
        f"lt.r.*.*.{token}",
        f"lt.r.{subjects.LARGE}.*.*.{token}",
        f"lt.e.{token}.>",
        f"lt.w.{token}.>",
    ]
    sizes = (False, True)
    consumers = [f"{subjects.command_stream(member, large=large)}.{subjects.OWN_CONSUMER}" for large in sizes]
    consumers += [
        f"{subjects.result_stream(member, large=large)}.{subjects.node_consumer(node)}"
        for node in nodes
        for large in sizes
    ]
    for own in consumers:
        found += [f"$JS.API.CONSUMER.MSG.NEXT.{own}", f"$JS.ACK.{own}.>"]
    return [
        *found,
        f"$JS.API.DIRECT.GET.{subjects.work_stream(member)}",
        f"$JS.API.DIRECT.GET.{subjects.DIRECTORY_STREAM}.>",
    ]
