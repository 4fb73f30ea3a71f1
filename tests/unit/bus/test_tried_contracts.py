"""A contract that was tried is not tried again by the same program."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from bus_world import SERVICE, directory

from bus.exchange import contracts as module
from bus.exchange.contracts import Contracts
from bus.gateway import triedcontracts
from bus.gateway.triedcontracts import TriedContracts

CONTRACT = (
    b'{"openapi":"3.1.0","info":{"title":"t","version":"1"},"paths":'
    b'{"/x":{"get":{"operationId":"x","responses":{"200":{"description":"x"}}}}}}'
)
DIGEST = hashlib.sha256(CONTRACT).hexdigest()


class Blobs:
    async def contract(self, _sha256):
        return CONTRACT


@pytest.fixture
def trials(monkeypatch):
    made = []

    async def trial(document):
        made.append(document)

    monkeypatch.setattr(module, "trial_async", trial)
    return made


async def load(path) -> None:
    service = msgspec.structs.replace(directory().service(SERVICE), contract_sha256=DIGEST)
    await Contracts(Blobs(), verdicts=TriedContracts(path)).load(service, None)


async def test_a_contract_is_tried_once_over_restarts(tmp_path, trials):
    for _ in range(3):
        await load(tmp_path / "tried")
    assert trials == [CONTRACT]


async def test_other_code_tries_it_again(tmp_path, trials, monkeypatch):
    await load(tmp_path / "tried")
    monkeypatch.setattr(triedcontracts, "_tried_by", lambda: "0" * 64)
    await load(tmp_path / "tried")
    assert len(trials) == 2


@pytest.mark.parametrize(
    "damage", [b"\xff\xfe", b"nonsense\n", DIGEST.encode(), b"", f"{'0' * 64} {DIGEST}\n".encode()]
)
async def test_a_damaged_file_is_as_if_nothing_was_tried(tmp_path, trials, damage):
    (tmp_path / "tried").write_bytes(damage)
    await load(tmp_path / "tried")
    assert trials == [CONTRACT]


async def test_a_disk_that_takes_nothing_costs_a_trial_after_each_start(tmp_path, trials):
    for _ in range(2):
        await load(tmp_path / "none" / "tried")
    assert len(trials) == 2


def test_the_oldest_verdict_makes_room(tmp_path, monkeypatch):
    monkeypatch.setattr(triedcontracts, "_MOST", 2)
    tried = TriedContracts(tmp_path / "tried")
    for digit in "cab":
        tried.passed(digit * 64)
    for known in (tried, TriedContracts(tmp_path / "tried")):
        assert [known.has_passed(digit * 64) for digit in "cab"] == [False, True, True]
