from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.contract import pointer


@given(st.lists(st.text(max_size=5), max_size=4))
def test_tokens_survive_escaping(tokens: list[str]) -> None:
    made = pointer.join("", *tokens)
    assert pointer.split(made) == tokens
    assert pointer.render(tokens) == made


@given(st.text(st.characters(codec="utf-8"), max_size=8))
def test_fragments_survive_encoding(text: str) -> None:
    assert pointer.from_fragment(pointer.to_fragment("/" + text)) == "/" + text


@pytest.mark.parametrize(
    ("text", "found", "value"),
    [
        ("", True, {"a": [1, {"b/~": 2}], "": 3}),
        ("/a/0", True, 1),
        ("/a/1/b~1~0", True, 2),
        ("/", True, 3),
        ("/a/2", False, None),
        ("/a/01", False, None),
        ("/a/-", False, None),
        ("/a/x", False, None),
        ("/a/²", False, None),
        ("/a/12345678901", False, None),
        ("/a/0/0", False, None),
        ("/none", False, None),
    ],
)
def test_pointers_resolve_as_in_rfc_6901(text: str, found: bool, value: Any) -> None:
    assert pointer.resolve({"a": [1, {"b/~": 2}], "": 3}, text) == (found, value)


@pytest.mark.parametrize("fragment", ["anchor", "%ff"])
def test_other_fragments_are_no_pointers(fragment: str) -> None:
    assert pointer.from_fragment(fragment) is None
