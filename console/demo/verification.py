"""What remains when all is over: exported logs, verified offline, matched, and one copy with a changed byte.

Verification is done by the command line, on the exported files alone; only the changed byte is made here.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from console.demo.cast import LOGGED, MEMBERS, PROVINCE, Member
from console.demo.processes import together
from console.demo.world import World
from evidence.leaf import EXCHANGE
from evidence.tile_directory import TileDirectory, split_bundle
from evidence.tiles import TILE_WIDTH, tile_path, tile_width

_SAID_NO = (0, 1)


@dataclass(frozen=True, slots=True)
class LogResult:
    """One log's verification.

    Attributes:
        member: Whose log.
        folder: Exported log.
        verified: Whether it verified.
        records: Leaves hashed again.
        counts: Type of record to number.
        root: 64 hex digits.
        proofs: Proofs received from others, exported along.
        seconds: The verification alone, without the start of the program.
    """

    member: Member
    folder: Path
    verified: bool
    records: int
    counts: dict[str, int]
    root: str
    proofs: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Books:
    """Both sides' entries matched."""

    matched: int
    explained: int
    unmatched: int


@dataclass(frozen=True, slots=True)
class Tampering:
    """A copy of a log with one changed byte.

    Attributes:
        member: Whose log was copied.
        index: The changed leaf.
        offset: The changed byte in it.
        leaf_hash: Of the leaf as it was, 64 hex digits.
        detected: Whether verification refused the copy and named exactly this record.
        said: The verifier's words.
    """

    member: Member
    index: int
    offset: int
    leaf_hash: str
    detected: bool
    said: tuple[str, ...]


class Verification:
    """Exports and verifies.

    Args:
        world: Whose logs; its gateways may be stopped.
        out: Folder for `logs/`, `trust.json`, `sent.jsonl` and `effects.jsonl`.
        work: Folder for the changed copy.
        seed: Chooses the changed byte.
    """

    def __init__(self, world: World, out: Path, work: Path, seed: int) -> None:
        self._world = world
        self._out = out
        self._work = work
        self._seed = seed
        self.trust = out / "trust.json"

    def folder(self, member: Member) -> Path:
        """Exported log of a member."""
        return self._out / "logs" / self._world.gateways.nodes[member.code].origin

    async def export(self, sent: Path) -> None:
        """Write logs, trust file, and what client and back end noted."""
        self._out.mkdir(parents=True, exist_ok=True)
        await together(
            self._world.command("audit", "trust", "--home", self._world.home(PROVINCE), "--out", self.trust),
            *(self._export_log(member) for member in LOGGED),
        )
        shutil.copyfile(sent, self._out / "sent.jsonl")
        shutil.copyfile(self._world.effects, self._out / "effects.jsonl")

    async def _export_log(self, member: Member) -> dict[str, Any]:
        folder = self.folder(member)
        folder.mkdir(parents=True)
        return await self._world.command(
            "audit", "tiles", self._world.home(member) / "data" / "log.db", "--out", folder
        )

    async def verify(self) -> list[LogResult]:
        """Verify every log offline."""
        return await together(*(self._verify_log(member) for member in LOGGED))

    async def _verify_log(self, member: Member) -> LogResult:
        folder = self.folder(member)
        report = await self._verified(folder)
        proofs = (folder / "proofs.jsonl").read_text().count("\n")
        return LogResult(
            member=member,
            folder=folder,
            verified=report["verified"] and report["origin"] == self._world.gateways.nodes[member.code].origin,
            records=report["records_verified"],
            counts=report["counts"],
            root=report["root"],
            proofs=proofs,
            seconds=report["seconds"],
        )

    async def _verified(self, folder: Path) -> dict[str, Any]:
        return await self._world.command("audit", "verify", folder, "--trust", self.trust, codes=_SAID_NO)

    async def reconcile(self) -> Books:
        """Match the entries of all logs."""
        folders = [self.folder(member) for member in LOGGED]
        report = await self._world.command("audit", "reconcile", *folders, "--trust", self.trust, codes=_SAID_NO)
        books = report["books"]
        return Books(books["matched"], books["explained"], len(books["unmatched"]) + len(books["malformed"]))

    async def tamper(self) -> Tampering:
        """Change one byte in a copy of a log, chosen by the seed, and let it be verified."""
        chance = random.Random(f"tamper {self._seed}")
        member = chance.choice(MEMBERS)
        copy = self._work / "changed-copy"
        shutil.copytree(self.folder(member), copy)
        leaves = [leaf for _, _, leaf in TileDirectory(copy).leaves()]
        index = chance.choice([at for at, leaf in enumerate(leaves) if leaf.startswith(EXCHANGE)])
        offset, bit = chance.randrange(len(leaves[index])), 1 << chance.randrange(8)
        change_byte(copy, len(leaves), index, offset, bit)
        report = await self._verified(copy)
        leaf_hash = hashlib.sha256(b"\x00" + leaves[index]).hexdigest()
        named = report["first_bad_leaf"] or {}
        return Tampering(
            member=member,
            index=index,
            offset=offset,
            leaf_hash=leaf_hash,
            detected=not report["verified"] and (named.get("index"), named.get("recorded_hash")) == (index, leaf_hash),
            said=tuple(f"{one['code']}: {one['message']}" for one in report["problems"]),
        )


def change_byte(folder: Path, size: int, index: int, offset: int, bit: int) -> None:
    """Flip a bit of one byte of a leaf in an exported log.

    Args:
        folder: Exported log.
        size: Its leaves.
        index: The leaf.
        offset: The byte in it.
        bit: What it is combined with by exclusive or.
    """
    bundle, at = divmod(index, TILE_WIDTH)
    path = folder / tile_path("entries", bundle, tile_width(0, bundle, size))
    data = bytearray(path.read_bytes())
    before = split_bundle(bytes(data))[:at]
    data[sum(len(leaf) + 2 for leaf in before) + 2 + offset] ^= bit
    path.write_bytes(data)


def sent_successes(path: Path) -> int:
    """Calls that the client noted with status 200."""
    return sum(json.loads(line)["status"] == 200 for line in path.read_text().splitlines())
