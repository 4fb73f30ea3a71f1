"""What the broker sees, and what a gateway keeps in clear, holds nothing of a request's contents.

Unusual texts are put into every place that a client system can fill; then every byte that passed the broker, every file
that it and the logs keep, every metric and every log line is searched for them, in the forms that they could take.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from forging import Stand
from test_attacks_front import R1, ask, post, raw
from world import eventually

from bus import envelope as wire

CANARIES = {
    "body": "canary-body-Nguyễn",
    "path": "canary-path-7731",
    "query": "canary-query-7732",
    "header-name": "x-canary-name-7733",
    "header-value": "canary-value-7734",
    "official": "canary-official-7735",
    "issue": "canary-issue-7736",
    "party": "canary-party-7737",
    "purpose": "canary-purpose-7738",
    "ground": "canary-ground-7739",
    "trace": "canary-trace-7740",
    "answer": "canary-answer-7741",
    "answer-header": "canary-etag-7742",
    "broken": "canary-broken-7743",
    "cookie": "canary-cookie-7744",
    "authorization": "canary-auth-7745",
}


def forms(text: str) -> set[bytes]:
    """A text as it may stand somewhere: plain, percent-encoded, escaped JSON, UTF-16, hex, base64 at each offset."""
    plain = text.encode()
    found = {plain, plain.upper(), quote(text).encode(), json.dumps(text)[1:-1].encode(), text.encode("utf-16-le")}
    found |= {plain.hex().encode(), plain.hex().upper().encode()}
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + plain)
        found.add(encoded[4 * (offset > 0) : len(encoded) - 4])
    return {form for form in found if len(form) >= 12}


def leaks(data: bytes) -> list[str]:
    """Names of the canaries that are in `data`."""
    return [name for name, text in CANARIES.items() if any(form in data for form in forms(text))]


@pytest.fixture
def seeded(stand: Stand) -> Iterator[None]:
    etag = CANARIES["answer-header"]
    body = json.dumps({"text": CANARIES["answer"]}).encode()
    answer = (200, [("Content-Type", "application/json"), ("ETag", f'"{etag}"')], body)
    stand.world.backend.answers.update({"/notes": answer})
    yield
    stand.world.backend.answers.clear()


def seed(stand: Stand) -> None:
    """Calls that succeed, are refused by either side, or are no HTTP, each full of canaries."""
    told = (
        f"X-Road-UserId: {CANARIES['official']}", f"X-Road-Issue: {CANARIES['issue']}",
        f"X-Road-Represented-Party: {CANARIES['party']}", f"X-LienThong-Purpose: {CANARIES['purpose']}",
        f"X-LienThong-Legal-Basis: {CANARIES['ground']}", f"{CANARIES['header-name']}: {CANARIES['header-value']}",
        f"traceparent: {CANARIES['trace']}", f"Cookie: {CANARIES['cookie']}",
        f"Authorization: Bearer {CANARIES['authorization']}",
    )  # fmt: skip
    body = json.dumps({"text": CANARIES["body"]}, ensure_ascii=False).encode()
    assert post(stand, body, *told).status == 200
    path = f"/notes/{CANARIES['path']}?q={CANARIES['query']}"
    assert ask(stand, f"{R1}{path}", *told).status == 200
    assert post(stand, body.replace(b'"text"', b'"txet"'), *told).status == 400
    assert ask(stand, f"{R1}/nowhere/{CANARIES['path']}?{CANARIES['query']}=1", *told).status == 404
    assert ask(stand, f"{R1}/notes/..%2f{CANARIES['path']}", *told).status == 400
    assert ask(stand, f"/r1/VN-TEST/GOV/G01/desk/narrow/admin/{CANARIES['path']}", *told).code == "access-denied"
    stand.world.backend.answers["/fail/500"] = (500, [("Content-Type", "text/plain")], CANARIES["answer"].encode())
    assert ask(stand, f"{R1}/fail/500", *told).status == 500
    stand.world.backend.answers["/notes"] = (200, [("Content-Type", "text/plain")], CANARIES["answer"].encode())
    assert ask(stand, f"{R1}{path}", *told).code == "answer-invalid"
    for broken in (f"GET {R1}/notes/{CANARIES['broken']} HTTP/9\r\n\r\n", f"{CANARIES['broken']}\r\n\r\n",
                   f"GET {R1}/x?q=\xff{CANARIES['broken']} HTTP/1.1\r\nHost: x\r\n\r\n",
                   f"GET /r1 HTTP/1.1\r\nHost: x\r\n{CANARIES['broken']}\r\n\r\n"):  # fmt: skip
        assert raw(stand, broken.encode("latin-1")).status == 400


def files_of(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


async def test_contents_are_found_nowhere_but_at_both_ends(stand: Stand, seeded: None, tmp_path: Path) -> None:
    world, passed = stand.world, []
    connection = await world.nats_connection()

    async def hear(got: Any) -> None:
        passed.append((got.subject, got.reply, dict(got.headers or {}), bytes(got.data)))

    await connection.subscribe(">", cb=hear)
    await connection.flush()
    await asyncio.to_thread(seed, stand)
    await connection.flush()
    await eventually(lambda: sum(subject.startswith("_I.") for subject, *_ in passed) >= 4)
    await connection.close()
    queries = [data for subject, _, _, data in passed if subject == "lt.q.GOV~G01.GOV~H37"]
    assert len(queries) >= 4
    assert leaks(repr(passed).encode() + b"".join(data for *_, data in passed)) == []
    reached = "".join(str(got) for got in world.backend.received).encode()
    assert CANARIES["path"].encode() in reached, "the canaries must have gone all the way"

    searched = 0
    for root in (world.home, world.member("H37").data, world.member("G01").data):
        for path in files_of(root):
            assert leaks(path.read_bytes()) == [], path
            searched += 1
    assert searched > 20
    for name in ("H37", "G01", "broker", "registry"):
        assert leaks(world.log_path(name).read_bytes()) == [], name
    for code in ("H37", "G01"):
        for page in ("/metrics", "/status", "/readyz"):
            assert leaks(world.admin(code, page).body) == []


async def test_what_is_exported_for_auditors_holds_no_contents(stand: Stand, seeded: None, tmp_path: Path) -> None:
    await asyncio.to_thread(seed, stand)
    for code in ("H37", "G01"):
        out = tmp_path / code
        stand.world.command("audit", "tiles", str(stand.world.member(code).log_db), "--out", str(out))
        found = list(files_of(out))
        assert found
        for path in found:
            assert leaks(path.read_bytes()) == [], path


def test_subjects_and_file_names_name_members_and_nothing_else(stand: Stand, seeded: None) -> None:
    seed(stand)
    for root in (stand.world.home, stand.world.member("H37").home, stand.world.member("G01").home):
        for path in root.rglob("*"):
            assert leaks(path.name.encode()) == []


def test_digests_in_the_log_cannot_be_guessed(stand: Stand, seeded: None) -> None:
    """The same request twice has other digests, and none of them is the plain hash of the body."""
    body = json.dumps({"text": CANARIES["body"]}).encode()
    for _ in range(2):
        assert post(stand, body).status == 200
    with contextlib.closing(sqlite3.connect(f"file:{stand.world.member('H37').log_db}?mode=ro", uri=True)) as db:
        leaves = b"".join(data for (data,) in db.execute("SELECT data FROM leaf ORDER BY idx DESC LIMIT 4"))
    digests = [part[:64] for part in leaves.split(b'digest":"')[1:]]
    assert len(set(digests)) == len(digests) >= 12
    for function in (hashlib.sha256, hashlib.sha512):
        assert function(body).hexdigest().encode()[:64] not in digests


@pytest.mark.parametrize("pair", [(b'{"value":true}', b'{"value":false}')], ids=["true-false"])
async def test_the_sealed_parts_of_true_and_false_have_the_same_size(stand: Stand, pair: tuple[bytes, bytes]) -> None:
    sizes: dict[bytes, set[tuple[int, int]]] = {}
    connection = await stand.world.nats_connection()
    answers: list[bytes] = []

    async def hear(got: Any) -> None:
        if got.data:  # the broker's own words to whoever pulls are empty
            answers.append(bytes(got.data))

    await connection.subscribe("_I.GOV~H37~n1.>", cb=hear)
    await connection.flush()
    for body in pair * 3:
        stand.world.backend.answers["/flags"] = (200, [("Content-Type", "application/json")], body)
        answers.clear()
        answer = await stand.world.call_async(stand.client, "G01/desk/notes", "/flags/1")
        assert answer.body == body
        await eventually(lambda: answers)
        got = wire.decode(answers[0], len(answers[0]))
        sizes.setdefault(body, set()).add((len(got.ciphertext), len(got.wrapped)))
    stand.world.backend.answers.clear()
    await connection.close()
    assert sizes[pair[0]] == sizes[pair[1]]
    assert len(sizes[pair[0]]) == 1


async def test_the_metaservices_name_no_secret(stand: Stand) -> None:
    for target in ("/listClients", "/r1/VN-TEST/GOV/G01/desk/listMethods", "/r1/VN-TEST/GOV/G01/desk/allowedMethods",
                   "/r1/VN-TEST/GOV/G01/desk/getOpenAPI?serviceCode=notes"):  # fmt: skip
        answer = await asyncio.to_thread(ask, stand, target)
        assert answer.status == 200, answer
        assert stand.client.key.encode() not in answer.body
    assert (await asyncio.to_thread(ask, stand, "/listClients", key=False)).status == 200
    assert (await asyncio.to_thread(ask, stand, "/r1/VN-TEST/GOV/G01/desk/listMethods", key=False)).status == 401
