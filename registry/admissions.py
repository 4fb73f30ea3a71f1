"""Requests to become a member on the registry's side: kept until the operator decides, then carried out.

An approval is an ordinary document of the operators, submitted like any other. What a request or a decision has to say
is checked in `registry.requests`; nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime

import msgspec

from registry.errors import RequestConflict
from registry.fold import Directory
from registry.registrystore import RegistryStore
from registry.requests import (
    MemberRequest,
    check_approval,
    check_certificate,
    is_refusal,
    read_refusal,
    read_request,
)


class Admissions:
    """Requests of one instance.

    Args:
        directory: As it is folded now.
        store: Keeps them.
        now: The clock, aware UTC.
        submit: Submits an approval to the directory.
    """

    def __init__(
        self,
        directory: Directory,
        store: RegistryStore,
        now: Callable[[], datetime],
        submit: Callable[[bytes], Awaitable[object]],
    ) -> None:
        self._directory = directory
        self._store = store
        self._now = now
        self._submit = submit

    def request(self, envelope: bytes, network: str = "") -> MemberRequest:
        """Keep a request to become a member until the operator decides.

        Args:
            envelope: JWS of the request.
            network: Where it came from: nobody may crowd others out from one place.

        Raises:
            RegistryError: It is not a request, or cannot be kept; see `requests` and `registrystore`.
        """
        return self._store.add_request(read_request(envelope, self._directory, self._now()), envelope, network)

    async def decide(self, request_id: str, envelope: bytes) -> MemberRequest:
        """Carry out the operator's decision.

        Args:
            request_id: Id of the request.
            envelope: Either an operator-signed member document with exactly the requested keys, or a refusal.

        Raises:
            NotFound: There is no such request.
            RequestConflict: It is decided already.
            RegistryError: The decision is not valid; see `Authority.submit` and `requests`.
        """
        request = self._store.request(request_id)
        if request.state != "pending":
            raise RequestConflict(f"the request was {request.state} before")
        if is_refusal(envelope, self._directory.genesis):
            refusal = read_refusal(envelope, request, self._directory)
            decided = msgspec.structs.replace(request, state="refused", reason=refusal.reason, decided_at=self._now())
        else:
            check_approval(request, envelope, self._directory)
            await self._submit(envelope)
            decided = msgspec.structs.replace(request, state="approved", decided_at=self._now())
        self._store.decide(decided, envelope)
        return decided

    def certify(self, request_id: str, pem: bytes) -> None:
        """Keep a certificate for the key of a pending request; it is handed out with the approval.

        Raises:
            NotFound: There is no such request.
            RequestConflict: It is decided already.
            EnvelopeInvalid: The certificate is not for this request.
        """
        request = self._store.request(request_id)
        if request.state != "pending":
            raise RequestConflict(f"the request was {request.state} before")
        check_certificate(request, pem, self._directory, self._now())
        self._store.put_certificate(request_id, pem)
