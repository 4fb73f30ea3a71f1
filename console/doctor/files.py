"""Files of a home: who may read the secret ones, whether the disk has room, how long certificates live."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from console.doctor.findings import Finding, State
from evidence.x509 import Certificate, load_pem_chain, verify_chain
from evidence.x509 import describe as describe_certificate

WARN_DAYS, FAIL_DAYS = 30.0, 0.0
_WARN_FREE_BYTES, _FAIL_FREE_BYTES = 2 << 30, 256 << 20
_KEYS_HELP = 'see "Keys, certificates and credentials" in docs/operations.md'


def check_modes(name: str, secrets: Iterable[Path]) -> list[Finding]:
    """Secret files are their owner's alone."""
    there = [path for path in secrets if path.is_file()]
    open_ones = [path for path in there if stat.S_IMODE(path.stat().st_mode) & 0o077]
    if not open_ones:
        return [Finding(name, "ok", f"{len(there)} secret files, all for their owner only")]
    return [
        Finding(name, "fail", f"{path} has mode {stat.S_IMODE(path.stat().st_mode):04o}", f"chmod 0600 {path}")
        for path in open_ones
    ]


def check_disk(name: str, folder: Path) -> list[Finding]:
    """There is room for the log."""
    free_bytes = shutil.disk_usage(folder).free
    state: State = "fail" if free_bytes < _FAIL_FREE_BYTES else "warn" if free_bytes < _WARN_FREE_BYTES else "ok"
    do = (
        ""
        if state == "ok"
        else f"make room on the disk of {folder}: without it no record can be logged, so no call made"
    )
    return [Finding(name, state, f"{free_bytes / 1e9:.1f} GB free at {folder}", do)]


def lifetime(name: str, what: str, until_at: datetime, do: str, warn_days: float = WARN_DAYS) -> Finding:
    """How long something is still good."""
    days = (until_at - datetime.now(UTC)).total_seconds() / 86_400
    state: State = "fail" if days <= FAIL_DAYS else "warn" if days < warn_days else "ok"
    seen = f"{what} ended {-days:.0f} days ago" if days <= 0 else f"{what}: {days:.0f} days left"
    return Finding(name, state, seen, "" if state == "ok" else do)


def check_certificate(name: str, what: str, path: Path, do: str = "") -> list[Finding]:
    """A certificate file can be read and is valid for a while.

    Args:
        name: Of the check.
        what: What it certifies, for the reader.
        path: Of the file (PEM).
        do: The command that renews it.
    """
    found = describe(path)
    return [lifetime(name, what, found.not_after_at, do or f"renew {path}: {_KEYS_HELP}")]


def check_chain(name: str, path: Path, authorities: Sequence[str], member: str) -> list[Finding]:
    """A member's certificate leads to an authority of the anchor and names the member."""
    anchors = [der for one in authorities for der in load_pem_chain(one.encode())]
    found = verify_chain(load_pem_chain(path.read_bytes()), anchors, datetime.now(UTC), usage="member")
    if found.member is not None and str(found.member) != member:
        return [
            Finding(name, "fail", f"{path} names {found.member}, this home is {member}'s", "put the right one there")
        ]
    return [
        lifetime(name, "member certificate, chain leads to the anchor", found.not_after_at, f"renew it: {_KEYS_HELP}")
    ]


def describe(path: Path) -> Certificate:
    """The first certificate of a PEM file; not verified.

    Raises:
        CertificateInvalid: It cannot be read.
        OSError: It is not there.
    """
    return describe_certificate(load_pem_chain(path.read_bytes())[0])
