"""Which contracts this program has tried before: so that a restart does not try them all again.

A file beside the log, a line for each contract: what tried it, and the contract's digest. What was tried by other code,
another Python or another validator counts as never tried. Who can write the file can skip a trial, which protects this
process from contracts that cost too much; he can write its other files as well.
"""

from __future__ import annotations

import hashlib
import re
import sys
import threading
from functools import cache
from importlib.metadata import version
from pathlib import Path

import structlog

import registry.contract

_log = structlog.get_logger("lienthong.contracts")
_LINE = re.compile(r"([0-9a-f]{64}) ([0-9a-f]{64})")
_MOST = 10_000


@cache
def _tried_by() -> str:
    """Digest of the code that reads, compiles and validates contracts."""
    digest = hashlib.sha256(f"{sys.version} {version('jsonschema-rs')} {version('openapi-spec-validator')}".encode())
    for path in sorted(Path(registry.contract.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class TriedContracts:
    """Implements `bus.exchange.contracts.Verdicts`.

    Args:
        path: of the file; made with the first verdict.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._passed = self._read()

    def _read(self) -> dict[str, None]:
        try:
            lines = self._path.read_text(encoding="ascii").splitlines()
        except (OSError, UnicodeDecodeError):
            return {}
        found = (_LINE.fullmatch(line) for line in lines[-_MOST:])
        return {match[2]: None for match in found if match is not None and match[1] == _tried_by()}

    def has_passed(self, sha256: str) -> bool:
        """See `bus.exchange.contracts.Verdicts`."""
        return sha256 in self._passed

    def passed(self, sha256: str) -> None:
        """See `bus.exchange.contracts.Verdicts`."""
        with self._lock:
            self._passed[sha256] = None
            if len(self._passed) > _MOST:  # the one that was tried first goes: strangers publish contracts, too
                del self._passed[next(iter(self._passed))]
            text = "".join(f"{_tried_by()} {one}\n" for one in self._passed)
            try:
                fresh = self._path.with_name(f".{self._path.name}.new")
                fresh.write_text(text, encoding="ascii")
                fresh.replace(self._path)
            except OSError as error:
                _log.info("contract.verdict-unkept", error=type(error).__name__)
