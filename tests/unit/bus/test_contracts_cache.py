"""The cache of contracts with a fake source of bytes; each trial is a real child process, so there are few of them."""

import asyncio
import hashlib
import json

import pytest
from bus_world import PLAIN_SERVICE, SERVICE, contract_document, plain_document, service_entry

from bus.errors import ContractUnavailable
from bus.exchange import contracts as module
from bus.exchange.contracts import Contracts
from registry.contract import ContractRejected, Fault
from registry.contract.errors import TrialUnfinished
from registry.errors import FeedUnavailable


class Blobs:
    def __init__(self, *documents: bytes) -> None:
        self.documents = {hashlib.sha256(item).hexdigest(): item for item in documents}
        self.asked: list[str] = []
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None

    async def contract(self, sha256: str) -> bytes:
        self.asked.append(sha256)
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return self.documents[sha256]


@pytest.fixture
def untried(monkeypatch):
    """Contracts pass their trial without a child process."""
    tried = []

    async def trial(document):
        tried.append(document)

    monkeypatch.setattr(module, "trial_async", trial)
    return tried


async def test_a_contract_is_fetched_tried_and_compiled():
    contracts, service = Contracts(Blobs(plain_document())), service_entry(PLAIN_SERVICE)
    assert contracts.ready(service, None) is None
    compiled = await contracts.load(service, None)
    assert set(compiled.operations) == {"getCitizen", "confirm"}
    assert contracts.ready(service, frozenset({"any"})) is compiled
    assert await contracts.load(service, None) is compiled


async def test_a_contract_that_fails_its_trial_is_refused_for_good():
    broken = b'{"openapi":"3.1.0"}'
    blobs = Blobs(broken)
    contracts, service = Contracts(blobs), service_entry(document=broken)
    for _ in range(2):
        with pytest.raises(ContractUnavailable, match="contract-rejected"):
            await contracts.load(service, None)
    assert len(blobs.asked) == 1


async def test_a_trial_without_a_verdict_is_tried_again_after_a_pause(monkeypatch):
    tried = []

    async def trial(document):
        tried.append(document)
        raise TrialUnfinished([Fault("", "over-budget-trial", "it took too long")])

    monkeypatch.setattr(module, "trial_async", trial)
    contracts, service = Contracts(Blobs(plain_document())), service_entry(PLAIN_SERVICE)
    for _ in range(2):
        with pytest.raises(ContractUnavailable, match="contract-over-budget"):
            await contracts.load(service, None)
    assert len(tried) == 1, "a bomb is not tried with every call"
    for pauses in (1, 2):
        until_s, pause_s = contracts._paused[service.contract_sha256]
        assert pause_s == 60 * pauses
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda until_s=until_s: until_s + 1, raising=False)
        with pytest.raises(ContractUnavailable):
            await contracts.load(service, None)
        monkeypatch.undo()
        monkeypatch.setattr(module, "trial_async", trial)
        assert len(tried) == 1 + pauses


async def test_concurrent_callers_share_one_load(untried):
    blobs = Blobs(contract_document())
    contracts, service = Contracts(blobs), service_entry()
    found = await asyncio.gather(*(contracts.load(service, frozenset()) for _ in range(5)))
    assert len(blobs.asked) == len(untried) == 1
    assert {tuple(one.operations) for one in found} == {("getCitizen", "confirm")}
    assert contracts._loading == {}


async def test_each_set_of_granted_fields_is_compiled_from_one_document(untried):
    blobs = Blobs(contract_document())
    contracts, service = Contracts(blobs), service_entry()
    cut = await contracts.load(service, frozenset())
    whole = await contracts.load(service, frozenset({"religion"}))
    assert cut is not whole
    assert (cut.withheld("getCitizen"), whole.withheld("getCitizen")) == (frozenset({"religion"}), frozenset())
    assert len(blobs.asked) == 1


async def test_what_may_come_later_is_not_remembered_as_refused(untried):
    blobs = Blobs(contract_document())
    contracts, service = Contracts(blobs), service_entry()
    blobs.error = FeedUnavailable("not connected")
    with pytest.raises(ContractUnavailable, match="not available"):
        await contracts.load(service, None)
    blobs.error = None
    assert await contracts.load(service, None)


async def test_a_trial_that_may_pass_later_is_not_remembered_as_refused(monkeypatch):
    class Busy(ContractRejected):
        code = "busy"
        disposition = "retry"

    blobs, outcomes = Blobs(contract_document()), [Busy([Fault("", "busy", "try again")]), None]

    async def trial(document):
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome

    monkeypatch.setattr(module, "trial_async", trial)
    contracts, service = Contracts(blobs), service_entry()
    with pytest.raises(ContractUnavailable, match="busy"):
        await contracts.load(service, None)
    assert await contracts.load(service, None)


async def test_a_slow_fetch_goes_on_when_a_caller_gives_up(untried):
    blobs = Blobs(contract_document())
    blobs.gate = asyncio.Event()
    contracts, service = Contracts(blobs), service_entry()
    with pytest.raises(ContractUnavailable, match="being fetched"):
        await contracts.load(service, None, deadline_s=0.001)
    waiting = asyncio.ensure_future(contracts.load(service, None))
    blobs.gate.set()
    assert await waiting
    assert len(blobs.asked) == 1


async def test_a_grant_that_cannot_be_derived_makes_the_service_unavailable(untried):
    made = json.loads(contract_document())
    answer = made["paths"]["/citizens/{number}"]["get"]["responses"]["200"]["content"]["application/json"]
    answer["schema"] = {"not": answer["schema"]}
    document = json.dumps(made).encode()
    contracts, service = Contracts(Blobs(document)), service_entry(document=document)
    with pytest.raises(ContractUnavailable, match="as granted: field-grant-underivable"):
        await contracts.load(service, frozenset())


async def test_the_memory_of_contracts_is_bounded(untried):
    documents = [plain_document().replace(b'"1.0"', f'"1.{at}"'.encode()) for at in range(4)]
    broken = [b'{"openapi":"3.1.0","x":%d}' % at for at in range(4)]
    contracts = Contracts(Blobs(*documents, *broken), limit=2)
    for document in documents:
        await contracts.load(service_entry(PLAIN_SERVICE, document), None)
    for document in broken:
        with pytest.raises(ContractUnavailable):
            await contracts.load(service_entry(PLAIN_SERVICE, document), None)
    assert len(contracts._compiled) == len(contracts._parsed) == len(contracts._refused) == 2


def test_the_samples_differ_in_their_marked_field_only():
    assert SERVICE != PLAIN_SERVICE
    assert b"x-lienthong-field" in contract_document()
    assert b"x-lienthong-field" not in plain_document()
