"""What another agency's gateway or contract says: it splits no answer, becomes no label, and stops no event loop."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from bus_world import service_entry
from hypothesis import given
from hypothesis import strategies as st

from bus.errors import AnswerInvalid, ContractUnavailable
from bus.exchange.contracts import Contracts
from bus.exchange.problems import refusal_from_body
from bus.front.headers import answer_headers
from bus.sealing.contents import Particulars
from registry import decision

_LINE = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [^\x00-\x08\x0a-\x1f\x7f]*")


@given(st.lists(st.tuples(st.text(max_size=12), st.text(max_size=12)), max_size=5))
def test_any_headers_of_a_provider_stay_one_line_each(headers: list[tuple[str, str]]) -> None:
    for name, value in answer_headers(headers):
        assert _LINE.fullmatch(f"{name}: {value}")


@pytest.mark.parametrize("name", ["x-road-error", "X_Road_Error", "x_lienthong_key", "SET_COOKIE", "transfer_encoding"])
def test_a_header_of_the_bus_does_not_pass_in_another_spelling(name: str) -> None:
    assert answer_headers([(name, "x")]) == []


def test_a_reason_that_no_decision_gives_is_left_out() -> None:
    body = json.dumps({"code": "access-denied", "detail": "d", "reason": "made up"}).encode()
    assert refusal_from_body(Particulars(fault="access-denied"), body, "id").reason_code == ""


def test_every_reason_of_the_access_decision_passes() -> None:
    source = Path(decision.__file__).read_text(encoding="utf-8")
    codes = set(re.findall(r'_(?:refuse|decide)\((?:[a-z_]+, )?"([a-z-]+)"', source)) - {"granted"}
    codes |= set(re.findall(r'(?:return|code=)\s*"([a-z-]+)"', source)) - {"granted"}
    assert len(codes) >= 9
    for code in codes:
        body = json.dumps({"code": "access-denied", "detail": "d", "reason": code}).encode()
        assert refusal_from_body(Particulars(fault="access-denied"), body, "id").reason_code == code


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b'{"code":"x","detail":"\xff"}', b'{"code":"x","detail":"d","z":' + b"[" * 100_000, b"[]"]
)
def test_a_refusal_that_cannot_be_read_is_an_invalid_answer(body: bytes) -> None:
    assert isinstance(refusal_from_body(Particulars(fault="x"), body, "id"), AnswerInvalid)


@given(st.binary(max_size=64))
def test_any_bytes_of_a_refusal_make_an_error(body: bytes) -> None:
    assert refusal_from_body(Particulars(fault="x"), body, "id").record_id == "id"


def _bomb(number: int) -> bytes:
    """2 KB of schemas that name the next one twice: 2^40 evaluations."""
    schemas: dict[str, Any] = {
        f"S{at}": {"allOf": [{"$ref": f"#/components/schemas/S{at + 1}"}] * 2} for at in range(40)
    }
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/S0"}}}
    return json.dumps({
        "openapi": "3.1.0", "info": {"title": f"Bomb {number}", "version": "1"},
        "paths": {"/x": {"post": {"operationId": "x", "requestBody": {"content": content},
                                  "responses": {"200": {"description": "d"}}}}},
        "components": {"schemas": {**schemas, "S40": {"type": "object"}}},
    }).encode()  # fmt: skip


class Blobs:
    def __init__(self, documents: list[bytes]) -> None:
        self.documents = {hashlib.sha256(item).hexdigest(): item for item in documents}

    async def contract(self, sha256: str) -> bytes:
        return self.documents[sha256]


async def test_bombs_are_tried_two_at_a_time_and_the_event_loop_goes_on() -> None:
    bombs = [_bomb(number) for number in range(5)]
    contracts, own = Contracts(Blobs(bombs)), psutil.Process()
    others = set(own.children())  # of tests that ran before in this process
    loads = [asyncio.create_task(contracts.load(service_entry(document=bomb), None, 60)) for bomb in bombs]
    slowest_s, most = 0.0, 0
    while not all(load.done() for load in loads):
        before_s = time.monotonic()
        await asyncio.sleep(0)
        slowest_s = max(slowest_s, time.monotonic() - before_s)
        most = max(most, len(set(own.children()) - others))
        await asyncio.sleep(0.005)
    for load in loads:
        with pytest.raises(ContractUnavailable):
            await load
    assert 1 <= most <= 2
    assert slowest_s < 1
