"""Which right allowed a call, as of the directory view that decided: collected into a folder, and verified from there.

The folder holds the exchange's leaves with their proofs, the whole directory log up to a cosigned checkpoint (only all
of it shows that *no later* document stood before the view), and small proofs of the documents that matter, for tools of
others. `verify_folder` needs the folder and the genesis, no home and no network: it folds the directory again with
every signature, and finds the keys of the nodes in it.

What it cannot say: a provider enforces its own store, which the directory publishes; and purpose and ground of a call
are sealed, so where several rights cover an operation all of them are named.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from bus.exchange.peerproofs import peer_proof
from bus.gateway.lookup import find_exchange
from console.homes import HomeInvalid, MemberHome, write_new
from console.views import trust_of
from evidence import header, verify
from evidence.errors import EvidenceError
from evidence.header import Header, encode_time
from evidence.leaf import EXCHANGE, unwrap
from evidence.log.reader import LogReader
from evidence.merkle import HASH_BYTES, Frontier, leaf_hash
from evidence.proof import Proof, verify_proof
from evidence.proof import parse as parse_proof
from evidence.tile_directory import CHECKPOINT_FILE, TileDirectory, join_bundle
from evidence.tiles import TILE_WIDTH, TileReader, inclusion_path, tile_path, tile_root, tile_shapes
from registry.checkpoints import DirectoryCheckpoint, directory_verifier, verify_checkpoint
from registry.fold import Applied, Directory
from registry.localcopy import LocalCopy
from registry.view import AccessEntry

_CLAIM, _DIRECTORY = "right.json", "directory"


class RightNotProven(EvidenceError):
    """The folder does not prove what it says."""

    code = "right-not-proven"


class Said(msgspec.Struct, frozen=True):
    """A document of the directory: where it stands, and its digest (SHA-256 of the JWS, 64 hex digits)."""

    type: str
    subject: str
    seq: int
    index: int
    digest: str
    issued: str


class Call(msgspec.Struct, frozen=True):
    """The record that was asked about.

    Attributes:
        closed_by: `answer` or `refusal` with its class; empty where the log has none.
        leaf_hash: of the request.
    """

    id: str
    time: str
    client: str
    service: str
    operation: str
    closed_by: str
    leaf_hash: str


class Finding(msgspec.Struct, frozen=True):
    """What the folder proves.

    Attributes:
        call: The exchange.
        view: `"<size> <root>"` of the directory that decided.
        decided_by: The node that named the view.
        rights: Rights of that view that cover client, service, operation and time; empty: none did.
        service: The service's document in that view; None when there was none.
        later: Documents of the same chains after the view, up to the checkpoint: changed or withdrawn since.
        checkpoint: `"<size> <root>"` of the cosigned checkpoint.
        confirmed: When the registry cosigned it.
    """

    call: Call
    view: str
    decided_by: str
    rights: tuple[Said, ...]
    service: Said | None
    later: tuple[Said, ...]
    checkpoint: str
    confirmed: str


# Finding ----------------------------------------------------------------------------------------------------


def find(genesis: str, leaves: Sequence[bytes], note: bytes, records: Sequence[bytes]) -> tuple[Finding, Directory]:
    """Folds a directory's log twice, up to the view and to its end, and looks the rights up.

    Args:
        genesis: 64 hex digits, learnt out of band.
        leaves: of the directory's log.
        note: its cosigned checkpoint.
        records: leaves of one exchange, the request first.

    Returns:
        What is so, and the whole directory.

    Raises:
        RightNotProven: leaves, checkpoint and the records' view do not belong together.
        EvidenceError, RegistryError: something is malformed or not signed.
    """
    request, closing = _headers(records)
    told = (closing or request).dir or ""
    size, root = _view(told, len(leaves))
    directory, frontier = Directory(genesis), Frontier()
    for index, leaf in enumerate(leaves[:size]):
        directory.apply(index, leaf)
        frontier = frontier.extend([leaf_hash(leaf)]).frontier
    if frontier.root().hex() != root:
        raise RightNotProven("the record names another directory than this one: two histories, or a wrong file")
    rights = tuple(_said(directory, "access", right.subject) for right in _in_force(directory, request))
    service = None if directory.head("service", request.to) is None else _said(directory, "service", request.to)
    watched = {("access", one.subject) for one in rights} | {("service", request.to)}
    later = []
    for index, leaf in enumerate(leaves[size:], size):
        outcome = directory.apply(index, leaf)
        frontier = frontier.extend([leaf_hash(leaf)]).frontier
        document = outcome.document if isinstance(outcome, Applied) else None
        if document is not None and (document.type, document.subject) in watched:
            later.append(_said(directory, document.type, document.subject))
    checkpoint = _verified(directory, note, len(leaves), frontier.root())
    found = Finding(
        call=_call(request, closing, records[0]),
        view=told,
        decided_by=(closing or request).node,
        rights=rights,
        service=service,
        later=tuple(later),
        checkpoint=f"{checkpoint.size} {checkpoint.root.hex()}",
        confirmed=encode_time(datetime.fromtimestamp(checkpoint.cosigned, UTC)),
    )
    return found, directory


def _verified(directory: Directory, note: bytes, size: int, root: bytes) -> DirectoryCheckpoint:
    if directory.anchor is None:
        raise RightNotProven("the directory has no anchor of this genesis")
    checkpoint = verify_checkpoint(note, directory_verifier(directory.genesis, directory.anchor))
    if (checkpoint.size, checkpoint.root) != (size, root):
        raise RightNotProven("the directory's leaves are not those of its checkpoint")
    return checkpoint


def _headers(records: Sequence[bytes]) -> tuple[Header, Header | None]:
    decoded = [header.decode(data) for kind, data in map(unwrap, records) if kind == EXCHANGE]
    if not decoded or decoded[0].inreplyto or decoded[0].type == "outcome":
        raise RightNotProven("the first record is no request")
    asked = leaf_hash(records[0]).hex()
    replies = [one for one in decoded[1:] if one.inreplyto == asked and one.type in {"answer", "refusal"}]
    return decoded[0], replies[0] if replies else None


def _view(told: str, size: int) -> tuple[int, str]:
    number, _, root = told.partition(" ")
    if not number.isdigit() or not 0 < int(number) <= size:
        raise RightNotProven(f"the record names a directory of size {number or '?'}; this one has {size} leaves")
    return int(number), root


def _call(request: Header, closing: Header | None, leaf: bytes) -> Call:
    closed = "" if closing is None else f"{closing.type} {closing.class_}"
    return Call(
        request.id, request.time, request.source, request.to, request.operation or "", closed, leaf_hash(leaf).hex()
    )


def _in_force(directory: Directory, request: Header) -> tuple[AccessEntry, ...]:
    at = datetime.fromisoformat(request.time)
    return tuple(
        right
        for right in directory.rights(request.source, request.to)
        if right.valid_from_at <= at
        and (right.until_at is None or at < right.until_at)
        and (right.operations is None or request.operation in right.operations)
    )


def _said(directory: Directory, type_: str, subject: str) -> Said:
    head = directory.heads[type_, subject]
    return Said(type_, subject, head.seq, head.index, head.digest, head.issued)


# Folders ----------------------------------------------------------------------------------------------------


def collect(home: MemberHome, record: str, out: Path) -> Finding:
    """Writes everything that proves which right allowed a call of a member's log.

    Args:
        home: of the member, on either side of the call; its gateway may run.
        record: id of the exchange, or the leaf hash (64 hex digits) of its request.
        out: a new folder.

    Raises:
        HomeInvalid: no such record, or the folder is in use.
        RightNotProven: the directory at hand is older than the record, or another one.
    """
    if out.exists() and any(out.iterdir()):
        raise HomeInvalid(f"{out} is not empty: name a new folder with --out")
    log, path = home.data / "log.db", home.data / "directory.db"
    if not log.exists() or not path.exists():
        raise HomeInvalid(f"there is no {log} or no {path}; they come when the gateway runs")
    exchange = find_exchange(log, _id_of(log, record))
    if not exchange:
        raise HomeInvalid(f"the log has no exchange {record}: is it on this side of the call, and at this node?")
    copy = LocalCopy(path, home.facts.genesis)
    try:
        tip = copy.tip
        leaves = copy.leaves(0, tip.size)
    finally:
        copy.close()
    finding, _ = find(home.facts.genesis, leaves, tip.note, [one.leaf for one in exchange])
    out.mkdir(parents=True, exist_ok=True)
    with LogReader(log) as reader:
        for number, one in enumerate(exchange):
            logged = reader.prove(one.index)
            own = Proof(one.index, logged.path, logged.note)
            _write_pair(out / f"record-{number}", one.leaf, peer_proof(log, one.index) or own)
    _write_directory(out / _DIRECTORY, leaves, tip.note)
    _write_documents(out, leaves, tip.note, finding)
    write_new(out / _CLAIM, msgspec.json.format(msgspec.json.encode(finding), indent=2), 0o644)
    return finding


def _id_of(log: Path, record: str) -> str:
    """The id of an exchange by the leaf hash of one of its records; any other text as it is."""
    if len(record) != 2 * HASH_BYTES or not all(one in "0123456789abcdef" for one in record):
        if len(record) != 36:
            raise HomeInvalid("name a record by its id (a UUID) or by its leaf hash (64 hex digits)")
        return record
    wanted = bytes.fromhex(record)
    with LogReader(log) as reader:
        for _, hashed, leaf in reader.leaves():
            kind, data = unwrap(leaf)
            if hashed == wanted and kind == EXCHANGE:
                return header.decode(data).id
    raise HomeInvalid("the log has no record with that leaf hash")


def _write_pair(stem: Path, leaf: bytes, proof: Proof) -> None:
    write_new(stem.with_name(f"{stem.name}.leaf"), leaf, 0o644)
    write_new(stem.with_name(f"{stem.name}.tlog-proof"), proof.format().encode(), 0o644)


def _tiles(leaves: Sequence[bytes]) -> TileReader:
    """All tiles of a tree, from its leaves."""
    levels = [[leaf_hash(leaf) for leaf in leaves]]
    while len(levels[-1]) >= TILE_WIDTH:
        below = levels[-1]
        full = range(0, len(below) - len(below) % TILE_WIDTH, TILE_WIDTH)
        levels.append([tile_root(b"".join(below[at : at + TILE_WIDTH])) for at in full])

    def read(level: int, index: int, width: int) -> bytes:
        return b"".join(levels[level][index * TILE_WIDTH : index * TILE_WIDTH + width])

    return read


def _write_directory(out: Path, leaves: Sequence[bytes], note: bytes) -> None:
    """The directory's log as C2SP tiles with entry bundles."""
    read = _tiles(leaves)
    for level, full, width in tile_shapes(len(leaves)):
        for index in range(full + (width > 0)):
            count = TILE_WIDTH if index < full else width
            _write(out / tile_path(level, index, count), read(level, index, count))
            if level == 0:
                start = index * TILE_WIDTH
                _write(out / tile_path("entries", index, count), join_bundle(list(leaves[start : start + count])))
    _write(out / CHECKPOINT_FILE, note)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _write_documents(out: Path, leaves: Sequence[bytes], note: bytes, finding: Finding) -> None:
    """The documents that matter, each with its inclusion proof up to the cosigned checkpoint."""
    read = _tiles(leaves)
    documents = [*finding.rights, *([finding.service] if finding.service else []), *finding.later]
    for one in documents:
        path = b"".join(inclusion_path(read, one.index, len(leaves)))
        _write_pair(out / f"{one.type}-{one.index}", leaves[one.index], Proof(one.index, path, note))


# Verifying ----------------------------------------------------------------------------------------------------


def verify_folder(folder: Path, genesis: str) -> Finding:
    """Verifies a folder that `collect` wrote, from its files and the genesis alone.

    Raises:
        RightNotProven: it proves something else than it says, or nothing.
        EvidenceError, RegistryError: a proof or signature does not hold, or a file is not there.
    """
    tiles = TileDirectory(folder / _DIRECTORY)
    leaves = [leaf for _, _, leaf in tiles.leaves()]
    pairs = [(path.read_bytes(), _proof_beside(path)) for path in sorted(folder.glob("record-*.leaf"), key=_number)]
    finding, directory = find(genesis, leaves, tiles.note(), [leaf for leaf, _ in pairs])
    keys = trust_of(directory).keys()
    parties = {finding.call.client.rpartition("/")[0], "/".join(finding.call.service.split("/")[:3])}
    for leaf, proof in pairs:
        proven = verify.verify_record(leaf, proof, keys)
        if _member_of_origin(proven.origin) not in parties:
            raise RightNotProven("a record is proven by the log of neither side of the call")
    anchor = directory.anchor
    assert anchor is not None
    key = directory_verifier(genesis, anchor).log
    for path in sorted(folder.glob("access-*.leaf")) + sorted(folder.glob("service-*.leaf")):
        verify_proof(parse_proof(_proof_beside(path)), path.read_bytes(), [key])
    try:
        claim = msgspec.json.decode((folder / _CLAIM).read_bytes(), type=Finding)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise RightNotProven(f"{folder / _CLAIM} cannot be read") from None
    if claim != finding:
        raise RightNotProven(f"{folder / _CLAIM} says something else than the directory and the records do")
    return finding


def _number(path: Path) -> tuple[int, str]:
    return len(path.name), path.name


def _proof_beside(path: Path) -> bytes:
    return path.with_suffix(".tlog-proof").read_bytes()


def _member_of_origin(origin: str) -> str:
    """`INSTANCE/CLASS/MEMBER` of `<genesis>/INSTANCE/CLASS/MEMBER/@node/<incarnation>`."""
    return "/".join(origin.split("/")[1:4])


def describe(finding: Finding) -> list[str]:
    """Lines for people."""
    call, lines = finding.call, []
    lines.append(
        f"{call.client} asked {call.service}, {call.operation}, at {call.time}: {call.closed_by or 'no answer'}"
    )
    lines.append(f"decided on the directory of {finding.view.partition(' ')[0]} leaves by {finding.decided_by}")
    if not finding.rights:
        lines.append("no right in that directory covers client, service, operation and time")
    word = "allowed by" if len(finding.rights) == 1 else "covered by (purpose and ground, sealed, tell which)"
    lines += [f"{word} {_told(one)}" for one in finding.rights]
    if finding.service is not None:
        lines.append(f"service as in {_told(finding.service)}")
    lines += [f"changed later by {_told(one)}" for one in finding.later]
    lines.append(f"directory confirmed at {finding.confirmed}, {finding.checkpoint.partition(' ')[0]} leaves")
    return lines


def _told(one: Said) -> str:
    return f"{one.type} {one.subject}, seq {one.seq}, issued {one.issued}, leaf {one.index}, sha256 {one.digest}"
