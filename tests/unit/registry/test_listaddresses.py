"""Addresses of lists with their authority."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.listaddresses import ListAddress, authorities_by_url, read_address

KEY, OTHER = "0a" * 32, "1b" * 32


@given(st.text(max_size=80).filter(lambda text: "#" not in text), st.sampled_from(["", KEY]))
def test_what_is_written_is_read_again(url: str, authority: str) -> None:
    assert read_address(str(ListAddress(url, authority))) == ListAddress(url, authority)


@given(st.text(max_size=80))
def test_anything_is_read_and_nothing_is_lost(text: str) -> None:
    assert str(read_address(text)) == text


@pytest.mark.parametrize("text", ["http://a/l#part", "http://a/l?x=1", "http://a/l#SHA256:00"])
def test_another_fragment_is_a_part_of_the_address(text: str) -> None:
    assert read_address(text) == ListAddress(text, "")


@pytest.mark.parametrize("digest", ["0a", KEY.upper(), KEY + "0", "x" * 64])
def test_a_digest_that_cannot_be_is_not_taken_for_none(digest: str) -> None:
    read = read_address(f"http://a/l#sha256:{digest}")
    assert not read.usable
    assert authorities_by_url([str(read)]) == {"http://a/l": {digest}}


def test_one_place_may_have_several_authorities_and_a_plain_name_takes_none_away() -> None:
    addresses = ("http://a/l", f"http://a/l#sha256:{KEY}", "http://b/l", f"http://a/l#sha256:{OTHER}")
    assert list(authorities_by_url(addresses).items()) == [("http://a/l", {KEY, OTHER}), ("http://b/l", frozenset())]
