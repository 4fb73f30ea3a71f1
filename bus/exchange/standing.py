"""Who may be exchanged with *now*: what the directory revoked, and what the authorities' revocation lists say.

The directory's revocations are part of the fold: every gateway comes to the same result. Revocation lists are a live
status beside it, because two gateways may read a list at different moments: they refuse exchanges, and never change
what a document means. Pure; fetches nothing (`bus.gateway.revocationlists`).
"""

from __future__ import annotations

from bus import errors
from registry.view import DirectoryView


class CertificateStanding:
    """What the revocation lists of the anchor say about members; without lists nobody is refused.

    Attributes:
        withdrawn: members whose certificate is on a list.
        unknown: the lists are older than the settings allow, and the settings say to refuse then.
    """

    __slots__ = ("unknown", "withdrawn")

    def __init__(self) -> None:
        self.withdrawn: frozenset[str] = frozenset()
        self.unknown = False

    def refusal(self, member: str) -> str:
        """Why messages of a member are not accepted now: a drop code, or empty."""
        if self.unknown:
            return "revocation-unknown"
        return "certificate-revoked" if member in self.withdrawn else ""


def require_trust(view: DirectoryView, standing: CertificateStanding, own_origin: str, provider: str) -> None:
    """Before anything is logged or sent: this node and the provider may still be trusted.

    Args:
        view: the directory.
        standing: see `CertificateStanding`.
        own_origin: log origin of this node.
        provider: member that a call is for.

    Raises:
        OwnNodeRevoked, ProviderRevoked, RevocationUnknown: by name.
    """
    own = view.node_by_origin(own_origin)
    if own is not None and own.status == "revoked":
        raise errors.OwnNodeRevoked(f"trust in {own.node} was withdrawn in the directory; nothing was sent")
    if standing.unknown:
        raise errors.RevocationUnknown
    if view.is_revoked("member", provider):
        raise errors.ProviderRevoked(f"trust in {provider} was withdrawn in the directory; nothing was sent")
    if provider in standing.withdrawn:
        raise errors.ProviderRevoked(f"the certificate of {provider} is on a revocation list; nothing was sent")
    nodes = view.nodes_of(provider)
    if nodes and all(node.status == "revoked" for node in nodes):
        raise errors.ProviderRevoked(f"trust in every node of {provider} was withdrawn; nothing was sent")
