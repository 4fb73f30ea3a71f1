"""A hand-made node: a real member with real keys whose log and messages are made here, byte by byte, without a gateway.

`HandNode.query` composes a sealed query, `HandNode.log` puts a leaf into a Merkle log of its own and signs the
checkpoint, `message` puts both into the wire form; each step can be bent. `Stand` is the world that the attack tests
share: H37 asks, G01 answers, E66 is hand-made and has the same rights as H37, F77 is hand-made and may be quarantined.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from world import ClientSystem, World, eventually

from bus import envelope as wire
from bus.gateway.sealingkeys import load_keys
from bus.sealing.contents import (
    SALT_BYTES,
    Particulars,
    decode_particulars,
    encode_particulars,
    pack,
    salted_hex,
    unpack,
)
from bus.sealing.epoch import Opener, Sealer, message_aad, sealdigest
from bus.sealing.keys import SealingKeyPair
from bus.transport import subjects
from evidence import header, leaf, merkle, note
from evidence.checkpoint import Checkpoint, key_name
from evidence.header import Header, uuid7
from evidence.identifiers import NodeId, log_origin


@dataclass(frozen=True)
class Draft:
    """A composed record."""

    header: Header
    header_bytes: bytes
    wrapped: bytes
    nonce: bytes
    ciphertext: bytes

    @property
    def leaf(self) -> bytes:
        """As a log holds it."""
        return leaf.wrap(leaf.EXCHANGE, self.header_bytes)

    def with_header(self, **changes: Any) -> Draft:
        """The same seal under a changed header."""
        changed = msgspec.structs.replace(self.header, **changes)
        return Draft(changed, header.encode(changed), self.wrapped, self.nonce, self.ciphertext)


@dataclass(frozen=True)
class Logged:
    """Where a leaf stands, and the checkpoint that says so."""

    index: int
    size: int
    path: bytes
    note: bytes


def message(draft: Draft, logged: Logged, **changes: Any) -> bytes:
    """Wire form; `changes` replaces fields of the envelope."""
    made = wire.Envelope(
        wire.VERSION, draft.header_bytes, logged.index, logged.size, logged.path, logged.note,
        draft.wrapped, draft.nonce, draft.ciphertext,
    )  # fmt: skip
    return msgspec.msgpack.encode(msgspec.structs.replace(made, **changes))  # also what no version allows


def checkpoint_note(origin: str, size: int, root: bytes, signer: Any) -> bytes:
    """A signed checkpoint."""
    return note.sign(Checkpoint(origin, size, root).text(), key_name(origin), signer)


def sealing_pair(world: World, code: str, use: str) -> SealingKeyPair:
    """The sealing key of a member (`query`) or its node (`answer`)."""
    (pair,) = load_keys(world.member(code).home / "keys" / "sealing")[use].values()
    return pair


class HandNode:
    """See the module's docstring.

    Args:
        world: where it is a member.
        code: of the member; its gateway must never run.
        view: directory view string for headers.
    """

    def __init__(self, world: World, code: str, view: str, genesis: str | None = None) -> None:
        self.world = world
        self.member = world.member(code)
        self.code = code
        self.view = view
        self.genesis = genesis or world.genesis
        self.origin = log_origin(self.genesis, NodeId.parse(self.member.node), 1)
        self.signer = self.member.signer("log")
        self.frontier = merkle.Frontier()
        self.sealer = Sealer(self.genesis, self.origin, os.urandom, time.monotonic)
        self.opener = Opener(self.genesis)

    @property
    def inbox(self) -> str:
        """A fresh reply subject of this node."""
        return f"{subjects.inbox(self.member.node)}{os.urandom(8).hex()}.{os.urandom(8).hex()}"

    def subject(self, provider: str = "G01") -> str:
        """Subject of its queries to a provider."""
        return subjects.query(self.world.member_id(provider), self.member.id)

    def log(self, data: bytes) -> Logged:
        """Appends a leaf to its own log and signs the checkpoint."""
        extended = self.frontier.extend([merkle.leaf_hash(data)])
        index, self.frontier = self.frontier.size, extended.frontier
        size = self.frontier.size
        return Logged(index, size, extended.paths[0], checkpoint_note(self.origin, size, extended.root, self.signer))

    def sealed(
        self, particulars: Particulars, body: bytes, *, to: str, receiver: str, pair: SealingKeyPair, use: str,
        salts: bytes | None = None, **fields: Any,
    ) -> Draft:  # fmt: skip
        """A sealed record; `fields` are header attributes."""
        now = datetime.now(UTC)
        record_id = fields.pop("id", None) or uuid7(int(now.timestamp() * 1000), os.urandom(10))
        salts = os.urandom(2 * SALT_BYTES) if salts is None else salts
        encoded = encode_particulars(particulars)
        aad = message_aad(self.genesis, self.member.node, to, record_id, pair.keyid)
        wrapped, nonce, ciphertext = self.sealer.seal(
            pack(salts, encoded, body), receiver=receiver, key=pair.public_key, use=use, aad=aad
        )
        values: dict[str, Any] = {
            "specversion": "1.0",
            "id": record_id,
            "time": header.encode_time(now),
            "node": self.member.node,
            "to": to,
            "keyid": pair.keyid,
            "sealdigest": sealdigest(wrapped, nonce, ciphertext),
            "partdigest": salted_hex(salts[:SALT_BYTES], encoded),
            "bodydigest": salted_hex(salts[SALT_BYTES:], body),
            "dir": self.view,
        }
        made = Header(**{**values, **fields})
        return Draft(made, header.encode(made), wrapped, nonce, ciphertext)

    def query(
        self, path: str = "/notes/1", *, method: str = "GET", operation: str = "getNote", body: bytes = b"",
        provider: str = "G01", expires_s: float = 30.0, particulars: dict[str, Any] | None = None, **fields: Any,
    ) -> Draft:  # fmt: skip
        """A query to `<provider>/desk/notes` that its gateway would serve."""
        told = Particulars(
            method=method, path=path, content_type="application/json" if body else "", body_bytes=len(body),
            **(particulars or {}),
        )  # fmt: skip
        receiver = self.world.member_id(provider)
        fields = {
            "type": "query",
            "source": f"{self.member.id}/onedoor",
            "operation": operation,
            "expires": header.encode_time(datetime.now(UTC) + timedelta(seconds=expires_s)),
            **fields,
        }
        to = fields.pop("to", f"{receiver}/desk/notes")
        pair = sealing_pair(self.world, provider, "query")
        return self.sealed(told, body, to=to, receiver=receiver, pair=pair, use="query", **fields)

    def answer(self, request: Header, request_leaf: bytes, *, status: int = 200, body: bytes = b'{"ok":true}',
               **fields: Any) -> Draft:  # fmt: skip
        """An answer to a query of H37 that its gateway would accept."""
        pair = sealing_pair(self.world, "H37", "answer")
        told = Particulars(status=status, content_type="application/json", body_bytes=len(body))
        values = {
            "type": "answer",
            "source": request.to,
            "operation": request.operation,
            "inreplyto": merkle.leaf_hash(request_leaf).hex(),
            "class_": "ok",
            **fields,
        }
        to = values.pop("to", request.source)
        return self.sealed(told, body, to=to, receiver=request.node, pair=pair, use="answer", **values)

    def open_answer(self, data: bytes) -> tuple[Header, Particulars, bytes]:
        """Opens an answer that came to this node: header, particulars, body. The proof is not looked at."""
        got = wire.decode(data, len(data))
        told = header.decode(got.header)
        pair = sealing_pair(self.world, self.code, "answer")
        aad = message_aad(self.genesis, told.node, told.to, told.id, pair.keyid)
        plain = self.opener.open(
            origin=got.note.partition(b"\n")[0].decode(), receiver=self.member.node, pair=pair, use="answer",
            wrapped=got.wrapped, nonce=got.nonce, ciphertext=got.ciphertext, aad=aad,
        )  # fmt: skip
        _, encoded, body = unpack(plain)
        return told, decode_particulars(encoded), body


@dataclass
class Snapshot:
    """What must not change when a message is dropped."""

    dropped: dict[str, float]
    log_files: tuple[int, int]
    log_size: float
    reached: int
    source_calls: float


@dataclass
class Stand:
    """The shared world of the attack tests."""

    world: World
    client: ClientSystem
    evil: HandNode
    view: str

    def hand(self, code: str) -> HandNode:
        """Another hand-made node."""
        return HandNode(self.world, code, self.view)

    def snapshot(self, code: str = "G01") -> Snapshot:
        """Counters, sizes and effects now."""
        db = self.world.member(code).log_db
        wal = db.with_name("log.db-wal")
        return Snapshot(
            self.world.dropped(code),
            (db.stat().st_size, wal.stat().st_size if wal.exists() else 0),
            self.world.metric(code, "lienthong_log_size"),
            len(self.world.backend.received),
            self.world.metric(code, "lienthong_source_seconds_count"),
        )

    @asynccontextmanager
    async def dropped(
        self, code: str, times: int = 1, at: str = "G01", deadline_s: float = 10.0
    ) -> AsyncIterator[None]:
        """What happens inside is dropped `times` times with `code` at a gateway, and changes nothing else there."""
        before = self.snapshot(at)
        yield
        wanted = before.dropped.get(code, 0.0) + times
        try:
            await eventually(lambda: self.world.dropped(at).get(code, 0.0) >= wanted, f"drop {code}", deadline_s)
        except AssertionError as error:
            raise AssertionError(f"not dropped as {code}: {before.dropped} became {self.world.dropped(at)}") from error
        after = self.snapshot(at)
        assert after.dropped == {**before.dropped, code: wanted}
        assert after.log_files == before.log_files
        assert after.log_size == before.log_size
        assert after.reached == before.reached, "it reached the back end"
        assert after.source_calls == before.source_calls

    @asynccontextmanager
    async def world_dropped(self, at: str, code: str) -> AsyncIterator[None]:
        """What happens inside is dropped once with `code` at a gateway that also does other things meanwhile."""
        before = self.world.dropped(at)
        yield
        wanted = {**before, code: before.get(code, 0.0) + 1}
        assert self.world.dropped(at) == wanted


def build_stand(world: World) -> Stand:
    """Adds the hand-made members to a world whose instance runs, and starts the gateways of H37 and G01."""
    for code in ("H37", "G01", "E66", "F77"):
        world.add_member(code)
    client = world.add_client("H37", "onedoor")
    world.add_subsystem("G01", "desk")
    world.publish("G01", "desk/notes")
    world.publish("G01", "desk/narrow", options=("--max-concurrent", "2"))
    world.grant(client.subsystem, "G01", "desk/narrow", "--operation", "getNote", "--operation", "slow")
    for code in ("E66", "F77"):
        world.add_subsystem(code, "onedoor")
    for code in ("H37", "E66", "F77"):
        world.grant(f"{world.member_id(code)}/onedoor", "G01", "desk/notes")
    world.add_subsystem("E66", "desk")
    world.publish("E66", "desk/notes")
    world.start_gateway("H37")
    world.start_gateway("G01")
    view = world.admin("G01", "/status").json()["directory"]["view"]
    return Stand(world, client, HandNode(world, "E66", view), view)


def total_bytes(folder: Path) -> int:
    """Sum of the sizes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
