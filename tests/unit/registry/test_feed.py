from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import FeedInvalid
from registry.feed import MAX_BUNDLE_BYTES, decode_bundle, encode_bundle


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=64))
def test_a_bundle_survives_its_encoding(leaves: list[bytes]) -> None:
    data = encode_bundle(leaves)
    assert decode_bundle(data) == leaves
    assert len(data) <= MAX_BUNDLE_BYTES


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_or_exact(data: bytes) -> None:
    try:
        leaves = decode_bundle(data)
    except FeedInvalid:
        return
    assert encode_bundle(leaves) == data


def test_a_bundle_is_1_to_64_leaves() -> None:
    with pytest.raises(FeedInvalid):
        encode_bundle([])
    with pytest.raises(FeedInvalid):
        encode_bundle([b"x"] * 65)
    with pytest.raises(FeedInvalid):
        encode_bundle([b"x" * 65_536])
    with pytest.raises(FeedInvalid):
        decode_bundle(b"\x00\x00" * 1_000_000)
