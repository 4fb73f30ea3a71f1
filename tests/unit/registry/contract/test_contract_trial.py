from __future__ import annotations

import asyncio
import io
import time
from typing import Any

import msgspec
import pytest
from contract_documents import JSON, answering, document, encoded, operation

from registry.contract import ContractOverBudget, ContractRejected, TrialLimits, trial, trial_async
from registry.contract import trial_child as child
from registry.contract.samples import sample
from registry.contract.trial import _conclude as conclude

GOOD = document({"/things": {"get": answering({"$ref": "#/components/schemas/A"})}}, {
    "A": {"type": "object", "properties": {"a": {"$ref": "#/components/schemas/A"}, "b": {"x-lienthong-field": "b"}}}
})  # fmt: skip


LETTERS = r"^[\p{L} ]{%d,180}$"


def bombs() -> dict[str, bytes]:
    def one(schemas: Any) -> bytes:
        return encoded(document({"/things": {"get": answering({"$ref": "#/components/schemas/A0"})}}, schemas))

    ladder = {f"A{i}": {"allOf": [{"$ref": f"#/components/schemas/A{i + 1}"}] * 2} for i in range(22)}
    nested: Any = {"type": "string"}
    for _ in range(60):
        nested = {"properties": {"a": nested}}
    aliases = "openapi: 3.1.0\nx0: &a0 [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
        f"x{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
    )
    return {
        "doubled references": one({**ladder, "A22": {}}),
        "deep nesting": one({"A0": nested}),
        "repetition of repetition": one({"A0": {"pattern": "(a{1,1000}){1,1000}"}}),
        "YAML aliases": aliases.encode(),
        "a million values": one({"A0": {"enum": list(range(1_000_000))}}),
        "many values": one({"A0": {"enum": list(range(100_000))}}),
        "brackets": b'{"openapi":' + b"[" * 500_000,
    }


BOMBS = bombs()
# Every expression is within its budget; all of them together take seconds to compile.
SLOW = encoded(
    document({"/things": {"get": answering({"properties": {f"p{i}": {"pattern": LETTERS % i} for i in range(170)}})}})
)


def test_the_bomb_of_doubled_references_is_small() -> None:
    assert len(BOMBS["doubled references"]) < 2_500


@pytest.mark.parametrize("name", BOMBS)
async def test_a_bomb_is_refused_while_the_event_loop_goes_on(name: str) -> None:
    gap_s = await largest_gap_s(refuse(BOMBS[name]))
    assert gap_s < 0.25


async def refuse(bomb: bytes) -> None:
    with pytest.raises(ContractOverBudget):
        await trial_async(bomb)


async def largest_gap_s(work: Any) -> float:
    task = asyncio.ensure_future(work)
    last, largest = time.perf_counter(), 0.0
    while not task.done():
        await asyncio.wait({task}, timeout=0.002)
        now = time.perf_counter()
        largest, last = max(largest, now - last), now
    await task
    return largest


async def test_a_good_contract_passes_both_ways() -> None:
    await trial_async(encoded(GOOD))
    trial(encoded(GOOD))


async def test_a_wrong_contract_is_rejected_with_its_places() -> None:
    wrong = encoded(document({"/things": {"get": operation(callbacks={})}}))
    for attempt in (asyncio.to_thread(trial, wrong), trial_async(wrong)):
        with pytest.raises(ContractRejected) as caught:
            await attempt
        assert not isinstance(caught.value, ContractOverBudget)
        assert caught.value.errors[0].pointer == "/paths/~1things/get/callbacks"


@pytest.mark.parametrize("limits", [TrialLimits(deadline_s=0.01), TrialLimits(memory_bytes=60_000_000)])
async def test_what_does_not_finish_within_its_limits_is_over_budget(limits: TrialLimits) -> None:
    with pytest.raises(ContractOverBudget):
        trial(encoded(GOOD), limits)
    with pytest.raises(ContractOverBudget):
        await trial_async(encoded(GOOD), limits)


async def test_too_much_work_is_stopped_by_the_processor_limit() -> None:
    with pytest.raises(ContractOverBudget, match="processor time"):
        await trial_async(SLOW, TrialLimits(cpu_s=1))


def test_a_child_without_a_verdict_is_over_budget() -> None:
    with pytest.raises(ContractOverBudget, match="no verdict"):
        conclude(0, b"?")


async def test_a_cancelled_trial_ends_its_child(monkeypatch: pytest.MonkeyPatch) -> None:
    started = asyncio.Event()
    children: list[asyncio.subprocess.Process] = []
    start = asyncio.create_subprocess_exec

    async def watched(*arguments: Any, **members: Any) -> asyncio.subprocess.Process:
        children.append(await start(*arguments, **members))
        started.set()
        return children[0]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", watched)
    task = asyncio.create_task(trial_async(SLOW))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children[0].returncode is not None


def test_the_child_judges_what_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    limited: list[tuple[int, int]] = []
    monkeypatch.setattr(child.resource, "setrlimit", lambda _which, limits: limited.append(limits))
    for made, codes in [
        (GOOD, []),
        (document({"/things": {"get": operation(callbacks={})}}), ["unsupported"]),
        (document({"/things": {"get": answering({"not": {"properties": {"a": {"x-lienthong-field": "a"}}}})}}), []),
        (document({"/things": {"get": operation(responses={
            "default": {"description": "", "content": {JSON: {"schema": False}}},
            "2XX": {"description": "", "content": {JSON: {}, "text/csv": {}}}})}}), []),
    ]:  # fmt: skip
        sink = io.BytesIO()
        child.main(["--cpu-s", "3", "--memory-bytes", "1000"], io.BytesIO(encoded(made)), sink)
        verdict = msgspec.json.decode(sink.getvalue(), type=child.Verdict)
        assert [code for _, code, _ in verdict.faults] == codes
        assert not verdict.over_budget
    assert (3, 4) in limited
    assert (1000, 1000) in limited


def test_samples_go_where_the_schema_goes() -> None:
    assert sample({"type": "object", "properties": {"a": {"items": {"type": "string"}}}}) == {"a": ["a" * 64, "a" * 64]}
    assert sample({"additionalProperties": {"type": "null"}}) == {"a": "a" * 64, "b": "a" * 64}
    assert sample({"items": False}) == "a" * 64
    assert sample(True) == "a" * 64
    deep = sample({"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"properties": {"n": {"$ref": "#/$defs/a"}}}]}}})
    assert str(deep).count("n") == 61
    wide = {"properties": {str(i): {"$ref": "#/$defs/a"} for i in range(60)}}
    assert len(str(sample({"$ref": "#/$defs/a", "$defs": {"a": wide}}))) < 100_000
    many: Any = {"allOf": [{"title": str(i)} for i in range(100)]}
    assert sample(many) == "a" * 64
