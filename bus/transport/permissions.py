"""What a node may do at the broker: the table of protocol.md, Broker. Pure.

A node publishes only as itself (its own token stands last), subscribes to what is addressed to it, and never creates or
changes a stream or a consumer. There is no `allow_responses`.
"""

from __future__ import annotations

from bus.transport import subjects


def node_publish(member: str, node: str) -> list[str]:
    """Subjects that the node may publish on."""
    return [
        f"lt.q.*.{subjects.member_token(member)}",
        f"lt.k.*.{subjects.node_token(node)}",
        "_I.>",
        f"$JS.API.DIRECT.GET.{subjects.DIRECTORY_STREAM}.>",
    ]


def node_subscribe(member: str, node: str) -> list[str]:
    """Subjects that the node may subscribe to; `"subject group"` forces the queue group."""
    return [
        f"lt.q.{subjects.member_token(member)}.* {subjects.query_group(member)}",
        f"lt.k.{subjects.node_token(node)}.*",
        f"{subjects.inbox(node)}>",
        subjects.DIRECTORY_SUBJECTS,
    ]
