"""TLS of the registry: its certificate, its server's context, and the operator's own context for asking it.

The certificate is issued by the instance's own authority, whose certificate stands in the anchor as the authority
behind the broker: members trust it only after they have checked the anchor against the genesis (`registry.client`).
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from datetime import datetime

from console.homes import HomeInvalid, InstanceHome, write_new
from evidence.issue import Authority, issue_tls, to_pem
from evidence.signer import generate_key_file


def make_registry_tls(
    home: InstanceHome,
    authority: Authority,
    names: Sequence[str],
    addresses: Sequence[str],
    *,
    not_before_at: datetime,
    not_after_at: datetime,
) -> None:
    """Makes key and certificate of the registry's HTTPS.

    Raises:
        KeyUnusable: there is one already.
    """
    key = generate_key_file(home.registry / "tls.pem", "p256")
    certificate = issue_tls(
        authority,
        "registry",
        key.private_key.public_key(),
        role="server",
        dns_names=names,
        ip_addresses=addresses,
        not_before_at=not_before_at,
        not_after_at=not_after_at,
    )
    write_new(home.registry / "tls.crt", to_pem([certificate]), 0o644)


def server_context(home: InstanceHome) -> ssl.SSLContext | None:
    """TLS 1.3 for the registry's port; None where the instance was made without.

    Raises:
        HomeInvalid: certificate or key cannot be used.
    """
    if home.facts.registry_scheme != "https":
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(home.registry / "tls.crt", home.registry / "tls.pem")
    except (OSError, ssl.SSLError) as error:
        raise HomeInvalid(f"{home.registry}/tls.crt and tls.pem cannot be used ({type(error).__name__})") from error
    return context


def operator_context(home: InstanceHome) -> ssl.SSLContext:
    """What the operator's own machine trusts: the instance's authority.

    Raises:
        OSError: it is not there.
    """
    return ssl.create_default_context(cafile=str(home.ca / "ca.crt"))
