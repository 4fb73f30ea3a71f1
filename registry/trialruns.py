"""Trial runs on the registry's side: what of the directory a document is tried against, and the trial.

A slow or hostile contract holds up nobody else: a stranger's is tried where it can do no harm, the rest beside the
event loop. The rules themselves are `registry.trial`'s. Keeps nothing and appends nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from registry.documents import Access, AnyDocument, Service
from registry.errors import ContractMissing, DocumentRefused, RegistryError
from registry.fold import Directory
from registry.trial import try_access, try_service, try_successor

TryContract = Callable[[bytes], Awaitable[None]]


class Trials:
    """Trial runs against one directory.

    Args:
        directory: As it is folded now.
        stored: A contract's bytes by their SHA-256 in hex, if they are here.
        try_contract: Tries a new contract where it can do no harm, before it is parsed here.
    """

    def __init__(self, directory: Directory, stored: Callable[[str], bytes | None], try_contract: TryContract) -> None:
        self._directory = directory
        self._stored = stored
        self._try_contract = try_contract

    def basis(self, document: AnyDocument) -> object:
        """What of the directory a trial run of the document depends on; None when it needs none."""
        if isinstance(document, Service):
            rights = tuple(right for right in self._directory.access_rights() if right.service == document.subject)
            return "service", self._directory.service(document.subject), rights
        if isinstance(document, Access):
            return "access", self._directory.service(document.service), self._directory.catalogue
        return None

    async def run(self, document: AnyDocument) -> None:
        """Try a document of which something in the directory has a say.

        Raises:
            DocumentRefused: The trial failed, with the code of the failure.
            ContractMissing: The contract that it names is not here.
        """
        try:
            if isinstance(document, Service) and document.contract not in self._directory.contracts():
                await self._try_contract(self._contract(document.contract))
            check = self._check_of(document)
            if check is not None:
                # A large contract takes a while: reads go on meanwhile.
                await asyncio.to_thread(check)
        except RegistryError as error:
            if isinstance(error, DocumentRefused | ContractMissing):
                raise
            raise DocumentRefused(error.code, str(error)) from error

    def _check_of(self, document: AnyDocument) -> Callable[[], None] | None:
        if isinstance(document, Service):
            rights = [right for right in self._directory.access_rights() if right.service == document.subject]
            contract, before = self._contract(document.contract), self._directory.service(document.subject)
            if before is None or before.version != document.version or before.contract_sha256 == document.contract:
                return partial(try_service, document, contract, rights)
            return partial(try_successor, document, self._contract(before.contract_sha256), contract, rights)
        service = self._directory.service(document.service) if isinstance(document, Access) else None
        if isinstance(document, Access) and service is not None:
            contract = self._contract(service.contract_sha256)
            return partial(try_access, document, service, contract, self._directory.catalogue)
        return None

    def _contract(self, sha256: str) -> bytes:
        data = self._stored(sha256)
        if data is None:
            raise ContractMissing(f"contract {sha256} is not here: put it first")
        return data
