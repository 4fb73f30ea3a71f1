"""Minting broker credentials from the directory: implements `registry.ports.CredentialMinter`.

Who gets any is decided before (`registry.credentials`); whose credentials are refused stands in the guest book.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bus.transport import nkeys, permissions, subjects
from bus.transport.guestbook import GuestBook
from registry.errors import DocumentRefused, NotFound
from registry.view import MemberEntry, NodeEntry

LIFETIME_S = 30 * 86_400


class AccountMinter:
    """Signs user JWTs with the members' account key.

    Args:
        account: raw public key of the account.
        sign: signs with its private key.
        unix_time_s: current time.
        lifetime_s: validity of a user JWT.
        guests: where every key is noted before it gets anything; None only where nothing is handed out.
    """

    def __init__(
        self,
        account: bytes,
        sign: Callable[[bytes], bytes],
        unix_time_s: Callable[[], float],
        lifetime_s: int = LIFETIME_S,
        guests: GuestBook | None = None,
    ) -> None:
        self._account = account
        self._sign = sign
        self._unix_time_s = unix_time_s
        self._lifetime_s = lifetime_s
        self._guests = guests

    async def mint(self, node: NodeEntry, member: MemberEntry) -> str:
        """User JWT of a node with the rights of `permissions`; it ends with the node's statement at the latest.

        Raises:
            NotFound: the statement has ended.
            DocumentRefused: its broker key is that of a leaf broker: each key has one use.
        """
        now_s = int(self._unix_time_s())
        expires_s = now_s + self._lifetime_s
        if node.until_at is not None:
            expires_s = min(expires_s, int(node.until_at.timestamp()))
            if expires_s <= now_s:
                raise NotFound(f"the statement of {node.node} ended: publish a new one")
        refused_s = 0
        if self._guests is not None:
            key = nkeys.public_text("user", node.broker_key)
            guest = self._guests.admit(key, "node", node.node)
            if guest.kind != "node":
                raise DocumentRefused(
                    "key-reused",
                    f"the broker key of {node.node} is a leaf broker's: make another with lienthong node rotate broker",
                )
            refused_s = guest.refused_at_s
        return nkeys.user_jwt(
            node.node,
            node.broker_key,
            self._account,
            self._sign,
            _issued_at_s(now_s, refused_s),
            expires_at_s=expires_s,
            publish=permissions.node_publish(member.id, node.node),
            subscribe=permissions.node_subscribe(member.id, node.node),
        )

    def mint_leaf(self, member: str, nodes: Sequence[str], public: bytes) -> str:
        """User JWT of a member's leaf broker: it may only connect as a leaf, with the rights of the member's nodes."""
        now_s = int(self._unix_time_s())
        return nkeys.user_jwt(
            f"{member} leaf",
            public,
            self._account,
            self._sign,
            _issued_at_s(now_s, 0),
            expires_at_s=None,
            publish=permissions.leaf_publish(member, nodes),
            subscribe=permissions.leaf_subscribe(member, nodes),
            connection_types=("LEAFNODE",),
        )

    def mint_service_user(self, name: str, public: bytes) -> str:
        """User JWT of the registry itself: everything inside the account."""
        now_s = int(self._unix_time_s())
        return nkeys.user_jwt(
            name, public, self._account, self._sign, now_s - 1, expires_at_s=None, publish=None, subscribe=None
        )


def mint_leaf_listener(name: str, public: bytes, system: bytes, sign: nkeys.Sign, unix_time_s: float) -> str:
    """User JWT with which a leaf broker hears who is refused: in the system account, that one subject and nothing else.

    It says nothing there: a server that answers obeys its own answer, whoever named the reply subject.

    Args:
        name: of the member.
        public: of the user, 32 raw bytes.
        system: public key of the system account, 32 raw bytes.
        sign: signs with the private key of the system account.
        unix_time_s: current time.
    """
    return nkeys.user_jwt(
        f"{name} leaf",
        public,
        system,
        sign,
        int(unix_time_s) - 1,
        expires_at_s=None,
        publish=[],
        subscribe=[subjects.CLAIMS_UPDATE],
        connection_types=("LEAFNODE",),
    )


def _issued_at_s(now_s: int, refused_s: int) -> int:
    """The broker refuses what was issued up to a revocation: after one, credentials are dated behind it."""
    return max(now_s - 1, refused_s + 1)
