from __future__ import annotations

import re
from urllib.parse import quote, unquote

import pytest
from contract_documents import operation, parsed
from hypothesis import given
from hypothesis import strategies as st

from registry.contract import CompiledContract, MethodNotAllowed, OperationUnknown, PathRefused, compile_contract


def path_parameter(name: str, **members: object) -> dict[str, object]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, **members}


@pytest.fixture(scope="module")
def compiled() -> CompiledContract:
    return contract()


def contract() -> CompiledContract:
    slash = {"x-lienthong-allow-slash": True}
    return compile_contract(
        parsed(
            {
                "/": {"get": operation(operationId="root")},
                "/things": {"get": operation(operationId="list"), "post": operation(operationId="add")},
                "/things/": {"get": operation(operationId="listed")},
                "/things/search": {"post": operation(operationId="search")},
                "/things/a@b": {"get": operation(operationId="odd")},
                "/things/{id}": {"get": operation(operationId="one", parameters=[path_parameter("id")])},
                "/things/{id}/parts/{part}": {
                    "get": operation(operationId="part", parameters=[path_parameter("part"), path_parameter("id")])
                },
                "/things/search/deep": {"get": operation(operationId="deep")},
                "/files/{name}": {"get": operation(operationId="file", parameters=[path_parameter("name", **slash)])},
            }
        )
    )


@pytest.mark.parametrize(
    ("method", "path", "identifier", "raw"),
    [
        ("GET", "", "root", {}),
        ("GET", "/", "root", {}),
        ("GET", "/things", "list", {}),
        ("HEAD", "/things", "list", {}),
        ("POST", "/things", "add", {}),
        ("GET", "/things/", "listed", {}),
        ("GET", "/things/7", "one", {"id": "7"}),
        ("GET", "/things/.hidden", "one", {"id": ".hidden"}),
        ("GET", "/things/...", "one", {"id": "..."}),
        ("GET", "/things/a%20b", "one", {"id": "a%20b"}),
        ("GET", "/things/%C3%A9", "one", {"id": "%C3%A9"}),
        ("GET", "/things/7/parts/8", "part", {"id": "7", "part": "8"}),
        ("GET", "/things/search/parts/8", "part", {"id": "search", "part": "8"}),
        ("GET", "/things/search/deep", "deep", {}),
        ("GET", "/files/a%2Fb", "file", {"name": "a%2Fb"}),
        ("POST", "/things/search", "search", {}),
    ],
)
def test_a_path_finds_its_operation(
    compiled: CompiledContract, method: str, path: str, identifier: str, raw: dict[str, str]
) -> None:
    match = compiled.route(method, path)
    assert (match.operation.id, match.raw, match.head) == (identifier, raw, method == "HEAD")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/things/..", "dot-segment"),
        ("/things/.", "dot-segment"),
        ("/../things", "dot-segment"),
        ("/./things", "dot-segment"),
        ("/things/%2e%2e", "dot-segment"),
        ("/things/%2E", "dot-segment"),
        ("/things/.%2e", "dot-segment"),
        ("/things/..%20/..", "dot-segment"),
        ("/files/a%2F..%2Fb", "dot-segment"),
        ("/files/..%2F..%2Fetc", "dot-segment"),
        ("/files/%2F", "empty-segment"),
        ("/files/a%2F%2Fb", "empty-segment"),
        ("//things", "empty-segment"),
        ("/things//7", "empty-segment"),
        ("/things//%20", "empty-segment"),
        ("/things/7//", "empty-segment"),
        ("/things/a;b", "forbidden-character"),
        ("/things\\..\\x", "forbidden-character"),
        ("/things/a b", "forbidden-character"),
        ("/things/a?b", "forbidden-character"),
        ("/things/a#b", "forbidden-character"),
        ("/things/a\x00b", "forbidden-character"),
        ("/things/a\nb", "forbidden-character"),
        ("/things/a\x7fb", "forbidden-character"),
        ("/things/{id}", "forbidden-character"),
        ("/things/<b>", "forbidden-character"),
        ("/things/a%3Bb", "encoded-forbidden"),
        ("/things/a%5cb", "encoded-forbidden"),
        ("/things/a%00", "encoded-control"),
        ("/things/a%0d%0a", "encoded-control"),
        ("/things/a%7F", "encoded-control"),
        ("/things/%252e%252e", "double-encoding"),
        ("/things/%25", "double-encoding"),
        ("/things/%", "bad-percent"),
        ("/things/%4", "bad-percent"),
        ("/things/%zz", "bad-percent"),
        ("/things/%u0041", "bad-percent"),
        ("/things/a%2Fb", "encoded-slash"),
        ("/things/a%2fb/parts/8", "encoded-slash"),
        ("/things/%73earch", "encoded-unreserved"),
        ("/%74hings", "encoded-unreserved"),
        ("/things/a%40b", "encoded-literal"),
        ("/things/%C0%AE", "not-utf8"),
        ("/things/%ff", "not-utf8"),
        ("/things/%ed%a0%80", "not-utf8"),
        ("/things/é", "not-ascii"),
        ("things", "not-absolute"),
        ("*", "not-absolute"),
        ("http://x.test/things", "not-absolute"),
        ("/things/" + "a" * 9_000, "too-long"),
    ],
)
def test_a_path_that_servers_could_read_differently_is_refused(
    compiled: CompiledContract, path: str, reason: str
) -> None:
    with pytest.raises(PathRefused) as caught:
        compiled.route("GET", path)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "path", ["/nothing", "/things/7/parts", "/things/7/", "/things/7/parts/", "/files/", "/thing%20s"]
)
def test_a_path_without_a_template_is_unknown(compiled: CompiledContract, path: str) -> None:
    with pytest.raises(OperationUnknown):
        compiled.route("GET", path)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/things", ("GET", "HEAD", "POST")),
        ("get", "/things", ("GET", "HEAD", "POST")),
        ("HEAD", "/things/search", ("POST",)),
        ("PUT", "/things/7", ("GET", "HEAD")),
    ],
)
def test_another_method_is_told_what_is_allowed(
    compiled: CompiledContract, method: str, path: str, allowed: tuple[str, ...]
) -> None:
    with pytest.raises(MethodNotAllowed) as caught:
        compiled.route(method, path)
    assert caught.value.allowed == allowed


@given(st.text(st.sampled_from("/.%2eEfF5cC;\\ab0 é\x00@~"), max_size=14))
def test_no_accepted_path_decodes_into_another_one(path: str) -> None:
    compiled = COMPILED
    try:
        match = compiled.route("GET", path)
    except (PathRefused, OperationUnknown):
        return
    decoded = unquote(path, errors="strict")
    assert unquote(decoded) == decoded
    assert not {"..", "."} & set(re.split(r"[/\\]", decoded))
    assert "//" not in decoded
    assert not re.search(r"[;\\\x00-\x1f\x7f]", decoded)
    if match.operation.id != "file":
        assert decoded.count("/") == path.count("/")
    else:
        assert path.startswith("/files/")


@given(st.text(st.characters(codec="utf-8", exclude_characters="\\;%", exclude_categories=("Cc", "Cs")), min_size=1))
def test_every_harmless_text_can_be_a_path_value(text: str) -> None:
    encoded = quote(text, safe="")
    if text in {".", ".."} or "/" in text or text in {"search", "a@b"}:
        return
    assert COMPILED.route("GET", "/things/" + encoded).raw == {"id": encoded}


def test_without_any_such_parameter_every_encoded_slash_is_refused() -> None:
    compiled = compile_contract(parsed({"/things/{id}": {"get": operation(parameters=[path_parameter("id")])}}))
    with pytest.raises(PathRefused, match="encoded-slash"):
        compiled.route("GET", "/things/a%2Fb")


def test_a_trailing_slash_is_a_path_of_its_own_in_any_order() -> None:
    one = {"get": operation(operationId="one", parameters=[path_parameter("id")])}
    listed = {"get": operation(operationId="list")}
    for paths in ({"/a/{id}": one, "/a/": listed}, {"/a/": listed, "/a/{id}": one}):
        compiled = compile_contract(parsed(paths))
        assert compiled.route("GET", "/a/").operation.id == "list"
        assert compiled.route("GET", "/a/1").operation.id == "one"


COMPILED = contract()
