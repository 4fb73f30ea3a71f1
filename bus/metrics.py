"""Metrics of a gateway, `lienthong_*`. Labels are bounded: never a person, a dossier or an exchange id.

Classic histograms with buckets cut to the goals. Children are kept, because looking a label up costs as much as
counting.
"""

from __future__ import annotations

from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from bus.ports import Side

disable_created_metrics()  # type: ignore[no-untyped-call]

_EXCHANGE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_COMMIT_BUCKETS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2)
_BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class GatewayMetrics:
    """All metrics of one gateway process; implements the observer ports of its parts."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self._make_exchange_metrics(registry)
        self._make_log_metrics(registry)
        self._make_trust_metrics(registry)
        self._make_broker_metrics(registry)
        self._make_source_metrics(registry)
        self._make_outbox_metrics(registry)
        self._make_task_metrics(registry)
        self._children = lru_cache(maxsize=8192)(self._make_children)
        self._in_flight: dict[Side, int] = {"client": 0, "provider": 0}
        self.flight.labels("client").set_function(lambda: self._in_flight["client"])
        self.flight.labels("provider").set_function(lambda: self._in_flight["provider"])

    def _make_exchange_metrics(self, registry: CollectorRegistry) -> None:
        """Of queries, and of what does not become one."""
        self.exchanges = Counter(
            "lienthong_exchanges_total",
            "Exchanges that ended, by side, service, peer member and outcome.",
            ("side", "service", "peer", "outcome"),
            registry=registry,
        )
        self.exchange_bytes = Counter(
            "lienthong_exchange_bytes_total",
            "Body bytes of exchanges.",
            ("side", "service", "direction"),
            registry=registry,
        )
        self.exchange_seconds = Histogram(
            "lienthong_exchange_seconds",
            "Duration of exchanges as this gateway saw them.",
            ("side", "service", "peer"),
            buckets=_EXCHANGE_BUCKETS,
            registry=registry,
        )
        self.refusals = Counter(
            "lienthong_refusals_total", "Calls refused or failed, by code.", ("side", "code"), registry=registry
        )
        self.drops = Counter(
            "lienthong_dropped_total",
            "Received messages dropped without a record, by code.",
            ("code",),
            registry=registry,
        )
        self.hints = Counter(
            "lienthong_hints_total",
            "Unsigned hints of providers why they dropped a request.",
            ("code",),
            registry=registry,
        )
        self.deprecated_calls = Counter(
            "lienthong_deprecated_calls_total",
            "Calls of deprecated operations of our own services, by calling subsystem.",
            ("service", "operation", "client"),
            registry=registry,
        )
        self.flight = Gauge("lienthong_in_flight", "Exchanges under way.", ("side",), registry=registry)
        self.offset = Gauge(
            "lienthong_clock_offset_seconds",
            "A peer's clock minus ours, last measured.",
            ("member",),
            registry=registry,
        )
        self.alarms = Counter(
            "lienthong_alarms_total", "Things a person must look at.", ("code", "member"), registry=registry
        )

    def _make_log_metrics(self, registry: CollectorRegistry) -> None:
        """Of the exchange log."""
        self.log_commits = Histogram(
            "lienthong_log_commit_seconds", "Duration of log commits.", buckets=_COMMIT_BUCKETS, registry=registry
        )
        self.log_batch = Histogram(
            "lienthong_log_batch_leaves", "Leaves per commit.", buckets=_BATCH_BUCKETS, registry=registry
        )
        self.log_failures = Counter("lienthong_log_failures_total", "Commits that failed.", registry=registry)
        self.log_size = Gauge("lienthong_log_size", "Leaves in the exchange log.", registry=registry)
        self.log_writable = Gauge("lienthong_log_writable", "1 when the log can be written.", registry=registry)

    def _make_trust_metrics(self, registry: CollectorRegistry) -> None:
        """Of the directory, certificates, keys and revocation lists."""
        self.directory_age = Gauge(
            "lienthong_directory_age_seconds", "Age of the directory's newest cosignature.", registry=registry
        )
        self.directory_size = Gauge("lienthong_directory_size", "Documents in the directory.", registry=registry)
        self.certificate_days = Gauge(
            "lienthong_certificate_days_left", "Days until a certificate ends.", ("name",), registry=registry
        )
        self.sealing_days = Gauge(
            "lienthong_sealing_days_left",
            "Days until others have no sealing key of this node left to seal to.",
            ("use",),
            registry=registry,
        )
        self.revocation_left = Gauge(
            "lienthong_revocation_list_left_seconds",
            "Seconds until a revocation list is too old to go on; 0 and less: it is.",
            ("address",),
            registry=registry,
        )
        self.revocation_failures = Counter(
            "lienthong_revocation_list_failures_total",
            "Attempts to fetch a revocation list that failed.",
            ("address",),
            registry=registry,
        )

    def _make_broker_metrics(self, registry: CollectorRegistry) -> None:
        """Of the connection to the broker."""
        self.broker_up = Gauge("lienthong_broker_connected", "1 when connected to the broker.", registry=registry)
        self.broker_denied = Counter(
            "lienthong_broker_denied_total", "Publishes or subscriptions that the broker denied.", registry=registry
        )
        self.broker_credential = Gauge(
            "lienthong_broker_credential_seconds_left",
            "Seconds until the node's broker credentials end; they are renewed when a third is left.",
            registry=registry,
        )
        self.wire_version = Gauge(
            "lienthong_wire_version",
            "Newest version of the wire that this node reads, and that the directory says it reads.",
            ("what",),
            registry=registry,
        )
        self.wire_peer = Gauge(
            "lienthong_wire_peer_version",
            "Version of the wire written for a member, or one node of it; 0: none in common.",
            ("receiver",),
            registry=registry,
        )
        self.overload = Counter(
            "lienthong_overloaded_total", "Messages dropped because too many were under way.", registry=registry
        )

    def _make_source_metrics(self, registry: CollectorRegistry) -> None:
        """Of back ends."""
        self.source_calls = Histogram(
            "lienthong_source_seconds",
            "Duration of calls to back ends, by outcome.",
            ("service", "outcome"),
            buckets=_EXCHANGE_BUCKETS,
            registry=registry,
        )
        self.breaker_open = Gauge(
            "lienthong_breaker_open",
            "1 when a back end's breaker is open or half open.",
            ("service",),
            registry=registry,
        )

    def _make_outbox_metrics(self, registry: CollectorRegistry) -> None:
        """Of what is on its way to others, and of what client systems are told of it."""
        self.outbox_records = Gauge(
            "lienthong_outbox_records",
            "Commands and results that wait for the receiver's signed receipt.",
            registry=registry,
        )
        self.outbox_oldest = Gauge(
            "lienthong_outbox_oldest_seconds",
            "Age of the oldest record in the outbox; 0 when empty.",
            registry=registry,
        )
        self.outbox_depth = Gauge(
            "lienthong_outbox_member_records",
            "Records in the outbox by receiving member and kind (command, reply); beyond 50 as others.",
            ("member", "kind"),
            registry=registry,
        )
        self.outbox_depth_oldest = Gauge(
            "lienthong_outbox_member_oldest_seconds",
            "Age of the oldest of them.",
            ("member", "kind"),
            registry=registry,
        )
        self.outbox_service = Gauge(
            "lienthong_outbox_service_records",
            "Commands in the outbox by service; beyond 50 as others, unread: not tried since the start.",
            ("service",),
            registry=registry,
        )
        self.outbox_service_oldest = Gauge(
            "lienthong_outbox_service_oldest_seconds", "Age of the oldest of them.", ("service",), registry=registry
        )
        self.hooks = Counter(
            "lienthong_webhooks_total",
            "Attempts to tell client systems of their commands: told, failed (tried again), gone or given-up.",
            ("outcome",),
            registry=registry,
        )

    def _make_task_metrics(self, registry: CollectorRegistry) -> None:
        """Of commands that are done for others."""
        self.tasks = Gauge(
            "lienthong_commands_taken",
            "Commands of others without a result, by service and state: waiting, doing or dead.",
            ("service", "state"),
            registry=registry,
        )
        self.task_oldest = Gauge(
            "lienthong_commands_oldest_seconds",
            "Age of the oldest command of others without a result, by service and state: waiting or dead.",
            ("service", "state"),
            registry=registry,
        )
        self.task_retries = Counter(
            "lienthong_command_retries_total",
            "Attempts at commands that did not succeed and are followed by another one, by reason.",
            ("service", "code"),
            registry=registry,
        )
        self.task_dead = Counter(
            "lienthong_command_dead_total",
            "Commands that became dead letters, by reason.",
            ("service", "code"),
            registry=registry,
        )
        self.tasks_taken_over = Counter(
            "lienthong_commands_taken_over_total",
            "Commands that this node took over from a dead node of its member.",
            ("service",),
            registry=registry,
        )

    def _make_children(
        self, side: Side, service: str, peer: str, outcome: str
    ) -> tuple[Counter, Counter, Counter, Histogram]:
        return (
            self.exchanges.labels(side, service, peer, outcome),
            self.exchange_bytes.labels(side, service, "sent"),
            self.exchange_bytes.labels(side, service, "received"),
            self.exchange_seconds.labels(side, service, peer),
        )

    def ended(
        self, side: Side, service: str, peer: str, outcome: str, seconds: float, sent: int, received: int
    ) -> None:
        """See `bus.ports.ExchangeObserver`."""
        count, sent_bytes, received_bytes, duration = self._children(side, service, peer, outcome)
        count.inc()
        if sent:
            sent_bytes.inc(sent)
        if received:
            received_bytes.inc(received)
        duration.observe(seconds)

    def refused(self, side: Side, code: str) -> None:
        """See `bus.ports.ExchangeObserver`."""
        self.refusals.labels(side, code).inc()

    def dropped(self, code: str) -> None:
        """See `bus.ports.ExchangeObserver`."""
        self.drops.labels(code).inc()

    def hinted(self, code: str) -> None:
        """See `bus.ports.ExchangeObserver`."""
        self.hints.labels(code).inc()

    def deprecated(self, service: str, operation: str, client: str) -> None:
        """See `bus.ports.ExchangeObserver`."""
        self.deprecated_calls.labels(service, operation, client).inc()

    def clock_offset(self, member: str, seconds: float) -> None:
        """See `bus.ports.ExchangeObserver`."""
        self.offset.labels(member).set(seconds)

    def in_flight(self, side: Side, change: int) -> None:
        """See `bus.ports.ExchangeObserver`."""
        self._in_flight[side] += change

    def alarm(self, code: str, member: str) -> None:
        """See `bus.ports.ExchangeObserver`."""
        self.alarms.labels(code, member).inc()

    def retried(self, service: str, code: str) -> None:
        """See `bus.ports.TaskObserver`."""
        self.task_retries.labels(service, code).inc()

    def buried(self, service: str, code: str) -> None:
        """See `bus.ports.TaskObserver`."""
        self.task_dead.labels(service, code).inc()

    def taken_over(self, service: str) -> None:
        """See `bus.ports.TaskObserver`."""
        self.tasks_taken_over.labels(service).inc()

    def hook(self, outcome: str) -> None:
        """See `bus.ports.HookObserver`."""
        self.hooks.labels(outcome).inc()

    def committed(self, leaves: int, seconds: float) -> None:
        """See `evidence.log.LogObserver`."""
        self.log_commits.observe(seconds)
        self.log_batch.observe(leaves)

    def failed(self) -> None:
        """See `evidence.log.LogObserver`."""
        self.log_failures.inc()

    def connected(self, up: bool) -> None:
        """See `bus.transport.connection.TransportObserver`."""
        self.broker_up.set(1 if up else 0)

    def denied(self) -> None:
        """See `bus.transport.connection.TransportObserver`."""
        self.broker_denied.inc()

    def overloaded(self) -> None:
        """See `bus.transport.connection.TransportObserver`."""
        self.overload.inc()


class SourceMetrics:
    """Observer of one source."""

    def __init__(self, metrics: GatewayMetrics, service: str) -> None:
        self._metrics = metrics
        self._service = service

    def called(self, operation: str, outcome: str, seconds: float) -> None:
        """See `adapters.port.SourceObserver`."""
        del operation
        self._metrics.source_calls.labels(self._service, outcome).observe(seconds)

    def breaker_changed(self, state: str) -> None:
        """See `adapters.port.SourceObserver`."""
        self._metrics.breaker_open.labels(self._service).set(0 if state == "closed" else 1)
