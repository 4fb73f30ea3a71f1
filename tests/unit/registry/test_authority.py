from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from registry_feed import Clock, MemoryFeed
from registry_world import CLIENT, CONSUMER, PROVIDER, RIGHT, SERVICE, START, SUBSYSTEM, Party, World, time_at

from evidence.errors import EvidenceError
from evidence.issue import to_pem
from evidence.leaf import DIRECTORY
from evidence.merkle import leaf_hash
from registry import documents as d
from registry.authority import Authority
from registry.envelope import add_signature
from registry.errors import (
    AuthorshipRefused,
    ContractMismatch,
    ContractMissing,
    DocumentMalformed,
    DocumentRefused,
    EnvelopeInvalid,
    FeedUnavailable,
    NotFound,
    QueueFull,
    RegistryError,
    RegistryUnavailable,
    RequestConflict,
    StoreUnusable,
    TooLarge,
)
from registry.follower import Follower
from registry.requests import Refusal, sign_refusal
from registry.settings import AuthoritySettings
from registry.trial import try_service

CONTRACT = json.dumps(
    {
        "openapi": "3.1.0",
        "info": {"title": "Citizens", "version": "1.0.0"},
        "paths": {
            "/citizens/{id}": {
                "get": {
                    "operationId": "getCitizen",
                    "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
                    "responses": {
                        "200": {
                            "description": "ok",
                            "content": {
                                "application/json": {
                                    "schema": {
                                        "type": "object",
                                        "properties": {
                                            "name": {"type": "string"},
                                            "address": {"type": "string", "x-lienthong-field": "address"},
                                        },
                                    }
                                }
                            },
                        }
                    },
                }
            }
        },
    }
).encode()
DIGEST = hashlib.sha256(CONTRACT).hexdigest()
OPERATIONS = (d.Operation(id="getCitizen", method="GET", path="/citizens/{id}"),)


class Heard:
    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []

    def accepted(self, type: str, index: int) -> None:
        self.events.append(("accepted", type, index))

    def refused(self, code: str) -> None:
        self.events.append(("refused", code))

    def published(self, size: int) -> None:
        self.events.append(("published", size))

    def failed(self, error: Exception) -> None:
        self.events.append(("failed", type(error).__name__))


class Office:
    """A world whose documents go through an authority."""

    def __init__(self, folder: Path) -> None:
        self.world, self.folder = World(), folder
        self.clock, self.feed, self.heard = Clock(), MemoryFeed(), Heard()
        self.tokens = itertools.count(10**20)
        self.tried: list[bytes] = []
        self.authority: Authority

    async def open(self, **changes: object) -> Authority:
        values: dict[str, object] = {
            "genesis": self.world.genesis,
            "instance": self.world.instance,
            "log_signer": self.world.log_signer,
            "cosigner": self.world.cosigner,
            "now": self.clock,
            "token": lambda: str(next(self.tokens)),
            "feed": self.feed,
            "settings": AuthoritySettings(max_requests=2, heartbeat_s=5),
            "observer": self.heard,
            "try_contract": self.try_contract,
        }
        self.authority = await Authority.open(self.folder, **{**values, **changes})
        return self.authority

    async def try_contract(self, contract: bytes) -> None:
        self.tried.append(contract)

    async def submit(self, document: d.AnyDocument, *parties: Party, genesis: str | None = "") -> bytes:
        jws = self.world.sign(document, *parties, genesis=genesis)
        accepted = await self.authority.submit(jws)
        assert accepted.leaf_hash == leaf_hash(DIRECTORY + jws)
        self.world.digests.setdefault((document.type, document.subject), []).append(accepted.digest)
        return jws

    async def begin(self) -> Office:
        world = self.world
        await self.submit(world.anchor, world.operator, genesis=None)
        await self.submit(world.member(world.provider), world.operator)
        await self.submit(world.member(world.consumer), world.operator)
        await self.submit(world.subsystem(SUBSYSTEM), world.provider)
        await self.submit(world.subsystem(CLIENT), world.consumer)
        await self.submit(world.node(f"{PROVIDER}/@n1"), world.provider)
        return self

    def service(self, **changes: object) -> d.Service:
        values: dict[str, object] = {"contract": DIGEST, "operations": OPERATIONS, "fields": ("address",)}
        return self.world.service(SERVICE, **{**values, **changes})

    async def publish_service(self) -> None:
        self.authority.store.put_contract(DIGEST, CONTRACT)
        await self.submit(self.service(), self.world.provider)
        await self.submit(self.world.access(RIGHT, fields=("address",)), self.world.provider)

    async def refused(self, document: d.AnyDocument, *parties: Party) -> str:
        with pytest.raises(RegistryError) as caught:
            await self.submit(document, *(parties or (self.world.provider,)))
        assert ("refused", caught.value.code) == self.heard.events[-1]
        return caught.value.code


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    found = Office(tmp_path)
    await found.open()
    await found.begin()
    yield found
    await found.authority.close()


async def test_what_the_authority_accepts_a_follower_accepts(office: Office, tmp_path: Path) -> None:
    await office.publish_service()
    await office.authority.heartbeat()
    follower = Follower(office.feed, tmp_path / "follower.db", office.world.genesis, now=office.clock)
    await follower.update()
    assert follower.directory.heads == office.authority.directory.heads
    assert follower.directory.view == office.authority.directory.view
    assert follower.directory.skipped_count == 0
    assert await follower.contract(DIGEST) == CONTRACT
    follower.close()


async def test_the_same_bytes_again_give_the_same_answer(office: Office) -> None:
    jws = await office.submit(office.world.subsystem(f"{PROVIDER}/a"), office.world.provider)
    size = office.authority.log.size
    first = await office.authority.submit(jws)
    assert first.at == size - 1
    assert first.leaf_hash == leaf_hash(DIRECTORY + jws)
    assert office.authority.log.size == size


async def test_what_readers_would_skip_is_refused_with_their_code(office: Office) -> None:
    world = office.world
    assert await office.refused(world.subsystem(f"{PROVIDER}/a"), world.consumer) == "member-signature-missing"
    assert await office.refused(world.subsystem(SUBSYSTEM, seq=7, prev="0" * 64)) == "sequence-gap"
    assert await office.refused(world.subsystem(f"{PROVIDER}/a", instance="VN-OTHER")) == "wrong-instance"
    with pytest.raises(DocumentRefused):
        await office.authority.submit(b"nonsense")
    with pytest.raises(TooLarge):
        await office.authority.submit(b"x" * 70_000)
    assert office.authority.directory.skipped_count == 0


async def test_documents_dated_far_from_now_are_refused(office: Office) -> None:
    late = time_at(100 + 6)
    early = "2026-01-05T08:30:00.000000Z"
    assert await office.refused(office.world.subsystem(f"{PROVIDER}/a", issued=late)) == "issued-implausible"
    office.clock.advance(days=7)
    assert await office.refused(office.world.subsystem(f"{PROVIDER}/a", issued=early)) == "issued-implausible"


async def test_a_confirmation_before_its_time_is_refused_by_the_clock(office: Office) -> None:
    world = office.world
    new = world.party(PROVIDER)
    keys = (new.pinned(),)
    world.minute = 100
    await office.submit(world.member(world.provider, keys=keys, change="announced"), world.operator)
    office.clock.advance(days=7, seconds=-10)
    world.minute += 7 * 24 * 60
    assert (
        await office.refused(world.member(world.provider, keys=keys, change="confirmed"), world.operator)
        == "recovery-not-due"
    )
    office.clock.advance(minutes=5)
    await office.submit(world.member(world.provider, keys=keys, change="confirmed"), world.operator)
    entry = office.authority.directory.member(PROVIDER)
    assert entry is not None
    assert entry.signing_keys == {new.keyid}


async def test_a_service_needs_its_contract_first(office: Office) -> None:
    with pytest.raises(ContractMissing):
        await office.submit(office.service(), office.world.provider)
    assert office.heard.events[-1] == ("refused", "contract-missing")


async def test_a_service_repeats_its_contract(office: Office) -> None:
    office.authority.store.put_contract(DIGEST, CONTRACT)
    other = (d.Operation(id="getCitizen", method="GET", path="/persons/{id}"),)
    assert await office.refused(office.service(operations=other)) == "contract-mismatch"
    assert await office.refused(office.service(fields=())) == "contract-mismatch"
    bad = b'{"openapi":"3.1.0"}'
    office.authority.store.put_contract(hashlib.sha256(bad).hexdigest(), bad)
    assert await office.refused(office.service(contract=hashlib.sha256(bad).hexdigest())) == "contract-rejected"
    await office.submit(office.service(), office.world.provider)


async def test_a_right_names_what_the_service_has(office: Office) -> None:
    await office.publish_service()
    world = office.world
    assert await office.refused(world.access(f"{SERVICE}#x", operations=("drop",))) == "operation-unknown"
    assert await office.refused(world.access(f"{SERVICE}#x", fields=("religion",))) == "field-unknown"
    assert await office.refused(world.access(f"{PROVIDER}/population/none#x")) == "service-unknown"
    await office.submit(world.access(f"{SERVICE}#x", fields=("*",), operations=("getCitizen",)), world.provider)
    await office.submit(office.service(title="Renamed"), world.provider)
    assert office.tried == [CONTRACT], "a contract that passed once is not tried again"


async def test_contracts_are_kept_by_digest_within_limits(office: Office) -> None:
    store = office.authority.store
    store.put_contract(DIGEST, CONTRACT)
    store.put_contract(DIGEST, CONTRACT)
    with pytest.raises(ContractMismatch):
        store.put_contract("0" * 64, CONTRACT)
    with pytest.raises(TooLarge):
        store.put_contract("0" * 64, b"x" * 1_048_577)
    store._max_contracts_bytes = len(CONTRACT)
    with pytest.raises(QueueFull):
        store.put_contract(hashlib.sha256(b"x").hexdigest(), b"x")


async def test_contracts_of_strangers_make_room_for_others(office: Office) -> None:
    await office.publish_service()
    store = office.authority.store
    strangers = [b"%d" % at * 100 for at in range(100, 200)]
    for data in strangers:
        office.authority.put_contract(hashlib.sha256(data).hexdigest(), data)
    store._max_contracts_bytes = store._contract_bytes()
    office.authority.put_contract(hashlib.sha256(b"new").hexdigest(), b"new")
    kept = [store.contract(hashlib.sha256(data).hexdigest()) is not None for data in strangers]
    assert kept == [False] * 36 + [True] * 64, "the newest may be about to be published"
    assert store.contract(DIGEST) == CONTRACT, "a service names it"


async def test_a_slow_trial_holds_up_neither_heartbeats_nor_other_documents(office: Office) -> None:
    trying, go_on = asyncio.Event(), asyncio.Event()

    async def slow(contract: bytes) -> None:
        trying.set()
        await go_on.wait()

    office.authority._trials._try_contract = slow
    office.authority.put_contract(DIGEST, CONTRACT)
    publishing = asyncio.ensure_future(office.submit(office.service(), office.world.provider))
    async with asyncio.timeout(5):
        await trying.wait()
        await office.authority.heartbeat()
        await office.submit(office.world.subsystem(f"{PROVIDER}/other"), office.world.provider)
        go_on.set()
        await publishing
    assert office.authority.directory.service(SERVICE) is not None


async def test_what_changed_during_a_trial_is_tried_again(office: Office) -> None:
    await office.publish_service()
    world, tried = office.world, []
    honest = office.authority._trials.run

    async def meanwhile(document: d.AnyDocument) -> None:
        tried.append(document.subject)
        await honest(document)
        if len(tried) == 1:
            terms = d.Catalogue(**world.common("catalogue", world.instance), purposes=(d.Term(code="residence"),))
            await office.submit(terms, world.operator)

    office.authority._trials.run = meanwhile
    right = world.access(f"{SERVICE}#second", purposes=("curiosity",))
    assert await office.refused(right) == "purpose-unknown"
    assert tried == [right.subject] * 2


async def test_the_registry_starts_again_where_it_was(office: Office) -> None:
    await office.publish_service()
    heads, size = office.authority.directory.heads, office.authority.log.size
    await office.authority.close()
    authority = await office.open()
    assert authority.directory.heads == heads
    assert authority.log.size == size + 1, "a boot leaf"
    assert authority.directory.size == size + 1
    assert authority.anchors()[0].startswith(b"{")
    assert json.loads(authority.newest("service", SERVICE).payload)["subject"] == SERVICE
    with pytest.raises(NotFound):
        authority.newest("service", "nothing")


async def test_a_lost_fold_is_made_again_from_the_log(office: Office, tmp_path: Path) -> None:
    heads = office.authority.directory.heads
    await office.authority.close()
    (tmp_path / "copy.db").unlink()
    assert (await office.open()).directory.heads == heads


async def test_a_log_older_than_its_fold_halts(office: Office, tmp_path: Path) -> None:
    await office.authority.close()
    with sqlite3.connect(tmp_path / "copy.db") as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE key = 'folded'")
    connection.close()
    with pytest.raises(StoreUnusable, match="older"):
        await office.open()
    (tmp_path / "copy.db").unlink()
    await office.open()


async def test_an_unknown_append_is_found_when_submitted_again(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    log = office.authority.log
    append = log.append

    async def appends_but_says_no(leaves: list[bytes]) -> None:
        await append(leaves)
        raise EvidenceError("unknown outcome")

    document = office.world.subsystem(f"{PROVIDER}/a")
    jws = office.world.sign(document, office.world.provider)
    monkeypatch.setattr(log, "append", appends_but_says_no)
    with pytest.raises(RegistryUnavailable):
        await office.authority.submit(jws)
    size = log.size
    accepted = await office.authority.submit(jws)
    assert accepted.at == size - 1
    assert log.size == size


# The feed ---------------------------------------------------------------------------------------------------------


async def test_entries_are_published_before_their_checkpoint(office: Office) -> None:
    await office.publish_service()
    await office.authority.heartbeat()
    assert office.feed.published == ["entries 0+9", f"blob {DIGEST[:8]}", "checkpoint"]
    office.feed.published.clear()
    await office.authority.heartbeat()
    assert office.feed.published == ["checkpoint"]
    for number in range(60):
        await office.submit(office.world.subsystem(f"{PROVIDER}/a{number}"), office.world.provider)
    office.feed.published.clear()
    await office.authority.heartbeat()
    assert office.feed.published == ["entries 0+64", "entries 64+5", "checkpoint"]


async def test_a_feed_that_lost_its_store_is_filled_again(office: Office) -> None:
    await office.publish_service()
    await office.authority.heartbeat()
    office.feed.bundles.clear()
    office.feed.blobs.clear()
    office.feed.checkpoint = None
    await office.authority.heartbeat()
    assert len(office.feed.bundles[0]) == 9
    assert DIGEST in office.feed.blobs
    office.feed.checkpoint = b"rubbish"
    office.feed.bundles.clear()
    await office.authority.heartbeat()
    assert len(office.feed.bundles[0]) == 9


async def test_a_feed_that_hangs_is_given_up(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(note: bytes) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(office.feed, "publish_checkpoint", never)
    monkeypatch.setattr(office.authority._publisher, "_timeout_s", 0.01)
    with pytest.raises(FeedUnavailable):
        await office.authority.heartbeat()


async def test_heartbeats_go_on_through_failures_and_follow_documents(office: Office) -> None:
    async with asyncio.timeout(10):
        office.feed.down = True
        running = asyncio.create_task(office.authority.run())
        while ("failed", "FeedUnavailable") not in office.heard.events:
            await asyncio.sleep(0)
        office.feed.down = False
        await office.submit(office.world.subsystem(f"{PROVIDER}/a"), office.world.provider)
        while not any(event[0] == "published" for event in office.heard.events):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])


async def test_the_heartbeat_has_its_own_interval(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(office.authority, "_settings", AuthoritySettings(heartbeat_s=0.001))
    async with asyncio.timeout(10):
        running = asyncio.create_task(office.authority.run())
        while len(office.feed.published) < 4:
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])


async def test_before_the_anchor_nothing_is_published(tmp_path: Path) -> None:
    office = Office(tmp_path)
    authority = await office.open(observer=None)
    await authority.heartbeat()
    assert office.feed.published == []
    assert authority.unready() == ["no-anchor"]
    with pytest.raises(RegistryUnavailable):
        authority.checkpoint()
    with pytest.raises(DocumentRefused):
        await authority.submit(b"{}")
    await office.submit(office.world.anchor, office.world.operator, genesis=None)
    assert authority.unready() == []
    await authority.close()
    quiet = await office.open(feed=None, observer=None, settings=None)
    await quiet.heartbeat()
    await quiet.close()


# Requests ---------------------------------------------------------------------------------------------------------


def ask(office: Office, id_: str = "VN-TEST/GOV/NEW") -> tuple[Party, d.Member, bytes]:
    newcomer = office.world.party(id_)
    document = office.world.member(newcomer)
    return newcomer, document, office.world.sign(document, newcomer)


async def test_a_request_is_approved_with_the_operators_signature(office: Office) -> None:
    newcomer, _, jws = ask(office)
    request = office.authority.admissions.request(jws)
    assert office.authority.admissions.request(jws) == request
    assert (request.member, request.keys, request.state) == (newcomer.id, (newcomer.keyid,), "pending")
    operator = office.world.operator
    approval = add_signature(office.authority.store.request_bytes(request.id), operator.signer, operator.chain)
    decided = await office.authority.admissions.decide(request.id, approval)
    assert decided.state == "approved"
    assert office.authority.directory.member(newcomer.id) is not None
    with pytest.raises(RequestConflict):
        await office.authority.admissions.decide(request.id, approval)
    with pytest.raises(DocumentRefused, match="already a member"):
        office.authority.admissions.request(jws)
    assert office.authority.store.requests() == [decided]


async def test_a_certificate_waits_for_the_approval(office: Office) -> None:
    newcomer, _, jws = ask(office)
    request = office.authority.admissions.request(jws)
    pem = to_pem(newcomer.chain)
    with pytest.raises(EnvelopeInvalid):
        office.authority.admissions.certify(request.id, b"nonsense")
    office.authority.admissions.certify(request.id, pem)
    assert office.authority.store.certificate(request.id) == pem
    assert office.authority.store.decision(request.id) == b""
    operator = office.world.operator
    approval = add_signature(office.authority.store.request_bytes(request.id), operator.signer, operator.chain)
    await office.authority.admissions.decide(request.id, approval)
    assert office.authority.store.decision(request.id) == approval
    with pytest.raises(RequestConflict):
        office.authority.admissions.certify(request.id, pem)
    with pytest.raises(NotFound):
        office.authority.admissions.certify("nothing", pem)
    assert office.authority.store.certificate("nothing") == b""


async def test_a_request_is_refused_with_a_signed_reason(office: Office) -> None:
    _, _, jws = ask(office)
    request = office.authority.admissions.request(jws)
    operator = office.world.operator

    def refusal(signer: Party, **changes: str) -> bytes:
        values = {"request": request.id, "reason": "wrong code", "issued": time_at(90)}
        return sign_refusal(Refusal(**{**values, **changes}), signer.signer, signer.chain, office.world.genesis)

    with pytest.raises(AuthorshipRefused):
        await office.authority.admissions.decide(request.id, refusal(office.world.consumer))
    with pytest.raises(DocumentRefused, match="another request"):
        await office.authority.admissions.decide(request.id, refusal(operator, request="x"))
    with pytest.raises(DocumentMalformed):
        await office.authority.admissions.decide(request.id, refusal(operator, issued="now" * 9))
    decided = await office.authority.admissions.decide(request.id, refusal(operator))
    assert (decided.state, decided.reason) == ("refused", "wrong code")
    with pytest.raises(NotFound):
        await office.authority.admissions.decide("nothing", b"")
    with pytest.raises(NotFound):
        office.authority.store.request_bytes("nothing")


async def test_refusals_have_one_encoding(office: Office) -> None:
    from evidence import jws
    from registry.envelope import protected_header

    request = office.authority.admissions.request(ask(office)[2])
    operator = office.world.operator
    header = protected_header("request-refusal", operator.chain, office.world.genesis)
    for payload in (b"{}", b'{ "request":"a","reason":"b","issued":"2026-01-05T08:00:00.000000Z"}'):
        with pytest.raises(DocumentMalformed):
            await office.authority.admissions.decide(request.id, jws.sign_flattened(payload, header, operator.signer))


async def test_only_requested_keys_can_be_approved(office: Office) -> None:
    newcomer, _, jws = ask(office)
    request = office.authority.admissions.request(jws)
    operator = office.world.operator
    swapped = office.world.member(office.world.party(newcomer.id))
    with pytest.raises(DocumentRefused, match="requested keys"):
        await office.authority.admissions.decide(request.id, office.world.sign(swapped, operator))
    other = office.world.member(office.world.party("VN-TEST/GOV/OTHER"))
    with pytest.raises(DocumentRefused, match="an approval is"):
        await office.authority.admissions.decide(request.id, office.world.sign(other, operator))
    with pytest.raises(DocumentRefused):
        await office.authority.admissions.decide(request.id, jws)
    assert office.authority.store.request(request.id).state == "pending"


async def test_requests_are_signed_by_their_own_key_and_bounded(office: Office) -> None:
    world = office.world
    newcomer, document, jws = ask(office)
    with pytest.raises(DocumentRefused, match="pins for signing"):
        office.authority.admissions.request(world.sign(document, world.consumer))
    with pytest.raises(DocumentRefused, match="first member document"):
        office.authority.admissions.request(world.sign(world.subsystem(f"{PROVIDER}/a"), world.provider))
    office.authority.admissions.request(jws)
    with pytest.raises(RequestConflict):
        office.authority.admissions.request(world.sign(world.member(newcomer), newcomer))
    office.authority.admissions.request(ask(office)[2])  # by another key: the operator decides whose the name is
    for one in office.authority.store.requests():  # what the operator began to approve makes no room
        office.authority.store.put_certificate(one.id, b"certificate")
    with pytest.raises(QueueFull):
        office.authority.admissions.request(ask(office, "VN-TEST/GOV/NEW3")[2])
    office.clock.advance(days=31)
    office.authority.admissions.request(ask(office, "VN-TEST/GOV/NEW3")[2])
    assert [one.member for one in office.authority.store.requests()] == ["VN-TEST/GOV/NEW3"], "nobody blocks for ever"
    assert newcomer.id
    assert CONSUMER
    assert START


async def test_a_contract_that_was_lost_does_not_stop_the_feed(office: Office) -> None:
    await office.publish_service()
    office.authority.store._connection.execute("DELETE FROM contract")
    await office.authority.heartbeat()
    assert office.feed.published == ["entries 0+9", "checkpoint"]


def test_a_trial_looks_at_the_announced_bytes_only() -> None:
    document = World().service(SERVICE)
    with pytest.raises(ContractMismatch, match="digest"):
        try_service(document, b"other", [])


async def test_a_contract_that_breaks_callers_needs_a_new_version(office: Office) -> None:
    await office.publish_service()
    broken = CONTRACT.replace(b"/citizens/{id}", b"/persons/{id}")
    digest = hashlib.sha256(broken).hexdigest()
    office.authority.store.put_contract(digest, broken)
    operations = (d.Operation(id="getCitizen", method="GET", path="/persons/{id}"),)
    changes: dict[str, object] = {"contract": digest, "operations": operations}
    assert await office.refused(office.service(**changes)) == "breaking-change"
    await office.submit(office.service(**changes, version="2.0.0"), office.world.provider)


async def test_a_right_names_only_words_of_the_catalogue(office: Office) -> None:
    await office.publish_service()
    world = office.world
    terms = d.Catalogue(**world.common("catalogue", world.instance), purposes=(d.Term(code="residence"),))
    await office.submit(terms, world.operator)
    other = f"{SERVICE}#other"
    assert await office.refused(world.access(other, purposes=("curiosity",))) == "purpose-unknown"
    await office.submit(world.access(other, purposes=("residence",), grounds=("any words",)), world.provider)
    await office.submit(world.access(f"{SERVICE}#any", purposes=("*",)), world.provider)
