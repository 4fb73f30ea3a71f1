"""New TLS certificates for an instance's own servers, by its own authority. The servers read them when they start."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from console.brokercluster import renew_certificates
from console.homes import InstanceHome, replace_file
from console.instance import load_authority
from evidence.issue import issue_tls, to_pem
from evidence.signer import FileSigner

_DAYS = 365


def renew_tls(home: InstanceHome, names: Sequence[str], addresses: Sequence[str]) -> list[Path]:
    """New keys and certificates for broker and registry, in place of the old ones; a registry without TLS stays so.

    Returns:
        The certificate files.

    Raises:
        KeyUnusable: the authority's key is not here.
    """
    now = datetime.now(UTC)
    made = []
    for folder, role in ((home.broker, "broker"), (home.registry, "registry")):
        if role == "registry" and home.facts.registry_scheme != "https":
            continue
        key = FileSigner.generate("p256")
        certificate = issue_tls(
            load_authority(home),
            role,
            key.private_key.public_key(),
            role="both" if role == "broker" else "server",
            dns_names=names,
            ip_addresses=addresses,
            not_before_at=now - timedelta(minutes=5),
            not_after_at=now + timedelta(days=_DAYS),
        )
        pem = key.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        replace_file(folder / "tls.pem", pem)
        replace_file(folder / "tls.crt", to_pem([certificate]), 0o644)
        made.append(folder / "tls.crt")
    return [*made, *renew_certificates(home, (*names, *addresses))]
