"""What a member states about a node: its keys, and the sealing keys that others are to use; sent, or carried in a file.

Where the member's machine has no line to the registry, the signed documents go in a file to somebody who has
(`lienthong node submit`), and broker credentials come back in another. Neither file has a secret of the member: the
documents are public, and the credentials are worth nothing without the node's broker key.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from bus.envelope import KNOWN
from bus.sealing.keys import SealingPublicKey
from bus.transport import nkeys
from console.homes import HomeInvalid, read_facts, replace_file, write_new
from console.membership import MemberSpeaker
from console.predecessors import own_predecessor
from evidence.header import encode_time
from evidence.identifiers import NodeId, log_origin
from registry.client import RegistryClient
from registry.documents import AnyDocument, Node, NodeLog, Sealing, decode
from registry.envelope import read_envelope, sign_document
from registry.errors import RegistryError
from registry.publickeys import decode_base64

_MADE_BY, _ANSWERED_BY = "lienthong node add --out", "lienthong node submit --out"


class CarriedStatements(msgspec.Struct, frozen=True, kw_only=True):
    """Signed documents about one node, on their way to the registry."""

    genesis: str
    node: str
    documents: tuple[str, ...]


class StatementsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the registry answered to them."""

    genesis: str
    node: str
    credentials: str
    broker_urls: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StatedKey:
    """A sealing key to be published: whose it is, for what, and when."""

    owner: str
    public: SealingPublicKey
    uses: tuple[str, ...]
    valid_from: str
    until: str


@dataclass(frozen=True, slots=True)
class Stated:
    """A node as its member states it; keys are raw public bytes."""

    node: NodeId
    log: bytes
    broker: bytes
    sealing: tuple[StatedKey, ...]

    def documents(self, genesis: str) -> Iterator[tuple[type[AnyDocument], str, dict[str, Any]]]:
        """Type, subject and fields of each document; the node's first, because it brings its name."""
        origin = log_origin(genesis, self.node, 1)
        fields = {
            "log": NodeLog(key=_b64(self.log), origin=origin),
            "broker_key": _b64(self.broker),
            "valid_from": encode_time(datetime.now(UTC) - timedelta(minutes=1)),
            "wire": KNOWN.spoken[-1],  # whatever the node runs reads this one; `node announce` says more
        }
        yield Node, str(self.node), fields
        for one in self.sealing:
            fields = {"kem": one.public.kem, "public": _b64(one.public.public), "use": one.uses}
            yield Sealing, f"{one.owner}#{one.public.keyid}", {
                **fields, "valid_from": one.valid_from, "until": one.until
            }  # fmt: skip


async def publish_missing(client: RegistryClient, speaker: MemberSpeaker, stated: Stated) -> None:
    """Publishes what the directory does not have yet: done again, it goes on where it broke off.

    Raises:
        HomeInvalid: there is a node of that name with other keys.
        PredecessorUnproven: a document in its name is not signed by this member.
        RegistryError: the registry refused, or does not answer.
    """
    for type_, subject, fields in stated.documents(speaker.genesis):
        before = await own_predecessor(client, speaker.home, type_, subject)
        if before is None:
            await speaker.say(client, type_, subject, **fields)
        elif isinstance(before.document, Node):
            _require_same(before.document, stated)


def _require_same(there: Node, stated: Stated) -> None:
    if (there.log.key, there.broker_key) != (_b64(stated.log), _b64(stated.broker)):
        raise HomeInvalid(
            f"there is a node {stated.node} with other keys already; choose another name, or "
            f"revoke the old one first: lienthong node revoke {stated.node.node}"
        )


def carry(speaker: MemberSpeaker, stated: Stated, out: Path) -> None:
    """Writes the signed documents to a file. They begin their chains: only a node that is new can be stated so.

    Raises:
        HomeInvalid: the file exists; it is the one to carry.
    """
    now = encode_time(datetime.now(UTC))
    documents = [
        sign_document(
            type_(instance=speaker.instance, subject=subject, seq=0, issued=now, **fields),
            speaker.signer,
            speaker.chain,
            speaker.genesis,
        ).decode()
        for type_, subject, fields in stated.documents(speaker.genesis)
    ]
    carried = CarriedStatements(genesis=speaker.genesis, node=str(stated.node), documents=tuple(documents))
    write_new(out, msgspec.json.encode(carried), 0o644)


async def submit_carried(client: RegistryClient, genesis: str, path: Path, out: Path) -> CarriedStatements:
    """Hands carried documents to the registry, and writes its answer to a file that is carried back.

    Whoever has a line may do that: the registry judges the documents by their signatures.

    Raises:
        HomeInvalid: not such a file, of another instance, or with documents of another kind.
        RegistryError: the registry refused one; those before it are published, and count.
    """
    carried = read_facts(path, CarriedStatements, _MADE_BY)
    if carried.genesis != genesis:
        raise HomeInvalid(f"{path} is of another instance than this home; nothing was submitted")
    for text in carried.documents:
        _require_about(carried.node, text, genesis, path)
    for text in carried.documents:
        await client.submit(text.encode())
    given = await client.credentials(carried.node)
    answer = StatementsAnswer(
        genesis=genesis, node=carried.node, credentials=given.jwt, broker_urls=tuple(given.broker.urls)
    )
    replace_file(out, msgspec.json.encode(answer), 0o600)
    return carried


def _require_about(node: str, text: str, genesis: str, path: Path) -> None:
    try:
        document = decode(read_envelope(text.encode(), genesis=genesis).payload)
    except RegistryError as error:
        raise HomeInvalid(
            f"{path} has no signed documents of this instance ({error.code}); nothing was submitted"
        ) from error
    owners = (node, node.rpartition("/")[0])
    if not (isinstance(document, Node) and document.subject == node) and not (
        isinstance(document, Sealing) and document.owner in owners
    ):
        raise HomeInvalid(f"{path} has a document that is no statement about {node}; nothing was submitted")


def read_answer(path: Path, stated: Stated, genesis: str) -> StatementsAnswer:
    """The registry's answer, if it is for this node and its broker key.

    Raises:
        HomeInvalid: it is for another node, key or instance.
    """
    answer = read_facts(path, StatementsAnswer, _ANSWERED_BY)
    if answer.genesis != genesis or answer.node != str(stated.node):
        raise HomeInvalid(f"{path} answers for {answer.node[:200]}, not for {stated.node} of this instance")
    try:
        subject = nkeys.decode_claims(answer.credentials).get("sub")
    except (ValueError, IndexError, msgspec.MsgspecError):
        subject = None
    if subject != nkeys.public_text("user", stated.broker):
        raise HomeInvalid(f"{path} has credentials for another broker key than that of {stated.node}")
    return answer


def raw(key: str) -> bytes:
    """The bytes of a key in base64."""
    return decode_base64(key)


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
