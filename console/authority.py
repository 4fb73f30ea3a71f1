"""The instance's own authority withdraws certificates: its record, its lists, and where the anchor says they are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from console.homes import HomeInvalid, InstanceHome, read_facts, replace_file
from console.instance import load_authority
from console.listsources import with_authorities
from console.membership import Speaker, call_registry
from console.predecessors import newest_anchor
from evidence.header import decode_time, encode_time
from evidence.issue import issue_crl
from evidence.x509 import describe, load_pem_chain
from registry.client import RegistryClient


class Revoked(msgspec.Struct, frozen=True):
    """A certificate that is not to be trusted: serial number in hex, and since when."""

    serial: str
    at: str


class Withdrawn(msgspec.Struct, frozen=True):
    """What the authority withdrew so far, and the number of its newest list."""

    number: int = 0
    revoked: tuple[Revoked, ...] = ()


def _record(home: InstanceHome) -> Withdrawn:
    path = home.ca / "revoked.json"
    return read_facts(path, Withdrawn, "lienthong certificate revoke") if path.exists() else Withdrawn()


def revoke_certificate(home: InstanceHome, certificate: Path) -> int:
    """Notes a certificate of this authority as withdrawn; its serial number.

    Raises:
        CertificateInvalid: the file holds no certificate.
        HomeInvalid: it is withdrawn already.
    """
    serial = describe(load_pem_chain(certificate.read_bytes())[0]).serial
    record = _record(home)
    if any(int(one.serial, 16) == serial for one in record.revoked):
        raise HomeInvalid(f"the certificate with serial {serial:x} is revoked already")
    entry = Revoked(f"{serial:x}", encode_time(datetime.now(UTC)))
    changed = msgspec.structs.replace(record, revoked=(*record.revoked, entry))
    replace_file(home.ca / "revoked.json", msgspec.json.encode(changed))
    return serial


def write_crl(home: InstanceHome, out: Path, days: float) -> dict[str, Any]:
    """Issues the next list and writes it (DER)."""
    record, now = _record(home), datetime.now(UTC)
    next_at = now + timedelta(days=days)
    revoked = [(int(one.serial, 16), decode_time(one.at)) for one in record.revoked]
    number = record.number + 1
    data = issue_crl(load_authority(home), revoked, number=number, this_update_at=now, next_update_at=next_at)
    replace_file(home.ca / "revoked.json", msgspec.json.encode(msgspec.structs.replace(record, number=number)))
    replace_file(out, data, 0o644)
    return {"number": number, "entries": len(revoked), "next_update": encode_time(next_at), "out": out}


def name_lists(
    home: InstanceHome, addresses: tuple[str, ...], folders: Sequence[Path] = (), authorities: Sequence[Path] = ()
) -> tuple[str, ...]:
    """Publishes an anchor that names these addresses of revocation lists; as it names them, each with its authority.

    Args:
        home: Of the instance.
        addresses: All of them, anew.
        folders: With further operator keys.
        authorities: Certificates (PEM) of whose lists they give, see `listsources.with_authorities`.

    Raises:
        SignaturesMissing: too few operator keys are at hand; a proposal was kept.
        HomeInvalid: an address cannot be one, or nobody said whose list it gives.
        RegistryError: the registry refused, or does not answer.
    """
    speaker = Speaker.operator(home, folders)

    async def publish(client: RegistryClient) -> tuple[str, ...]:
        before = await newest_anchor(client, speaker.genesis)
        named = with_authorities(addresses, before.document.certification_authorities, authorities)
        await client.submit(await speaker.amend(client, before, revocation_lists=named))
        return named

    return call_registry(speaker.url, publish)
