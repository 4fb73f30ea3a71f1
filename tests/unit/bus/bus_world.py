"""Two members' nodes back to back in one process: real logs, real sealing, no network.

`Bus` wires an `Asker` at H37 and an `Answerer` at G01; everything outside them is a fake that a test can turn.
"""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import count
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from adapters.port import AdapterAnswer
from bus import errors
from bus.delivery.store import TABLES as DELIVERY_TABLES
from bus.exchange.answering import Answerer
from bus.exchange.asking import Asker, AskingLimits
from bus.exchange.calls import ClientCall
from bus.exchange.composing import Composer
from bus.exchange.examining import Examiner
from bus.exchange.keeping import TABLES, DayKeys, Keeper
from bus.exchange.limits import InFlight
from bus.exchange.notices import Notices
from bus.exchange.replay import SeenIds
from bus.exchange.sourcing import Sourcing
from bus.exchange.standing import CertificateStanding
from bus.exchange.verification import CheckpointMemory, RecordVerifier, TimeLimits
from bus.exchange.versions import Versions
from bus.sealing.epoch import Opener, Sealer
from bus.sealing.keys import X25519, SealingKeyPair
from evidence import header, leaf
from evidence.log import ExchangeLog, SqliteStore
from evidence.merkle import leaf_hash
from evidence.note import VerifierKey
from evidence.signer import FileSigner
from registry.contract import compile_contract, parse_contract
from registry.quota import QuotaBook
from registry.view import (
    AccessEntry,
    Limits,
    MemberEntry,
    NodeEntry,
    QuotaLimit,
    SealingKeyEntry,
    ServiceEntry,
    ServiceOperation,
    SubsystemEntry,
)

GENESIS = "0f" * 32
NOW = datetime(2026, 11, 23, 1, 2, 3, tzinfo=UTC)
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
H37, G01 = "VN/GOV/H37", "VN/GOV/G01"
NODE_H37, NODE_G01 = f"{H37}/@n1", f"{G01}/@n1"
CLIENT, SERVICE = f"{H37}/onedoor", f"{G01}/population/citizens"
PLAIN_SERVICE = f"{G01}/population/births"
VIEW = f"9 {'ab' * 32}"

CITIZEN = b'{"id":"042091004444","name":"Tr\xe1\xba\xa7n Th\xe1\xbb\x8b Minh","religion":"none"}'
CITIZEN_CUT = '{"id":"042091004444","name":"Trần Thị Minh"}'.encode()


def contract_document() -> bytes:
    """Two operations; the field `religion` is only delivered when a right grants it."""
    citizen = {
        "type": "object",
        "required": ["id", "name"],
        "additionalProperties": False,
        "properties": {
            "id": {"type": "string", "pattern": "^[0-9]{12}$"},
            "name": {"type": "string"},
            "religion": {"type": "string", "x-lienthong-field": "religion"},
        },
    }

    def answers(schema: object) -> object:
        return {"200": {"description": "found", "content": {"application/json": {"schema": schema}}}}

    number = {"name": "number", "in": "path", "required": True, "schema": {"type": "string", "pattern": "^[0-9]{12}$"}}
    return json.dumps(
        {
            "openapi": "3.1.0",
            "info": {"title": "Citizens", "version": "1.0"},
            "paths": {
                "/citizens/{number}": {
                    "get": {"operationId": "getCitizen", "parameters": [number], "responses": answers(citizen)}
                },
                "/confirmations": {
                    "post": {
                        "operationId": "confirm",
                        "requestBody": {
                            "required": True,
                            "content": {"application/json": {"schema": {"type": "object", "required": ["id"]}}},
                        },
                        "responses": answers({"type": "object"}),
                    }
                },
            },
        }
    ).encode()


def plain_document() -> bytes:
    """The same without a marked field."""
    made = json.loads(contract_document())
    del made["paths"]["/citizens/{number}"]["get"]["responses"]["200"]["content"]["application/json"]["schema"][
        "properties"
    ]["religion"]["x-lienthong-field"]
    return json.dumps(made).encode()


DOCUMENTS = {sha256(item).hexdigest(): item for item in (contract_document(), plain_document())}


class Clock:
    """Stands still until it is moved; its randomness is a seeded stream."""

    def __init__(self, at: datetime = NOW, seed: int = 1) -> None:
        self.at = at
        self.seconds = 1000.0
        self._random = random.Random(seed)

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.seconds

    def random(self, length: int) -> bytes:
        return self._random.randbytes(length)

    def pass_time(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)
        self.seconds += seconds


class Heard:
    """An exchange observer that keeps what it heard."""

    def __init__(self) -> None:
        self.endings: list[tuple[str, str, str, str]] = []
        self.refusals: list[tuple[str, str]] = []
        self.drops: list[str] = []
        self.hints: list[str] = []
        self.offsets: dict[str, float] = {}
        self.flight: Counter[str] = Counter()
        self.alarms: list[tuple[str, str]] = []
        self.deprecations: list[tuple[str, str, str]] = []

    def ended(self, side, service, peer, outcome, seconds, sent, received):
        assert seconds >= 0
        assert sent >= 0
        assert received >= 0
        self.endings.append((side, service, peer, outcome))

    def refused(self, side, code):
        self.refusals.append((side, code))

    def dropped(self, code):
        assert code in errors.DROP_CODES
        self.drops.append(code)

    def hinted(self, code):
        self.hints.append(code)

    def deprecated(self, service, operation, client):
        self.deprecations.append((service, operation, client))

    def clock_offset(self, member, seconds):
        self.offsets[member] = seconds

    def in_flight(self, side, change):
        self.flight[side] += change

    def alarm(self, code, member):
        self.alarms.append((code, member))


class FakeDirectory:
    """A directory view over plain dictionaries."""

    genesis, instance, size, root, view = GENESIS, "VN", 9, b"\xab" * 32, VIEW

    def __init__(self) -> None:
        self.members: dict[str, MemberEntry] = {}
        self.subsystems: dict[str, SubsystemEntry] = {}
        self.services: dict[str, ServiceEntry] = {}
        self.access: dict[str, AccessEntry] = {}
        self.nodes: dict[str, NodeEntry] = {}
        self.sealing: list[SealingKeyEntry] = []
        self.revoked: set[tuple[str, str]] = set()

    def member(self, id):
        return self.members.get(id)

    def subsystem(self, id):
        return self.subsystems.get(id)

    def service(self, id):
        return self.services.get(id)

    def rights(self, client, service):
        return tuple(right for right in self.access.values() if (right.client, right.service) == (client, service))

    def is_revoked(self, kind, id):
        return (kind, id) in self.revoked

    def root_at(self, size):
        return {7: b"\xef" * 32, 9: self.root}.get(size)

    def node_by_origin(self, origin):
        return self.nodes.get(origin)

    def nodes_of(self, member):
        return tuple(node for node in self.nodes.values() if node.member == member)

    def resolve_alias(self, id):
        return id

    def services_of(self, member):
        return tuple(service for service in self.services.values() if service.provider == member)

    def sealing_key(self, owner, use, at):
        found = [key for key in self.sealing if key.owner == owner and use in key.use and key.usable(at)]
        return found[-1] if found else None

    def sealing_key_by_id(self, keyid):
        return next((key for key in self.sealing if key.keyid == keyid), None)


def origin_of(node: str) -> str:
    return f"{GENESIS}/{node}/1"


def signer_of(node: str) -> FileSigner:
    return FileSigner(Ed25519PrivateKey.from_private_bytes(sha256(node.encode()).digest()))


def node_entry(node: str, **changes: object) -> NodeEntry:
    origin = origin_of(node)
    values: dict[str, object] = {
        "node": node,
        "member": node.rpartition("/")[0],
        "origin": origin,
        "incarnation": 1,
        "log_key": VerifierKey(origin, signer_of(node).public_bytes),
        "broker_key": bytes(32),
        "tls": None,
        "valid_from_at": LONG_AGO,
        "until_at": None,
        "status": "active",
    }
    return NodeEntry(**{**values, **changes})


def sealing_entry(owner: str, pair: SealingKeyPair, *uses: str) -> SealingKeyEntry:
    public = pair.public_key
    return SealingKeyEntry(
        keyid=public.keyid,
        owner=owner,
        kem=public.kem,
        public=public.public,
        use=frozenset(uses),
        valid_from_at=LONG_AGO,
        until_at=None,
    )


def service_entry(id_: str = SERVICE, document: bytes | None = None, **changes: object) -> ServiceEntry:
    marked = id_ == SERVICE
    document = document or (contract_document() if marked else plain_document())
    values: dict[str, object] = {
        "id": id_,
        "provider": G01,
        "subsystem": id_.rpartition("/")[0],
        "contract_sha256": sha256(document).hexdigest(),
        "title": "Citizens",
        "version": "1.0",
        "operations": {
            "getCitizen": ServiceOperation("getCitizen", "GET", "/citizens/{number}"),
            "confirm": ServiceOperation("confirm", "POST", "/confirmations"),
        },
        "fields": frozenset({"religion"}) if marked else frozenset(),
        "limits": Limits(),
        "enabled": True,
        "notice": "",
        "since_at": LONG_AGO,
        "until_at": None,
    }
    return ServiceEntry(**{**values, **changes})


def access_entry(service: str = SERVICE, client: str = CLIENT, **changes: object) -> AccessEntry:
    values: dict[str, object] = {
        "subject": f"{service}#h37",
        "client": client,
        "service": service,
        "operations": None,
        "purposes": frozenset({"*"}),
        "grounds": frozenset({"*"}),
        "official_required": False,
        "fields": frozenset(),
        "quota": QuotaLimit(),
        "author": G01,
        "since_at": LONG_AGO,
        "valid_from_at": LONG_AGO,
        "until_at": None,
    }
    return AccessEntry(**{**values, **changes})


def member_entry(id_: str, **changes: object) -> MemberEntry:
    values: dict[str, object] = {
        "id": id_,
        "status": "active",
        "names": {"vi": "Cơ quan"},
        "aliases": (),
        "signing_keys": frozenset(),
        "recovery_keys": frozenset(),
        "since_at": LONG_AGO,
    }
    return MemberEntry(**{**values, **changes})


QUERY_PAIR = SealingKeyPair.load(X25519, b"\x11" * 32)
ANSWER_PAIR = SealingKeyPair.load(X25519, b"\x22" * 32)
ANSWER_PAIR_G01 = SealingKeyPair.load(X25519, b"\x33" * 32)


def directory() -> FakeDirectory:
    """Both members with their nodes, keys and subsystems; two services that H37 may call."""
    made = FakeDirectory()
    made.members = {id_: member_entry(id_) for id_ in (H37, G01)}
    made.subsystems = {
        id_: SubsystemEntry(id=id_, member=id_.rpartition("/")[0], names={}) for id_ in (CLIENT, f"{G01}/population")
    }
    made.nodes = {origin_of(node): node_entry(node) for node in (NODE_H37, NODE_G01)}
    made.services = {id_: service_entry(id_) for id_ in (SERVICE, PLAIN_SERVICE)}
    made.access = {id_: access_entry(id_) for id_ in (SERVICE, PLAIN_SERVICE)}
    made.sealing = [
        sealing_entry(G01, QUERY_PAIR, "query", "command"),
        sealing_entry(NODE_H37, ANSWER_PAIR, "answer"),
        sealing_entry(NODE_G01, ANSWER_PAIR_G01, "answer"),
    ]
    return made


_compiled: dict[tuple[str, frozenset[str] | None], object] = {}


class Shelf:
    """Compiled contracts without fetching and trying; stands for `Contracts`."""

    def __init__(self, *, warm: bool = True) -> None:
        self.warm = warm
        self.loads = 0

    def ready(self, service, granted):
        return self._get(service, granted) if self.warm else None

    async def load(self, service, granted, deadline_s=10.0):
        self.loads += 1
        return self._get(service, granted)

    @staticmethod
    def _get(service, granted):
        key = service.contract_sha256, granted if service.fields else None
        if key not in _compiled:
            _compiled[key] = compile_contract(parse_contract(DOCUMENTS[key[0]]), key[1])
        return _compiled[key]


class FakeSource:
    """Answers what the test says; `started` tells that it was called."""

    def __init__(self) -> None:
        self.answer = AdapterAnswer(200, (("x-source", "one"),), "application/json", CITIZEN)
        self.error: BaseException | None = None
        self.requests: list[object] = []
        self.started = asyncio.Event()
        self.release: asyncio.Event | None = None

    async def open(self):
        return

    async def check(self):
        return

    async def close(self):
        return

    async def call(self, request):
        self.requests.append(request)
        self.started.set()
        if self.release is not None:
            await self.release.wait()
        if self.error is not None:
            raise self.error
        return self.answer


@dataclass
class Message:
    data: bytes


class FakeBroker:
    """Takes a query to the answering side and its answer back; a test may alter, replace or lose either."""

    def __init__(self) -> None:
        self.connected = True
        self.handler = None
        self.sent: list[tuple[str, bytes]] = []
        self.asked: list[tuple[str, bytes, float]] = []
        self.alter_query = None
        self.alter_answer = None
        self.instead: bytes | None = None
        self.error: BaseException | None = None
        self.error_at_send: BaseException | None = None
        self._replies = count()

    async def exchange(self, subject, payload, deadline_s):
        self.asked.append((subject, payload, deadline_s))
        if self.error is not None:
            raise self.error
        if self.instead is not None:
            return Message(self.instead)
        if self.alter_query is not None:
            payload = self.alter_query(payload)
        reply = f"_I.GOV~H37~n1.boot.{next(self._replies)}"
        before = len(self.sent)
        await self.handler(subject, reply, payload)
        mine = [data for to, data in self.sent[before:] if to == reply]
        if not mine:
            raise errors.Timeout("no answer came within the deadline")
        return Message(mine[0] if self.alter_answer is None else self.alter_answer(mine[0]))

    async def send(self, subject, payload):
        if self.error_at_send is not None:
            raise self.error_at_send
        self.sent.append((subject, payload))


class Faults:
    """Which commits fail and how; armed after the log was opened."""

    def __init__(self) -> None:
        self.plan: list[str] = []
        self.failed = 0

    def arm(self, *plan: str) -> None:
        """One word a commit from now on: "ok", "fails" (not done) or "reported" (done, but reported as failed)."""
        self.plan = list(plan)

    def run(self, commit) -> None:
        how = self.plan.pop(0) if self.plan else "ok"
        if how != "fails":
            commit()
        if how != "ok":
            self.failed += 1
            raise sqlite3.OperationalError("disk I/O error")


class FaultyStore:
    """A real store whose commits fail as `Faults` says."""

    def __init__(self, path: Path, faults: Faults) -> None:
        self._inner, self._faults = SqliteStore(path), faults

    def open(self) -> None:
        self._inner.open()
        # what a power cut leaves behind is tested with the log itself; here only time would be lost
        self._inner._db.execute("PRAGMA synchronous=OFF")

    def commit(self) -> None:
        self._faults.run(self._inner.commit)

    def __getattr__(self, name: str):
        return getattr(self._inner, name)


@asynccontextmanager
async def open_log(path: Path, node: str, clock: Clock, faults: Faults | None = None):
    """A node's real log."""
    faults = faults or Faults()
    log = await ExchangeLog.open(
        path,
        origin=origin_of(node),
        signer=signer_of(node),
        now=clock.now,
        token=lambda: clock.random(16).hex(),
        schema=TABLES + DELIVERY_TABLES,
        store_factory=lambda path: FaultyStore(path, faults),
        retry_s=0.005,
    )
    try:
        yield log
    finally:
        await log.close()


@dataclass
class Side:
    """One node."""

    node: str
    path: Path
    log: ExchangeLog
    faults: Faults
    heard: Heard
    composer: Composer
    keeper: Keeper
    verifier: RecordVerifier
    day_keys: DayKeys
    versions: Versions

    def records(self) -> list[tuple[int, str, header.Header]]:
        """Exchange records of the log file: index, leaf hash in hex, header."""
        db = sqlite3.connect(self.path)
        try:
            rows = db.execute("SELECT idx, data FROM leaf ORDER BY idx").fetchall()
        finally:
            db.close()
        return [
            (index, leaf_hash(data).hex(), header.decode(leaf.unwrap(data)[1]))
            for index, data in rows
            if leaf.unwrap(data)[0] == leaf.EXCHANGE
        ]

    def types(self) -> list[str]:
        return [record.type for _, _, record in self.records()]

    def closings(self) -> dict[str, list[str]]:
        """Per own query its closing records: the class of each."""
        found = self.records()
        return {
            record.id: [other.class_ for _, _, other in found if other.inreplyto == hashed]
            for _, hashed, record in found
            if record.type == "query" and record.node == self.node
        }

    def rows(self, sql: str) -> list[tuple]:
        db = sqlite3.connect(self.path)
        try:
            return db.execute(sql).fetchall()
        finally:
            db.close()


@dataclass
class Bus:
    """Everything of one test."""

    clock: Clock
    directory: FakeDirectory
    broker: FakeBroker
    source: FakeSource
    shelf: Shelf
    h37: Side
    g01: Side
    asker: Asker
    answerer: Answerer
    per_client: InFlight
    per_service: InFlight
    seen: SeenIds
    stale: list[BaseException]
    standing: CertificateStanding
    maintenance: list[BaseException]

    async def ask(self, **changes: object):
        return await self.asker.ask(call(**changes))

    async def settle(self) -> None:
        """Both logs take appends again."""
        async with asyncio.timeout(20):
            await self.h37.log.until_writable()
            await self.g01.log.until_writable()


def call(**changes: object) -> ClientCall:
    values: dict[str, object] = {
        "client": CLIENT,
        "service": SERVICE,
        "method": "GET",
        "path": "/citizens/042091004444",
        "query": "",
        "headers": (("accept", "application/json"),),
        "content_type": "",
        "body": b"",
        "official": "nguyen.an",
        "purpose": "residence",
    }
    return ClientCall(**{**values, **changes})


def posted(**changes: object) -> dict[str, object]:
    """Members of a call that changes something."""
    return {
        "method": "POST",
        "path": "/confirmations",
        "content_type": "application/json",
        "body": b'{"id":"1"}',
        **changes,
    }


@asynccontextmanager
async def running_bus(folder: Path, *, warm: bool = True, hints_per_s: float = 20.0):
    """An asking node H37 and an answering node G01."""
    clock, view, broker, source, shelf = Clock(), directory(), FakeBroker(), FakeSource(), Shelf(warm=warm)
    faults = {node: Faults() for node in (NODE_H37, NODE_G01)}
    paths = {node: folder / f"{node.split('/')[2]}.db" for node in faults}
    async with (
        open_log(paths[NODE_H37], NODE_H37, clock, faults[NODE_H37]) as log_h37,
        open_log(paths[NODE_G01], NODE_G01, clock, faults[NODE_G01]) as log_g01,
    ):

        def side(node: str, log: ExchangeLog) -> Side:
            heard = Heard()
            sealer = Sealer(GENESIS, origin_of(node), clock.random, clock.monotonic)
            day_keys = DayKeys(folder / f"{node.split('/')[2]}-days", clock.random)
            return Side(
                node=node,
                path=paths[node],
                log=log,
                faults=faults[node],
                heard=heard,
                composer=Composer(GENESIS, node, clock, sealer, lambda: view.view),
                keeper=Keeper(day_keys, clock.random),
                verifier=RecordVerifier(node.rpartition("/")[0], CheckpointMemory(), TimeLimits(), heard.alarm),
                day_keys=day_keys,
                versions=Versions(node, node.rpartition("/")[0], lambda: view, clock, heard.alarm),
            )

        h37, g01 = side(NODE_H37, log_h37), side(NODE_G01, log_g01)
        per_client, per_service, seen = InFlight("client", 8), InFlight("service", 8), SeenIds()
        stale: list[BaseException] = []
        standing, maintenance = CertificateStanding(), []

        def enforced():
            if maintenance:
                raise maintenance[0]
            return view

        def fresh_view():
            if stale:
                raise stale[0]
            return view

        asker = Asker(
            genesis=GENESIS,
            node=NODE_H37,
            member=H37,
            clock=clock,
            observer=h37.heard,
            log=log_h37,
            broker=broker,
            directory=fresh_view,
            contracts=shelf,
            composer=h37.composer,
            keeper=h37.keeper,
            verifier=h37.verifier,
            opener=Opener(GENESIS),
            answer_keys={ANSWER_PAIR.keyid: ANSWER_PAIR},
            versions=h37.versions,
            per_client=per_client,
            per_service=per_service,
            limits=AskingLimits(),
            standing=standing,
        )
        quotas = QuotaBook()
        examiner = Examiner(
            genesis=GENESIS,
            member=G01,
            clock=clock,
            rights=enforced,
            quotas=quotas,
            contracts=shelf,
            opener=Opener(GENESIS),
            query_keys={QUERY_PAIR.keyid: QUERY_PAIR},
        )
        answerer = Answerer(
            clock=clock,
            observer=g01.heard,
            log=log_g01,
            outbound=broker,
            directory=fresh_view,
            examiner=examiner,
            sourcing=Sourcing(clock, g01.heard, lambda: {SERVICE: source, PLAIN_SERVICE: source}),
            composer=g01.composer,
            keeper=g01.keeper,
            verifier=g01.verifier,
            seen=seen,
            versions=g01.versions,
            per_service=InFlight("service", 8),
            max_envelope_bytes=4 * 1024 * 1024,
            notices=Notices(lambda: view, quotas, g01.heard),
            hints_per_s=hints_per_s,
        )
        broker.handler = answerer.on_query
        yield Bus(
            clock=clock,
            directory=view,
            broker=broker,
            source=source,
            shelf=shelf,
            h37=h37,
            g01=g01,
            asker=asker,
            answerer=answerer,
            per_client=per_client,
            per_service=per_service,
            seen=seen,
            stale=stale,
            standing=standing,
            maintenance=maintenance,
        )


def changed(entry, **changes: object):
    """A struct entry with other values."""
    return msgspec.structs.replace(entry, **changes)
