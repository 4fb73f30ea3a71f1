"""What a node says of itself: readiness, status, gauges."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from bus.envelope import KNOWN
from bus.front.admin import Check
from bus.gateway.parts import Parts
from bus.gateway.sealingkeys import days_left
from bus.settings import GatewaySettings
from evidence.log import ExchangeLog


class Health:
    """Readiness and status of one node.

    Attributes:
        log: once it is open.
        warm: set once the contracts that matter were tried.
        serving_code: empty when calls are taken; otherwise why not (`starting`, `confirming-head`, `draining`, …).
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.log: ExchangeLog | None = None
        self.serving_code = "starting"
        self.warm = asyncio.Event()

    def warmed(self) -> None:
        """The contracts that matter have been tried: first calls do not wait for that any more."""
        self.warm.set()

    def checks(self) -> list[Check]:
        """What readiness depends on."""
        parts, fresh = self._parts, self._parts.follower.fresh(self._parts.clock.now())
        found = [
            _check("log", self.log is not None and self.log.writable, "log-unwritable", "free disk space; tried again"),
            _check("directory", fresh, "directory-stale", "is the broker up, and the registry?"),
            _check("broker", parts.connection.connected, "broker-unavailable", "the gateway reconnects by itself"),
        ]
        if not self.warm.is_set() and fresh:
            found.append(Check("contracts", False, "contracts-loading", "each is tried once, before its first use"))
        own = parts.follower.directory.node_by_origin(parts.origin)
        if own is not None and own.status == "revoked":
            found.append(Check("trust", False, "own-node-revoked", "nobody accepts what this node sends"))
        if parts.standing.unknown:
            found.append(Check("revocation", False, "revocation-unknown", "a revocation list is too old: see the log"))
        if self.serving_code:
            found.append(Check("serving", False, self.serving_code, "calls are answered with 503 until this is over"))
        if parts.maintenance.notice is not None:
            found.append(Check("maintenance", False, "maintenance", "an operator ends it with maintenance.off"))
        return found

    def status(self, settings: GatewaySettings, front_url: str) -> dict[str, object]:
        """Facts for operators."""
        parts, log = self._parts, self.log
        return {
            "node": parts.node,
            "origin": parts.origin,
            "front": front_url,
            "log": None if log is None else {"size": log.size, "root": log.root.hex()},
            "directory": {"view": parts.follower.directory.view, "as_of": parts.follower.as_of},
            "services": sorted(service.id for service in settings.service),
            "maintenance": parts.maintenance.notice,
            "wire": {
                "reads": sorted(KNOWN.spoken),
                "announced": parts.versions.own(),
                "with": parts.versions.peers(),
            },
            "peers_forked": sorted(parts.memory.forked),
        }

    def refresh(self, settings: GatewaySettings) -> None:
        """Brings gauges up to date, before a scrape."""
        parts, log = self._parts, self.log
        metrics, now, as_of = parts.metrics, parts.clock.now(), parts.follower.as_of
        metrics.log_writable.set(1 if log is not None and log.writable else 0)
        metrics.log_size.set(log.size if log is not None else 0)
        metrics.directory_age.set((now - as_of).total_seconds() if as_of is not None else float("inf"))
        metrics.directory_size.set(parts.follower.directory.size)
        metrics.broker_credential.set(parts.broker_user.seconds_left())
        metrics.wire_version.labels("reads").set(KNOWN.newest)
        metrics.wire_version.labels("announced").set(parts.versions.own() or 0)
        metrics.wire_peer.clear()
        for receiver, version in parts.versions.peers().items():
            metrics.wire_peer.labels(receiver).set(version or 0)
        directory = parts.follower.directory
        metrics.sealing_days.labels("query").set(days_left(parts.query_keys, directory, now))
        metrics.sealing_days.labels("answer").set(days_left(parts.answer_keys, directory, now))
        for name, path in (
            ("member", settings.keys.member_certificate),
            ("front", settings.front.certificate),
            ("broker-authority", settings.broker.ca),
        ):
            if path is not None:
                metrics.certificate_days.labels(name).set(_days_left(path, now))


def _check(name: str, ok: bool, code: str, detail: str) -> Check:
    return Check(name, True) if ok else Check(name, False, code, detail)


def _days_left(path: Path, now: datetime) -> float:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    return (certificate.not_valid_after_utc.replace(tzinfo=UTC) - now).total_seconds() / 86_400
