"""Minting broker credentials from the directory: implements `registry.ports.CredentialMinter`."""

from __future__ import annotations

from collections.abc import Callable

from bus.transport import nkeys, permissions
from registry.view import MemberEntry, NodeEntry


class AccountMinter:
    """Signs user JWTs with the instance's account key.

    Args:
        account: raw public key of the account.
        sign: signs with its private key.
        unix_time_s: current time.
        lifetime_s: validity of a user JWT.
    """

    def __init__(
        self,
        account: bytes,
        sign: Callable[[bytes], bytes],
        unix_time_s: Callable[[], float],
        lifetime_s: int = 30 * 86_400,
    ) -> None:
        self._account = account
        self._sign = sign
        self._unix_time_s = unix_time_s
        self._lifetime_s = lifetime_s

    async def mint(self, node: NodeEntry, member: MemberEntry) -> str:
        """User JWT of a node with the rights of `permissions`."""
        now_s = int(self._unix_time_s())
        return nkeys.user_jwt(
            node.node,
            node.broker_key,
            self._account,
            self._sign,
            now_s - 1,
            expires_at_s=now_s + self._lifetime_s,
            publish=permissions.node_publish(member.id, node.node),
            subscribe=permissions.node_subscribe(member.id, node.node),
        )

    def mint_service_user(self, name: str, public: bytes) -> str:
        """User JWT of the registry itself: everything inside the account."""
        now_s = int(self._unix_time_s())
        return nkeys.user_jwt(
            name, public, self._account, self._sign, now_s - 1, expires_at_s=None, publish=None, subscribe=None
        )
