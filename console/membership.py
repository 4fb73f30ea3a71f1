"""A member speaks to its registry: first contact, requests, documents.

First contact trusts nothing but the genesis that the operator told out of band.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from console.addresses import check_url
from console.homes import HomeInvalid, InstanceHome, MemberFacts, MemberHome, replace_file, write_new
from evidence.header import encode_time
from evidence.identifiers import MemberId
from evidence.signer import FileSigner, generate_key_file
from evidence.x509 import load_pem_chain
from registry.client import RegistryClient
from registry.documents import AnyDocument, decode, encode
from registry.envelope import sign_document

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


def create_member_home(path: Path, identifier: str, registry_url: str, genesis_text: str) -> MemberFacts:
    """Makes a member's home: checks the anchor against the genesis, makes the member key.

    Raises:
        HomeInvalid: the folder is in use.
        WrongGenesis: the registry serves another instance, or it is a fraud.
    """
    genesis = parse_genesis(genesis_text)
    check_url(registry_url, "--registry")
    home, member = MemberHome(path), MemberId.parse(identifier)
    anchor, _ = call_registry(registry_url, lambda client: client.anchor(genesis))
    if member.instance != anchor.instance:
        raise HomeInvalid(f"{identifier} does not belong to the instance {anchor.instance}")
    facts = MemberFacts(member=str(member), genesis=genesis, instance=anchor.instance, registry=registry_url)
    home.write_facts(facts)
    home.keys.mkdir(mode=0o700, exist_ok=True)
    signer = generate_key_file(home.member_key, "p256")
    public = signer.private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    write_new(home.keys / "member.pub", public, 0o644)
    replace_file(home.path / "ca.pem", anchor.broker.ca.encode(), 0o644)
    return facts


class Speaker:
    """Signs documents as a member or as the operator, and submits them."""

    def __init__(self, url: str, genesis: str, instance: str, signer: FileSigner, chain: list[bytes]) -> None:
        self.url = url
        self.genesis = genesis
        self.instance = instance
        self.signer = signer
        self.chain = chain

    @classmethod
    def member(cls, home: MemberHome) -> Speaker:
        """The member of a home.

        Raises:
            HomeInvalid: it has no certificate yet.
        """
        facts = home.facts
        if not home.certificate.exists():
            raise HomeInvalid(f"there is no {home.certificate}; have {home.keys}/member.pub certified first")
        chain = load_pem_chain(home.certificate.read_bytes())
        return cls(facts.registry, facts.genesis, facts.instance, FileSigner.load(home.member_key), list(chain))

    @classmethod
    def operator(cls, home: InstanceHome) -> Speaker:
        """The operator of an instance home."""
        facts = home.facts
        chain = load_pem_chain((home.keys / "operator.crt").read_bytes())
        signer = FileSigner.load(home.keys / "operator.pem")
        return cls(f"http://{facts.registry_listen}", facts.genesis, facts.instance, signer, list(chain))

    async def compose(
        self, registry: RegistryClient, type_: type[AnyDocument], subject: str, /, **fields: Any
    ) -> bytes:
        """The next document of its chain, signed, not submitted."""
        kind = str(type_.__struct_config__.tag)
        common: dict[str, Any] = {"instance": self.instance, "subject": subject, "seq": 0}
        newest = await registry.newest(kind, subject)
        if newest is not None:
            common["seq"], common["prev"] = newest.document.seq + 1, newest.digest
        document = type_(**common, issued=encode_time(datetime.now(UTC)), **fields)
        decode(encode(document))
        return sign_document(document, self.signer, self.chain, self.genesis)

    async def say(self, registry: RegistryClient, type_: type[AnyDocument], subject: str, /, **fields: Any) -> bytes:
        """Signs and submits the next document of its chain; the signed bytes."""
        signed = await self.compose(registry, type_, subject, **fields)
        await registry.submit(signed)
        return signed
