#!/usr/bin/env python3
"""Recompute every figure of `lienthong demo --check --json --out DIR` from DIR alone.

    python -I tests/demo_check.py DIR [FILE WITH THE JSON LINE]

Uses the standard library and `cryptography`, nothing of the project: parsing, hashing and judging are written again
from the specifications (C2SP signed-note, tlog-checkpoint, tlog-tiles, tlog-proof; RFC 9162 section 2.1). Prints one
JSON object with the figures; exit code 1 when anything differs from what the folder or the JSON line claims.
"""

import base64
import binascii
import hashlib
import json
import re
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

EXCHANGE = b"lienthong/v1/exchange\n"
OTHERS = (b"lienthong/v1/control\n", b"lienthong/v1/admin\n")
CLOSING = ("answer", "refusal", "outcome")
ORDER = [
    *("specversion", "id", "time", "type", "source", "node", "to", "operation", "expires", "inreplyto", "class"),
    *("keyid", "sealdigest", "partdigest", "bodydigest", "dir"),
]
RATE_TOLERANCE = 0.35


class Wrong(Exception):
    """Something in the folder does not hold."""


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def leaf_hash(leaf: bytes) -> bytes:
    return sha256(b"\x00" + leaf)


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right)


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


# --- C2SP signed-note and tlog-checkpoint ---------------------------------------------------------------------------


class Key:
    """A verifier key: `<name>+<key id>+<base64 of algorithm and public key>`."""

    def __init__(self, text: str) -> None:
        self.name, key_id, encoded = text.split("+", 2)
        data = base64.b64decode(encoded, validate=True)
        if data[0] != 1 or len(data) != 33 or sha256(self.name.encode() + b"\n" + data)[:4].hex() != key_id:
            raise Wrong(f"the trust file holds a broken key for {self.name}")
        self.id = bytes.fromhex(key_id)
        self._public = Ed25519PublicKey.from_public_bytes(data[1:])

    def verify(self, note: bytes) -> str:
        """The text of a note that this key has signed."""
        text, separator, tail = note.decode().rpartition("\n\n")
        if not separator:
            raise Wrong("a note has no signatures")
        text += "\n"
        for line in tail.splitlines():
            dash, name, encoded = line.split(" ")
            signature = base64.b64decode(encoded, validate=True)
            if dash == "—" and name == self.name and signature[:4] == self.id:
                self._public.verify(signature[4:], text.encode())
                return text
        raise Wrong(f"a checkpoint is not signed by {self.name}")


def checkpoint(text: str) -> tuple[str, int, bytes]:
    """Origin, size and root of a checkpoint's text."""
    origin, size, root = text.split("\n")[:3]
    return origin, int(size), base64.b64decode(root, validate=True)


# --- RFC 9162 -------------------------------------------------------------------------------------------------------


class Tree:
    """A tree of leaf hashes, built from the leaves; every complete node is kept: `nodes[height][position]`."""

    def __init__(self, hashes: list[bytes]) -> None:
        self.nodes = [hashes]
        while len(self.nodes[-1]) > 1:
            row = self.nodes[-1]
            self.nodes.append([node_hash(row[at], row[at + 1]) for at in range(0, len(row) - 1, 2)])

    def root(self, size: int) -> bytes:
        """MTH of the first `size` leaves."""
        if size == 0:
            return sha256(b"")
        found, end = None, size
        while end:
            height = (end & -end).bit_length() - 1
            node = self.nodes[height][(end >> height) - 1]
            found = node if found is None else node_hash(node, found)
            end -= 1 << height
        return found


def inclusion_root(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """The root that an inclusion proof leads to (RFC 9162 section 2.1.3.2)."""
    if not 0 <= index < size:
        raise Wrong("a proof is for a place outside its tree")
    first, last, root = index, size - 1, leaf
    for node in path:
        if last == 0:
            raise Wrong("an inclusion proof is too long")
        if first & 1 or first == last:
            root = node_hash(node, root)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            root = node_hash(root, node)
        first, last = first >> 1, last >> 1
    if last:
        raise Wrong("an inclusion proof is too short")
    return root


# --- C2SP tlog-tiles ------------------------------------------------------------------------------------------------


def tile_file(level: object, index: int, width: int) -> str:
    name = f"{index % 1000:03d}"
    while index := index // 1000:
        name = f"x{index % 1000:03d}/{name}"
    return f"tile/{level}/{name}" + ("" if width == 256 else f".p/{width}")


def read_leaves(folder: Path, size: int) -> list[bytes]:
    """All leaves, from the entry bundles."""
    leaves = []
    for index in range((size + 255) // 256):
        width = min(256, size - 256 * index)
        data, at = (folder / tile_file("entries", index, width)).read_bytes(), 0
        for _ in range(width):
            length = int.from_bytes(data[at : at + 2], "big")
            if at + 2 + length > len(data):
                raise Wrong(f"{folder}: an entry bundle is cut off")
            leaves.append(data[at + 2 : at + 2 + length])
            at += 2 + length
        if at != len(data):
            raise Wrong(f"{folder}: an entry bundle is longer than its leaves")
    return leaves


def check_tiles(folder: Path, tree: Tree, size: int) -> int:
    """Compare the hash tiles with the tree built from the leaves; how many there are."""
    tiles, level = 0, 0
    while size >> 8 * level:
        hashes = tree.nodes[8 * level][: size >> 8 * level]
        for index in range((len(hashes) + 255) // 256):
            part = hashes[256 * index : 256 * index + 256]
            if (folder / tile_file(level, index, len(part))).read_bytes() != b"".join(part):
                raise Wrong(f"{folder}: tile {index} of level {level} does not belong to the leaves")
            tiles += 1
        level += 1
    return tiles


# --- logs -----------------------------------------------------------------------------------------------------------


def header_of(leaf: bytes) -> dict:
    """The header of an exchange record, in its one exact spelling."""
    data = leaf[len(EXCHANGE) :]
    header = json.loads(data)
    if json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode() != data:
        raise Wrong("a header is not in its exact spelling")
    if [name for name in ORDER if name in header] != list(header):
        raise Wrong("the attributes of a header are unknown or out of order")
    return header


class Log:
    """One exported log, verified as it is read."""

    def __init__(self, folder: Path, origin: str, trusted: dict) -> None:
        self.folder, self.origin = folder, origin
        self.key = Key(trusted["key"])
        self.since = instant(trusted["from"])
        self.until = instant(trusted["until"]) if trusted["until"] else None
        self.node = origin.partition("/")[2].rpartition("/")[0]
        self.member = self.node.rpartition("/")[0]
        named, self.size, self.root = checkpoint(self.key.verify((folder / "checkpoint").read_bytes()))
        if named != origin:
            raise Wrong(f"{folder} holds the log of another origin")
        self.leaves = read_leaves(folder, self.size)
        self.hashes = [leaf_hash(leaf) for leaf in self.leaves]
        self.tree = Tree(self.hashes)
        if self.tree.root(self.size) != self.root:
            raise Wrong(f"{origin}: the leaves do not give the signed root; {self._first_bad()}")
        self.tiles = check_tiles(folder, self.tree, self.size)
        if len(set(self.hashes)) != self.size:
            raise Wrong(f"{origin}: a leaf stands there twice")
        self.headers = {at: header_of(leaf) for at, leaf in enumerate(self.leaves) if leaf.startswith(EXCHANGE)}
        others = [leaf for at, leaf in enumerate(self.leaves) if at not in self.headers]
        if not self.leaves or not all(leaf.startswith(OTHERS) for leaf in others) or 0 in self.headers:
            raise Wrong(f"{origin}: the log does not begin with a control leaf, or holds leaves of an unknown kind")

    def _first_bad(self) -> str:
        for index in range((self.size + 255) // 256):
            width = min(256, self.size - 256 * index)
            tile = (self.folder / tile_file(0, index, width)).read_bytes()
            for at in range(width):
                place = 256 * index + at
                if tile[32 * at : 32 * at + 32] != self.hashes[place]:
                    return f"leaf {place} was changed, its hash was {tile[32 * at : 32 * at + 32].hex()}"
        return "no single leaf can be named"

    def said(self, header: dict) -> bool:
        """Whether the record is this log's own word (protocol.md, Authorship)."""
        return header["node"] == self.node and header["source"].startswith(self.member + "/")

    def covers(self, header: dict) -> bool:
        """Whether the log's key was in use at the time that the record claims."""
        at = instant(header["time"])
        return self.since <= at and (self.until is None or at <= self.until)


def check_proofs(log: Log, logs: dict) -> int:
    """Verify the proofs that others sent along with their records; how many there are."""
    verified, notes = {}, {}
    for line in (log.folder / "proofs.jsonl").read_text().splitlines():
        entry = json.loads(line)
        index = entry["index"]
        if index in verified or bytes.fromhex(entry["leaf_hash"]) != log.hashes[index]:
            raise Wrong(f"{log.origin}: a proof belongs to no leaf, or two to one")
        head, _, note = entry["proof"].partition("\n\n")
        first, place, *path = head.split("\n")
        if first != "c2sp.org/tlog-proof@v1" or not re.fullmatch(r"index (0|[1-9][0-9]*)", place):
            raise Wrong(f"{log.origin}: a proof is not a tlog-proof")
        if note not in notes:
            peer = logs[note.partition("\n")[0]]
            notes[note] = (peer, *checkpoint(peer.key.verify(note.encode()))[1:])
        peer, size, root = notes[note]
        if size > peer.size or peer.tree.root(size) != root:
            raise Wrong(f"{log.origin}: a checkpoint of {peer.origin} is not of the log that was exported")
        hashes = [base64.b64decode(one, validate=True) for one in path]
        if inclusion_root(log.hashes[index], int(place[6:]), size, hashes) != root:
            raise Wrong(f"{log.origin}: the proof of leaf {index} does not lead to its root")
        header = log.headers[index]
        if not peer.said(header) or not peer.covers(header):
            raise Wrong(f"{log.origin}: leaf {index} is proven by a log that may not speak for it")
        verified[index] = peer
    received = {at for at, header in log.headers.items() if not log.said(header)}
    if received != set(verified):
        raise Wrong(f"{log.origin}: {len(received)} records were received, {len(verified)} have their sender's proof")
    return len(verified)


def match(logs: dict) -> dict:
    """Double entry and the outcome rule (protocol.md, Authorship)."""
    headers, said, received = {}, set(), set()
    for log in logs.values():
        for at, header in log.headers.items():
            headers[log.hashes[at]] = header
            (said if log.said(header) else received).add(log.hashes[at])
            if log.said(header) and not log.covers(header):
                raise Wrong(f"{log.origin}: leaf {at} claims a time at which its key was not the log's")
    closed = {
        header["inreplyto"]
        for digest, header in headers.items()
        if header["type"] == "outcome"
        and digest in said
        and headers.get(bytes.fromhex(header["inreplyto"]), header)["node"] == header["node"]
    }
    single = said ^ received
    explained = {one for one in single if one.hex() in closed or headers[one].get("inreplyto") in closed}
    return {"matched": len(said & received), "explained": len(explained), "unmatched": len(single - explained)}


def check_closing(log: Log) -> dict:
    """Each request of a log has exactly one closing record; request id to (request, closing record)."""
    requests = {
        log.hashes[at].hex(): header
        for at, header in log.headers.items()
        if log.said(header) and header["type"] == "query"
    }
    closing = [
        header for header in log.headers.values() if header["type"] in CLOSING and header["inreplyto"] in requests
    ]
    counts = Counter(header["inreplyto"] for header in closing)
    if set(counts) != set(requests) or set(counts.values()) - {1}:
        raise Wrong(f"{log.origin}: a request has no closing record, or more than one")
    return {requests[header["inreplyto"]]["id"]: (requests[header["inreplyto"]], header) for header in closing}


# --- what client and back end noted ---------------------------------------------------------------------------------


def check_sent(sent: list[dict], exchanges: dict) -> None:
    """Each call that became an exchange is in the logs, with the closing record that its status calls for."""
    ids = [line["id"] for line in sent if line["id"]]
    if len(set(ids)) != len(ids) or set(ids) != set(exchanges):
        raise Wrong("the client's notes and the requests in its gateway's log are not the same exchanges")
    for line in sent:
        if not line["id"]:
            if line["status"] < 400:
                raise Wrong("a call was answered, but it is not an exchange")
            continue
        request, closing = exchanges[line["id"]]
        if (line["service"], line["operation"]) != (request["to"], request["operation"]):
            raise Wrong(f"exchange {line['id']} is of another service or operation than the client noted")
        wanted = ("answer", "ok") if line["status"] < 400 else ("refusal", "refused")
        if line["status"] >= 500:
            wanted = ("outcome", closing.get("class")) if closing["type"] == "outcome" else ("answer", "failed")
        if (closing["type"], closing.get("class")) != wanted:
            raise Wrong(f"exchange {line['id']} ended with {line['status']}, its closing record says otherwise")


def check_effects(effects: list[dict], logs: dict, service: str) -> None:
    """The back end of a service served exactly the exchanges that its gateway logged as answered."""
    provider = next(log for log in logs.values() if service.startswith(log.member + "/"))
    queries, answered = {}, {}
    for at, header in provider.headers.items():
        if header["type"] == "query" and header["to"] == service and not provider.said(header):
            queries[provider.hashes[at].hex()] = header
    for header in provider.headers.values():
        about = queries.get(header.get("inreplyto"))
        if header["type"] == "answer" and header["class"] == "ok" and provider.said(header) and about:
            answered[about["id"]] = about["operation"]
    served = Counter(line["exchange_id"] for line in effects)
    if set(served) - {header["id"] for header in queries.values()}:
        raise Wrong("the back end served a call that is no logged query of its gateway")
    if set(served.values()) - {1} or any(answered.get(one["exchange_id"]) != one["operation"] for one in effects):
        raise Wrong(
            "the back end served a call twice, or another operation than the log says, or one without an answer"
        )
    if set(answered) != set(served):
        raise Wrong("an answered query had no effect in the back end")


# --- commands -------------------------------------------------------------------------------------------------------


def end_of(replies: list[dict]) -> str:
    """State of a command, from the replies to it in its sender's log, in their order."""
    closing = [header for header in replies if header["type"] in ("result", "refusal", "outcome")]
    if len(closing) > 1:
        raise Wrong("a command has more than one end")
    if closing and closing[0]["type"] == "outcome":
        return "expired or cancelled"
    if closing:
        return "completed" if (closing[0]["type"], closing[0]["class"]) == ("result", "ok") else "failed"
    told = [header.get("class") for header in replies if header["type"] == "receipt"]
    return "dead" if told and told[-1] == "failed" else "pending"


def commands_of(log: Log) -> dict:
    """The commands that a log's own node sent: id to (leaf hash, header, state)."""
    replies: dict = {}
    for at in sorted(log.headers):
        replies.setdefault(log.headers[at].get("inreplyto"), []).append(log.headers[at])
    found: dict = {}
    for at, header in log.headers.items():
        if header["type"] == "command" and log.said(header):
            if header["id"] in found:
                raise Wrong(f"{log.origin}: two commands have one id")
            digest = log.hashes[at].hex()
            found[header["id"]] = (digest, header, end_of(replies.get(digest, [])))
    return found


def check_places(log: Log, digest: str, line: dict) -> None:
    """The records that back a command's states stand where the client system was told, and say so."""
    types = {"command": {"command"}, "receipt": {"receipt", "refusal"}, "result": {"result", "refusal"}}
    for kind, at in line["records"].items():
        header = log.headers.get(at, {})
        about = log.hashes[at].hex() if kind == "command" else header.get("inreplyto")
        if header.get("type") not in types.get(kind, {"receipt", "outcome"}) or about != digest:
            raise Wrong(f"{log.origin}: record {at} does not back what was told of command {line['id']}")


def check_order(accepted: dict, effects: list[dict]) -> None:
    """Of one order key, effects come in the order of the commands."""
    last: dict = {}
    for line in effects:
        told = accepted.get(line["exchange_id"])
        if told is None or (told["service"], told["operation"]) != (line["service"], line["operation"]):
            raise Wrong("an application did what no client system had handed over")
        key = (told["client"], told["service"], told["order_key"])
        if told["number"] < last.get(key, 0):
            raise Wrong(f"effects under the order key {told['order_key']} are out of order")
        last[key] = told["number"]


def check_kills(kills: list[dict], ends: dict) -> int:
    """Each kill came while commands were on their way; how many there are."""
    times = sorted(instant(at) for line in ends.values() for at in line["times"].values())
    for line in kills:
        if not times[0] < instant(line["at"]) < times[-1] or instant(line["back_at"]) <= instant(line["at"]):
            raise Wrong("a kill came when no commands were on their way")
    return len(kills)


def check_write_backs(book: list[dict], ends: dict) -> dict:
    """The register's own table and the results that the client system read say the same."""
    told = {one: line["status"] for one, line in ends.items() if line["operation"] == "proposeChange"}
    if {line["exchange_id"]: line["status"] for line in book} != told:
        raise Wrong("the register's table of changes and the answers to them are not the same")
    return {
        "write_backs_accepted": sum(line["status"] == 200 for line in book),
        "write_backs_refused": sum(line["status"] >= 400 for line in book),
    }


def check_commands(folder: Path, logs: dict) -> dict:
    """All figures about commands: the senders' logs, the client systems' notes and the applications' own files agree."""
    notes, effects, kills, book = (
        read_lines(folder / f"{name}.jsonl") for name in ("commands", "command-effects", "kills", "write-backs")
    )
    accepted = {line["id"]: line for line in notes if line["what"] == "accepted"}
    ends = {line["id"]: line for line in notes if line["what"] == "ended"}
    found = {one: (log, *told) for log in logs.values() for one, told in commands_of(log).items()}
    if set(accepted) != set(found):
        raise Wrong("the commands that were accepted and those in the senders' logs are not the same")
    done = Counter(line["exchange_id"] for line in effects)
    states, lost = Counter(), 0
    for one, (log, digest, header, state) in found.items():
        told = ends.get(one)
        if told is None or told["state"] != state:
            raise Wrong(f"command {one} is {state} by its sender's log, the client system was told otherwise")
        if header["to"] != accepted[one]["service"] or header["operation"] != accepted[one]["operation"]:
            raise Wrong(f"command {one} is of another service or operation than the client noted")
        check_places(log, digest, told)
        states[state] += 1
        hollow = state == "completed" and told["status"] < 400 and not done[one]
        lost += hollow and header["operation"] != "proposeChange"
    check_order(accepted, effects)
    return {
        "commands_accepted": len(accepted),
        **{f"commands_{state}": states[state] for state in ("completed", "failed", "dead", "pending")},
        "effects_twice": sum(count > 1 for count in done.values()),
        "lost": lost,
        "kills": check_kills(kills, ends),
        **check_write_backs(book, ends),
        "lookups": sum(line["what"] == "looked-up" for line in notes),
    }


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def rate(sent: list[dict]) -> float:
    """Calls a second between the 5th and the 95th percentile of their times: inside the bulk of calls."""
    times = sorted(instant(line["at"]) for line in sent)
    low, high = len(times) * 5 // 100, len(times) * 95 // 100
    seconds = (times[high] - times[low]).total_seconds()
    return (high - low) / seconds if seconds else 0.0


def check_tampering(logs: dict, tampered: str) -> bool:
    """Change a byte of the named record: the root differs, and the stored hashes name exactly this leaf."""
    for log in logs.values():
        if bytes.fromhex(tampered) in log.hashes:
            place = log.hashes.index(bytes.fromhex(tampered))
            leaf = bytearray(log.leaves[place])
            leaf[len(leaf) // 2] ^= 1
            changed = [*log.hashes[:place], leaf_hash(bytes(leaf)), *log.hashes[place + 1 :]]
            differing = [at for at, (old, new) in enumerate(zip(log.hashes, changed, strict=True)) if old != new]
            return Tree(changed).root(log.size) != log.root and differing == [place] and place in log.headers
    return False


# --- the whole ------------------------------------------------------------------------------------------------------


def read_logs(folder: Path, trust: dict) -> dict:
    """All logs, verified; the folders are exactly those of the trust file."""
    there = {str(path.parent.relative_to(folder / "logs")) for path in (folder / "logs").rglob("checkpoint")}
    if there != set(trust["origins"]):
        raise Wrong("the exported logs are not those of the trust file")
    if any(not origin.startswith(f"{trust['genesis']}/{trust['instance']}/") for origin in there):
        raise Wrong("a log belongs to another instance")
    return {origin: Log(folder / "logs" / origin, origin, trust["origins"][origin]) for origin in sorted(there)}


def recompute(folder: Path, claimed: dict) -> dict:
    """All figures, from the folder."""
    logs = read_logs(folder, json.loads((folder / "trust.json").read_text()))
    sent, effects = read_lines(folder / "sent.jsonl"), read_lines(folder / "effects.jsonl")
    commands = check_commands(folder, logs)
    proofs = sum(check_proofs(log, logs) for log in logs.values())
    closings = [check_closing(log) for log in logs.values()]
    asked = {key: value for found in closings for key, value in found.items()}
    exchanges = {key: value for key, value in asked.items() if value[0]["operation"] != "getDossier"}
    if len(asked) - len(exchanges) != commands.pop("lookups"):
        raise Wrong("the desk's questions about dossiers and those in its gateway's log are not the same")
    check_sent(sent, exchanges)
    check_effects(effects, logs, next(line["service"] for line in sent if line["operation"] == "getEnterprise"))
    figures = {
        "exchanges_ok": sum(closing.get("class") == "ok" for _, closing in exchanges.values()),
        "exchanges_per_s": round(rate(sent), 1),
        "refused_as_expected": sum(400 <= line["status"] < 500 for line in sent),
        "records_verified": sum(log.size for log in logs.values()),
        **match(logs),
        **commands,
        "requests": len(exchanges),
        "sent": len(sent),
        "effects": len(effects),
        "proofs_verified": proofs,
        "tiles_verified": sum(log.tiles for log in logs.values()),
        "logs": {origin: log.root.hex() for origin, log in logs.items()},
    }
    if figures["exchanges_ok"] != sum(line["status"] == 200 for line in sent):
        raise Wrong("the client noted another number of successful calls than the logs hold")
    if claimed:
        figures["tampered_record"] = claimed["tampered_record"]
        figures["tamper_detected"] = check_tampering(logs, claimed["tampered_record"])
    return figures


def compare(figures: dict, claimed: dict) -> list[str]:
    """How the figures differ from what was claimed."""
    exact = (
        *("exchanges_ok", "refused_as_expected", "records_verified", "unmatched", "tamper_detected"),
        *("commands_accepted", "commands_completed", "commands_failed", "commands_dead", "commands_pending"),
        *("effects_twice", "lost", "kills", "write_backs_accepted", "write_backs_refused"),
    )
    found = [
        f"{name}: claimed {claimed[name]}, recomputed {figures[name]}"
        for name in exact
        if claimed[name] != figures[name]
    ]
    ratio = figures["exchanges_per_s"] / claimed["exchanges_per_s"]
    if abs(ratio - 1) > RATE_TOLERANCE:
        found.append(f"exchanges_per_s: claimed {claimed['exchanges_per_s']}, recomputed {figures['exchanges_per_s']}")
    return found


def main(arguments: list[str]) -> int:
    """Recompute, compare, print; the exit code."""
    if not 1 <= len(arguments) <= 2:
        print(__doc__, file=sys.stderr)
        return 2
    claimed = json.loads(Path(arguments[1]).read_text().strip().splitlines()[-1]) if arguments[1:] else {}
    try:
        figures = recompute(Path(arguments[0]), claimed)
        problems = compare(figures, claimed) if claimed else []
    except InvalidSignature:
        figures, problems = {}, ["a signature does not verify"]
    except (Wrong, OSError, KeyError, IndexError, ValueError, StopIteration, binascii.Error) as error:
        figures, problems = {}, [str(error) if isinstance(error, Wrong) else f"{type(error).__name__}: {error}"]
    if figures.get("unmatched"):
        problems.append(f"{figures['unmatched']} records are unmatched")
    print(json.dumps({**figures, "ok": not problems, "differences": problems}))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
