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
from registry.contract.trial import trial_async
from registry.errors import RegistryError
from registry.view import ServiceEntry

_log = structlog.get_logger("lienthong.contracts")
_TRIALS = 2  # at once: each may take seconds of a processor and a gigabyte


class ContractBlobs(Protocol):
    """Where contract bytes come from, checked against their digest."""

    async def contract(self, sha256: str) -> bytes:
        """The bytes.

        Raises:
            RegistryError: not there.
        """


class Contracts:
    """Cache of compiled contracts, bounded.

    Args:
        blobs: source of the bytes.
        limit: most contracts at once.
        budget: of contracts and of the bodies that they validate.
    """

    def __init__(self, blobs: ContractBlobs, limit: int = 512, budget: Budget = DEFAULT) -> None:
        self._budget = budget
        self._blobs = blobs
        self._limit = limit
        self._parsed: OrderedDict[str, Contract] = OrderedDict()
        self._compiled: OrderedDict[tuple[str, frozenset[str] | None], CompiledContract] = OrderedDict()
        self._refused: OrderedDict[str, str] = OrderedDict()
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
        if digest in self._refused:
            raise ContractUnavailable(f"the contract of {service.id} is refused here: {self._refused[digest]}")
        parsed = self._parsed.get(digest)
        if parsed is None:
            parsed = await self._shared_load(service, deadline_s)
        try:
            compiled = await asyncio.to_thread(compile_contract, parsed, wanted, budget=self._budget)
        except RegistryError as error:
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
            async with self._trials:
                await trial_async(document)
            parsed = await asyncio.to_thread(parse_contract, document, self._budget, meta=False)  # the trial did it
        except RegistryError as error:
            if error.disposition != "retry":
                self._refused[digest] = error.code
                if len(self._refused) > self._limit:
                    self._refused.popitem(last=False)
            _log.warning("contract.refused", sha256=digest, code=error.code)
            raise
        self._parsed[digest] = parsed
        if len(self._parsed) > self._limit:
            self._parsed.popitem(last=False)
        return parsed
