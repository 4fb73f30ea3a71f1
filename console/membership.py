"""Members and the operator speak to the registry: documents, signed and submitted.

A member signs with its own key. The operator signs with as many keys as the anchor asks for; what too few can sign is
kept as a proposal (`operators`). How a member joins is in `joining`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from console.homes import HomeInvalid, InstanceHome, MemberHome
from console.operators import (
    OperatorKey,
    Proposal,
    SignaturesMissing,
    keys_at_hand,
    missing_signatures,
    propose,
    sign_further,
    signers_of,
)
from console.predecessors import D, Predecessor, check_own_keys, successor
from evidence.header import encode_time
from evidence.signer import FileSigner
from evidence.x509 import load_pem_chain
from registry.client import RegistryClient
from registry.documents import Anchor, AnyDocument, Member, decode, encode
from registry.envelope import sign_document
from registry.publickeys import key_id
from registry.requests import REFUSAL_TYPE, Refusal, sign_refusal

T = TypeVar("T")


def call_registry(url: str, work: Callable[[RegistryClient], Coroutine[Any, Any, T]]) -> T:
    """Runs `work(client)` against a registry and closes the client."""

    async def main() -> T:
        async with RegistryClient(url) as client:
            return await work(client)

    return asyncio.run(main())


def parse_genesis(text: str) -> str:
    """64 hex digits of `sha256:…`.

    Raises:
        HomeInvalid: another form.
    """
    found = re.fullmatch(r"sha256:([0-9a-f]{64})", text)
    if found is None:
        raise HomeInvalid("the genesis is sha256: followed by 64 lower-case hex digits, as the operator told you")
    return found[1]


class Speaker:
    """Signs documents as a member or as the operator, and submits them.

    Attributes:
        url: Address of the registry.
        genesis: 64 hex digits.
        instance: Name.
        signer: The member's key; of the operator the first key that is at hand.
        chain: Certificates for it, DER.
    """

    def __init__(self, url: str, genesis: str, instance: str, signer: FileSigner, chain: list[bytes]) -> None:
        self.url = url
        self.genesis = genesis
        self.instance = instance
        self.signer = signer
        self.chain = chain

    @classmethod
    def member(cls, home: MemberHome) -> MemberSpeaker:
        """The member of a home.

        Raises:
            HomeInvalid: it has no certificate yet, or is the home of a further node.
        """
        home.require_member()
        if not home.certificate.exists():
            raise HomeInvalid(
                f"there is no {home.certificate}; it comes with the approval: "
                f"lienthong join --status --home {home.path}"
            )
        chain = load_pem_chain(home.certificate.read_bytes())
        return MemberSpeaker(home, home.load_key(), list(chain))

    @classmethod
    def operator(cls, home: InstanceHome, folders: Iterable[Path] = ()) -> OperatorSpeaker:
        """The operator of an instance home, with the keys that lie there and in the named folders.

        Raises:
            HomeInvalid: there is no operator key.
        """
        keys = keys_at_hand(home, folders)
        if not keys:
            raise HomeInvalid(
                f"there is no operator key in {home.operators}; name a folder that has one with --operator-home"
            )
        return OperatorSpeaker(home, keys)

    async def compose(
        self, registry: RegistryClient, type_: type[AnyDocument], subject: str, /, **fields: Any
    ) -> bytes:
        """The next document of its chain, said anew, signed, not submitted. What is copied into it: `amend`."""
        return await self._sign(registry, await self.draft(registry, type_, subject, **fields))

    async def draft(self, registry: RegistryClient, type_: type[D], subject: str, /, **fields: Any) -> D:
        """The next document of its chain, not signed."""
        kind = str(type_.__struct_config__.tag)
        common: dict[str, Any] = {"instance": self.instance, "subject": subject, "seq": 0}
        newest = await registry.newest(kind, subject)
        if newest is not None:
            common["seq"], common["prev"] = newest.document.seq + 1, newest.digest
        document = type_(**common, issued=encode_time(datetime.now(UTC)), **fields)
        decode(encode(document))
        return document

    async def amend(self, registry: RegistryClient, before: Predecessor[D], /, **changes: Any) -> bytes:
        """The successor of a verified document: everything in it but the changes is said again; signed, not submitted.

        Raises:
            KeyNotOwn: a member would name a key that is not its own.
        """
        document = successor(before, changes)
        await self._check_keys(registry, document)
        return await self._sign(registry, document)

    async def _check_keys(self, registry: RegistryClient, document: AnyDocument) -> None:
        """Nothing: the operator names keys of others."""

    async def _sign(self, registry: RegistryClient, document: AnyDocument) -> bytes:
        del registry  # a member needs no other signature than its own
        return sign_document(document, self.signer, self.chain, self.genesis)

    async def say(self, registry: RegistryClient, type_: type[AnyDocument], subject: str, /, **fields: Any) -> bytes:
        """Signs and submits the next document of its chain; the signed bytes."""
        signed = await self.compose(registry, type_, subject, **fields)
        await registry.submit(signed)
        return signed


class MemberSpeaker(Speaker):
    """A member: signs with its own key; what it says again names no key but those of its home.

    Args:
        home: Of the member.
        signer: Its key.
        chain: Certificates for it, DER.
    """

    def __init__(self, home: MemberHome, signer: FileSigner, chain: list[bytes]) -> None:
        facts = home.facts
        super().__init__(facts.registry, facts.genesis, facts.instance, signer, chain)
        self.home = home

    async def _check_keys(self, registry: RegistryClient, document: AnyDocument) -> None:
        await check_own_keys(registry, self.home, document)


class OperatorSpeaker(Speaker):
    """The operator: signs with all its keys at hand, and keeps a proposal where they are too few.

    Args:
        home: Of the instance.
        keys: At least one.
    """

    def __init__(self, home: InstanceHome, keys: Sequence[OperatorKey]) -> None:
        facts = home.facts
        super().__init__(facts.registry_url, facts.genesis, facts.instance, keys[0].signer, list(keys[0].chain))
        self._home = home
        self._keys = keys

    async def _sign(self, registry: RegistryClient, document: AnyDocument) -> bytes:
        anchor, _ = await registry.anchor(self.genesis)
        after = document if isinstance(document, Anchor) else None
        first, *others = self._known(anchor, after)
        signed = sign_document(document, first.signer, first.chain, self.genesis)
        return self._complete(anchor, after, sign_further(signed, others))

    async def refuse(self, registry: RegistryClient, request_id: str, reason: str) -> bytes:
        """A signed refusal of a request.

        Raises:
            SignaturesMissing: too few keys are at hand; a proposal was kept.
        """
        anchor, _ = await registry.anchor(self.genesis)
        first, *others = self._known(anchor, None)
        refusal = Refusal(request=request_id, reason=reason, issued=encode_time(datetime.now(UTC)))
        signed = sign_refusal(refusal, first.signer, first.chain, self.genesis)
        return self._complete(anchor, None, sign_further(signed, others))

    async def countersign(self, registry: RegistryClient, jws: bytes) -> bytes:
        """The operator's signatures on what a member signed already.

        Raises:
            SignaturesMissing: too few keys are at hand; a proposal was kept.
        """
        anchor, _ = await registry.anchor(self.genesis)
        return self._complete(anchor, None, sign_further(jws, self._known(anchor, None)))

    def _known(self, anchor: Anchor, after: Anchor | None) -> list[OperatorKey]:
        """Keys at hand that count; a certificate of another key, once expired, would spoil the document."""
        counted = {one.keyid for document in (anchor, after) if document is not None for one in document.operators}
        found = [key for key in self._keys if key.keyid in counted]
        if not found:
            raise HomeInvalid("none of the operator keys here is in the newest anchor: use a current one")
        return found

    def _complete(self, anchor: Anchor, after: Anchor | None, signed: bytes) -> bytes:
        signers = signers_of(signed, self.genesis)
        missing = missing_signatures(anchor, after, signers)
        if not missing:
            return signed
        wanted = {one.keyid: None for document in (anchor, after) if document for one in document.operators}
        path = propose(self._home, anchor, self.genesis, signed, list(wanted))
        raise SignaturesMissing(
            f"{missing} more operator {'signature is' if missing == 1 else 'signatures are'} needed "
            f"({len(wanted.keys() & set(signers))} of {anchor.threshold}); nothing was submitted. "
            f"Name further keys with --operator-home, or carry {path} to another operator: "
            f"lienthong operator sign {path.name} --home FOLDER; then lienthong operator submit {path.name} --home "
            f"{self._home.path}",
            path,
            missing,
        )


async def submit_proposal(registry: RegistryClient, proposal: Proposal) -> str:
    """Submits a proposal that has its signatures: to the request that it decides, or to the directory.

    Returns:
        What became of it: `approved`, `refused` or `submitted`.

    Raises:
        RegistryError: the registry refused it.
    """
    jws = proposal.jws.encode()
    if proposal.type == REFUSAL_TYPE:
        refusal = msgspec.json.decode(proposal.payload, type=Refusal)
        return (await registry.decide(refusal.request, jws)).state
    document = decode(proposal.payload)
    if isinstance(document, Member):
        keys = tuple(sorted(key_id(key.public) for key in document.keys))
        for request in await registry.requests():
            if request.state == "pending" and (request.member, request.keys) == (document.subject, keys):
                return (await registry.decide(request.id, jws)).state
    await registry.submit(jws)
    return "submitted"
