"""Subjects of the bus on NATS (protocol.md, Broker).

A part keeps `[A-Za-z0-9-]`; every other UTF-8 byte becomes `=HH`. Class and member, and node, are joined with `~`; the
instance is left out (one NATS account per instance). Pure.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from urllib.parse import unquote

from evidence.errors import EvidenceError
from evidence.identifiers import MemberId, NodeId

_KEPT = re.compile(rb"[A-Za-z0-9-]")
DIRECTORY_STREAM = "LT_DIR"
DIRECTORY_SUBJECTS = "lt.dir.>"
REGISTRY = "registry"
"""Token of the registry in control subjects and inboxes; no node's token, because it has no `~`."""
OWN_CONSUMER = "own"
"""Name of a member's durable pull consumer on its command streams."""
LARGE = "large"
SMALL_BYTES = 16 * 1024
"""Up to here a message is small: of such, a sender may have thousands in a stream."""
CLAIMS_UPDATE = "$SYS.REQ.CLAIMS.UPDATE"
"""Where servers take newer account JWTs, in the system account."""
_LONGEST_IN_NAME = 200


def token_part(part: str) -> str:
    """One identifier part as it stands in a subject token."""
    return "".join(chr(byte) if _KEPT.match(bytes([byte])) else f"={byte:02X}" for byte in part.encode())


@lru_cache(maxsize=4096)
def member_token(member: str) -> str:
    """Token of a member, `GOV~H37` for `VN/GOV/H37`."""
    parsed = MemberId.parse(member)
    return f"{token_part(parsed.member_class)}~{token_part(parsed.member)}"


@lru_cache(maxsize=4096)
def node_token(node: str) -> str:
    """Token of a node, `GOV~H37~n1` for `VN/GOV/H37/@n1`."""
    parsed = NodeId.parse(node)
    return f"{member_token(str(parsed.member))}~{token_part(parsed.node)}"


def member_of_token(token: str, instance: str) -> str | None:
    """Member identifier of a token, None when it is not one."""
    parts = token.split("~")
    if len(parts) != 2:
        return None
    try:
        return str(MemberId(instance, *(unquote(part.replace("=", "%"), errors="strict") for part in parts)))
    except (ValueError, EvidenceError):
        return None


def node_of_token(token: str, instance: str) -> str | None:
    """Node identifier of a token, None when it is not one."""
    parts = token.split("~")
    if len(parts) != 3:
        return None
    try:
        member_class, member, node = (unquote(part.replace("=", "%"), errors="strict") for part in parts)
        return str(NodeId(MemberId(instance, member_class, member), node))
    except (ValueError, EvidenceError):
        return None


def query(provider: str, client: str) -> str:
    """Subject of a query from member `client` to member `provider`."""
    return f"lt.q.{member_token(provider)}.{member_token(client)}"


def query_group(provider: str) -> str:
    """Queue group of the provider's nodes."""
    return f"q~{member_token(provider)}"


def control(node: str, asker: str) -> str:
    """Subject of a control question from node `asker` to `node`."""
    return f"lt.k.{node_token(node)}.{node_token(asker)}"


def credentials(node: str) -> str:
    """Subject on which a node asks the registry for new broker credentials."""
    return f"lt.k.{REGISTRY}.{node_token(node)}"


def inbox(node: str) -> str:
    """Prefix of reply subjects of a node; ends with a dot."""
    return f"_I.{node_token(node)}."


def command(provider: str, client: str) -> str:
    """Subject of a command from member `client` to member `provider`."""
    return f"lt.c.{member_token(provider)}.{member_token(client)}"


def result(node: str, sender: str) -> str:
    """Subject of a result or receipt from member `sender` to the node that sent what it is for."""
    return f"lt.r.{_node_place(node)}.{member_token(sender)}"


def results_of(node: str) -> str:
    """Filter of everything that is for one node."""
    return f"lt.r.{_node_place(node)}.*"


def node_consumer(node: str) -> str:
    """Name of a node's durable pull consumer on its member's result stream."""
    return f"{OWN_CONSUMER}~{token_part(NodeId.parse(node).node)}"


def claim(member: str, leaf_hash: bytes) -> str:
    """Subject of the word which node of the member has the command with that leaf hash."""
    return f"lt.w.{member_token(member)}.c.{leaf_hash.hex()}"


def claims(member: str) -> str:
    """Filter of all claims of a member's nodes."""
    return f"lt.w.{member_token(member)}.c.*"


def lease(node: str) -> str:
    """Subject on which a node says to the other nodes of its member that it works."""
    parsed = NodeId.parse(node)
    return f"lt.w.{member_token(str(parsed.member))}.n.{token_part(parsed.node)}"


def leases(member: str) -> str:
    """Filter of the words of all nodes of a member."""
    return f"lt.w.{member_token(member)}.n.*"


def beginning(member: str) -> str:
    """Subject of the first message of a member's work stream: its time is that since which claims are known."""
    return f"lt.w.{member_token(member)}.begin"


@lru_cache(maxsize=4096)
def _node_place(node: str) -> str:
    """Member and node as two tokens."""
    parsed = NodeId.parse(node)
    return f"{member_token(str(parsed.member))}.{token_part(parsed.node)}"


def sized(subject: str, *, large: bool) -> str:
    """The subject of a command, result or receipt by its size: what is large goes into a stream of its own.

    The sender's token stands last in both forms. No member's token is `large`: it has no `~`.
    """
    if not large:
        return subject
    lt, kind, rest = subject.split(".", 2)
    return f"{lt}.{kind}.{LARGE}.{rest}"


def command_stream(member: str, *, large: bool = False) -> str:
    """Stream of the commands to a member."""
    return f"{'CML' if large else 'CMD'}_{_name_token(member)}"


def result_stream(member: str, *, large: bool = False) -> str:
    """Stream of the results to a member."""
    return f"{'REL' if large else 'RES'}_{_name_token(member)}"


def work_stream(member: str) -> str:
    """Stream in which the nodes of a member tell each other who does what."""
    return f"WRK_{_name_token(member)}"


def event_stream(member: str) -> str:
    """Stream of the events of a member."""
    return f"EVT_{_name_token(member)}"


def _name_token(member: str) -> str:
    """A member's token in a stream's name, which the broker limits to 255 bytes: a very long one is abbreviated.

    A token has only `[A-Za-z0-9=~-]`, all of which a stream's name may have; no part is empty, so no token has `~~`.
    """
    token = member_token(member)
    if len(token) <= _LONGEST_IN_NAME:
        return token
    return f"{token[:64]}~~{hashlib.sha256(token.encode()).hexdigest()}"
