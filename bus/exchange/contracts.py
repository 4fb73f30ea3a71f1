"""Compiled contracts, by digest and granted fields.

A contract is fetched by content, tried in a resource-limited child process at this gateway, and only then compiled
here. One that goes over its budget makes that service unavailable, never the process.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Protocol

import structlog

from bus.errors import ContractUnavailable
from registry.contract import DEFAULT, Budget, CompiledContract, Contract, compile_contract, parse_contract
from registry.contract.errors import TrialUnfinished
from registry.contract.trial import trial_async
from registry.errors import RegistryError
from registry.view import ServiceEntry

_log = structlog.get_logger("lienthong.contracts")
_TRIALS = 2  # at once: each may take seconds of a processor and a gigabyte
_PAUSE_S, _LONGEST_PAUSE_S = 60.0, 3600.0
"""After a trial without a verdict: the machine may have been busy, or the contract may be a bomb."""


class ContractBlobs(Protocol):
    """Where contract bytes come from, checked against their digest."""

    async def contract(self, sha256: str) -> bytes:
        """The bytes.

        Raises:
            RegistryError: not there.
        """


class Verdicts(Protocol):
    """Contracts that this program has tried before, over restarts."""

    def has_passed(self, sha256: str) -> bool:
        """Whether a trial of it ended well."""

    def passed(self, sha256: str) -> None:
        """A trial ended well; never raises for a disk that is full."""


class _NoVerdicts:
    def has_passed(self, _sha256: str) -> bool:
        return False

    def passed(self, _sha256: str) -> None:
        return


class Contracts:
    """Cache of compiled contracts, bounded.

    Args:
        blobs: source of the bytes.
        limit: most contracts at once.
        budget: of contracts and of the bodies that they validate.
        verdicts: of trials in earlier runs; a refusal is tried anew by each.
    """

    def __init__(
        self,
        blobs: ContractBlobs,
        limit: int = 512,
        budget: Budget = DEFAULT,
        verdicts: Verdicts | None = None,
    ) -> None:
        self._verdicts = verdicts or _NoVerdicts()
        self._budget = budget
        self._blobs = blobs
        self._limit = limit
        self._parsed: OrderedDict[str, Contract] = OrderedDict()
        self._compiled: OrderedDict[tuple[str, frozenset[str] | None], CompiledContract] = OrderedDict()
        self._refused: OrderedDict[tuple[str, frozenset[str] | None], str] = OrderedDict()
        self._paused: OrderedDict[str, tuple[float, float]] = OrderedDict()  # until when, and the length of the pause
        self._loading: dict[str, asyncio.Task[Contract]] = {}
        self._trials = asyncio.Semaphore(_TRIALS)

    def ready(self, service: ServiceEntry, granted: frozenset[str] | None) -> CompiledContract | None:
        """The compiled contract if it is in memory."""
        return self._compiled.get((service.contract_sha256, granted if service.fields else None))

    async def load(
        self, service: ServiceEntry, granted: frozenset[str] | None, deadline_s: float = 10.0
    ) -> CompiledContract:
        """The compiled contract, fetched and tried if need be.

        Raises:
            ContractUnavailable: not there, refused by this gateway's trial, or not ready within the deadline.
        """
        digest = service.contract_sha256
        wanted = granted if service.fields else None
        found = self._compiled.get((digest, wanted))
        if found is not None:
            return found
        refused = self._refused.get((digest, None)) or self._refused.get((digest, wanted)) or self._pause(digest)
        if refused:
            raise ContractUnavailable(f"the contract of {service.id} is refused here: {refused}")
        parsed = self._parsed.get(digest)
        if parsed is None:
            parsed = await self._shared_load(service, deadline_s)
        try:
            compiled = await asyncio.to_thread(compile_contract, parsed, wanted, budget=self._budget)
        except RegistryError as error:
            self._refuse((digest, wanted), error.code)
            raise ContractUnavailable(
                f"the contract of {service.id} cannot be used as granted: {error.code}"
            ) from error
        self._compiled[(digest, wanted)] = compiled
        if len(self._compiled) > self._limit:
            self._compiled.popitem(last=False)
        return compiled

    async def _shared_load(self, service: ServiceEntry, deadline_s: float) -> Contract:
        digest = service.contract_sha256
        task = self._loading.get(digest)
        if task is None:
            task = self._loading[digest] = asyncio.create_task(self._fetch_and_try(digest))
            task.add_done_callback(lambda _: self._loading.pop(digest, None))
        try:
            return await asyncio.wait_for(asyncio.shield(task), deadline_s)
        except TimeoutError as error:
            raise ContractUnavailable(f"the contract of {service.id} is being fetched; try again") from error
        except RegistryError as error:
            raise ContractUnavailable(f"the contract of {service.id} is not available here: {error.code}") from error

    async def _fetch_and_try(self, digest: str) -> Contract:
        document = await self._blobs.contract(digest)
        try:
            if not self._verdicts.has_passed(digest):
                async with self._trials:
                    await trial_async(document)
                await asyncio.to_thread(self._verdicts.passed, digest)
            parsed = await asyncio.to_thread(parse_contract, document, self._budget, meta=False)  # the trial did it
        except RegistryError as error:
            if isinstance(error, TrialUnfinished):
                self._pause_trials(digest)
            elif error.disposition != "retry":
                self._refuse((digest, None), error.code)
            _log.warning("contract.refused", sha256=digest, code=error.code)
            raise
        self._parsed[digest] = parsed
        if len(self._parsed) > self._limit:
            self._parsed.popitem(last=False)
        return parsed

    def _refuse(self, what: tuple[str, frozenset[str] | None], code: str) -> None:
        self._refused[what] = code
        if len(self._refused) > self._limit:
            self._refused.popitem(last=False)

    def _pause(self, digest: str) -> str:
        until_s, _ = self._paused.get(digest, (0.0, 0.0))
        return TrialUnfinished.code if asyncio.get_running_loop().time() < until_s else ""

    def _pause_trials(self, digest: str) -> None:
        _, last_s = self._paused.get(digest, (0.0, 0.0))
        pause_s = min(max(_PAUSE_S, 2 * last_s), _LONGEST_PAUSE_S)
        self._paused[digest] = (asyncio.get_running_loop().time() + pause_s, pause_s)
        if len(self._paused) > self._limit:
            self._paused.popitem(last=False)
