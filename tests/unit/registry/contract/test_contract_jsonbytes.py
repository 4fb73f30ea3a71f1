from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.contract.jsonbytes import JsonMalformed, decode_json, json_depth, within_depth

texts = st.text(st.sampled_from('[]{}"\\:,aé\n'), max_size=8)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4))


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


@given(values, st.booleans(), st.sampled_from([None, 2]))
def test_the_depth_of_bytes_is_the_depth_of_the_value(value: Any, ascii_only: bool, indent: int | None) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    assert json_depth(body, 64) == depth_of(value)
    assert within_depth(body, depth_of(value))


@given(values, st.booleans())
def test_decoding_is_what_the_standard_library_decodes(value: Any, ascii_only: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only, indent=1).encode()
    assert decode_json(body)[0] == json.loads(body)


@given(st.dictionaries(texts, values, min_size=1, max_size=4), st.booleans(), st.data())
def test_a_repeated_name_is_refused_however_it_is_written(
    members: dict[str, Any], ascii_only: bool, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(members)))
    again = "".join(f"\\u{ord(c):04x}" for c in name) if data.draw(st.booleans()) else json.dumps(name)[1:-1]
    inside = json.dumps(members, ensure_ascii=ascii_only)[:-1]
    with pytest.raises(JsonMalformed) as caught:
        decode_json(f'{{"outer": {inside}, "{again}": 1}}}}'.encode())
    assert caught.value.rule == "duplicate-name"


@given(st.dictionaries(texts, values, max_size=4))
def test_escaped_colons_do_not_hide_or_invent_a_repeated_name(members: dict[str, Any]) -> None:
    body = json.dumps(members).replace("\\\\", "\x00").replace(":", "\\u003A").replace("\x00", "\\\\")
    plain = json.dumps({json.dumps(members): 1})
    assert decode_json(json.dumps(body).encode())[0] == body
    assert decode_json(plain.replace(":", "\\u003a", plain.count(":") - 1).encode())[0] == json.loads(plain)


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        (b"", "json"),
        (b"NaN", "json"),
        (b"Infinity", "json"),
        (b"1e999", "json"),
        (b'"\xff"', "json"),
        (b'"\\ud800"', "json"),
        (b"\xef\xbb\xbf{}", "json"),
        (b"{} {}", "json"),
        (b"[1,]", "json"),
        (b"{'a': 1}", "json"),
        (b'"a\nb"', "json"),
        (b"9" * 5000, "json"),
        (b"[" * 65 + b"]" * 65, "depth"),
        (b"[" * 100_000, "depth"),
        (b'{"a":' * 70 + b"1" + b"}" * 70, "depth"),
        (b'{"a":1,"a":1}', "duplicate-name"),
        (b'{"\\u003a":1,"a":{"b":1,"b":2}}', "duplicate-name"),
    ],
)
def test_what_is_not_strict_json_is_refused(body: bytes, rule: str) -> None:
    with pytest.raises(JsonMalformed) as caught:
        decode_json(body)
    assert caught.value.rule == rule


def test_numbers_keep_their_value_beyond_64_bits() -> None:
    assert decode_json(b"[123456789012345678901234567890, -9223372036854775809]")[0] == [
        123456789012345678901234567890,
        -9223372036854775809,
    ]


def test_exactly_the_limit_is_deep_enough() -> None:
    body = b"[" * 64 + b"]" * 64
    assert json_depth(body, 64) == 64
    assert decode_json(body)[0] is not None


def test_many_brackets_that_are_not_deep_are_fine() -> None:
    body = b"[" + b",".join([b'{"[[":"]]\\\\"}'] * 100) + b"]"
    assert within_depth(body, 64)
    assert json_depth(body, 64) == 2
