"""Tricks with paths, sent raw over TLS, in front of an `http` source whose back end normalises as much as any does.

`desk/notes` has `/notes/{id}` and `/admin/{id}`. The hostile back end reads a target in every way that servers do; if
any reading of what arrived differs from what the bus decided on, the test fails. What is allowed arrives byte for byte.
"""

from __future__ import annotations

import posixpath
import re
from urllib.parse import unquote

import pytest
from forging import Stand
from test_attacks_front import R1, Answer, raw, request_bytes

DOTS = [".", "..", "...", "%2e", "%2E", "%2e%2e", ".%2e", "%2e.", "%252e%252e", "%25%32%65", "%c0%ae%c0%ae", "%e0%80%ae",
        "%f0%80%80%ae", "%uff0e%uff0e", "\uff0e\uff0e", "%ef%bc%8e%ef%bc%8e", "..;", "..;x=1", ";..", ".%00.", "..%00",
        "..%20", "..%09", "..\\", "..%5c", "..%255c", "%2e%2e%5c", "..%c1%9c", "..%c0%af", "..%e0%80%af", "..%2f",
        "%2e%2e%2f", "..%252f", "..%%32%66", "%2e%2e%252f"]  # fmt: skip
SLASHES = ["//", "///", "/./", "/%2f", "%2f", "%2F", "%252f", "\\", "%5c", "%5C", "%255c", "%c0%af", "%c1%9c",
           "%e0%80%af", "\u2215", "%e2%88%95", "%u2215", "\uff0f", "%ef%bc%8f"]  # fmt: skip
OTHERS = [";", ";a=b", "%3b", "%3B", "%253b", "%00", "%0a", "%0d%0a", "%0d%0aX-Y:%20z", "%7f", "%1b", "%80", "%ff", "%c3%28",
          "%", "%2", "%zz", "%%", "%25", "%2525", "#", "#frag", "%23/../admin/1", "%3f", "%3F..", "%41", "%6e", "%7e",
          "<", ">", '"', "{", "}", "|", "^", "`", " x", "%20", "%09", "*", "@", ":", "a@b", "x%2fadmin%2f1"]  # fmt: skip


def corpus() -> dict[str, list[str]]:
    """Raw targets after the service, by kind of trick."""
    return {
        "dots-as-parameter": [f"/notes/{dots}" for dots in DOTS],
        "dots-behind-parameter": [f"/notes/1/{dots}/{dots}/admin/1" for dots in DOTS],
        "dots-between": [f"/notes/{dots}/admin/1" for dots in DOTS],
        "dots-first": [f"/{dots}/admin/1" for dots in DOTS],
        "dots-after-the-service": [f"{dots}/admin/1" for dots in DOTS],
        "slash-for-slash": [f"/notes{slash}1" for slash in SLASHES],
        "slashes-and-dots": [f"/notes/1{slash}..{slash}..{slash}admin{slash}1" for slash in SLASHES],
        "slash-in-parameter": [f"/notes/x{slash}admin" for slash in SLASHES],
        "after-parameter": [f"/notes/1{other}" for other in OTHERS],
        "as-parameter": [f"/notes/{other}" for other in OTHERS],
        "in-a-literal": [f"/notes{other}/1" for other in OTHERS],
        "literals": ["/%6eotes/1", "/n%6ftes/1", "/NOTES/1", "/notes/1/", "/notes/", "/admin%2f1", "/%61dmin/1"],
        "query-and-fragment": ["/notes/1?q=../admin", "/notes/1?q=1#x", "/notes/1#", "/notes/1%23x", "/notes/1?#"],
    }


REFUSALS = {"path-refused", "request-malformed", "request-invalid", "operation-unknown", "service-unknown", "not-found"}

ABSOLUTE = [
    "http://gateway" + R1 + "/notes/1", "https://127.0.0.1" + R1 + "/notes/1", "//gateway" + R1 + "/notes/1",
    "http://evil/" + R1 + "/notes/1", "*", "/", "/r1", "/r1/", "r1/VN-TEST/GOV/G01/desk/notes/notes/1",
    "/R1/VN-TEST/GOV/G01/desk/notes/notes/1", "/./r1/VN-TEST/GOV/G01/desk/notes/notes/1",
    "/x/../r1/VN-TEST/GOV/G01/desk/notes/notes/1", "/r1//VN-TEST/GOV/G01/desk/notes/notes/1",
    "/r1/../r1/VN-TEST/GOV/G01/desk/notes/notes/1", "/%721/VN-TEST/GOV/G01/desk/notes/notes/1",
    "/r1%2fVN-TEST/GOV/G01/desk/notes/notes/1", "\\r1\\VN-TEST\\GOV\\G01\\desk\\notes\\notes\\1",
    "/r1;x/VN-TEST/GOV/G01/desk/notes/notes/1", "/r1/VN-TEST;x/GOV/G01/desk/notes/notes/1", "/metrics", "/status",
]  # fmt: skip


def readings(target: str) -> set[str]:
    """Every path that a server could make of a target: decoded up to twice, cleaned and normalised in any order."""
    found = {target}
    for _ in range(3):
        for path in list(found):
            found |= {
                unquote(path, errors="replace"),
                path.replace("\\", "/"),
                re.sub(r";[^/]*", "", path),
                re.sub(r"/+", "/", path),
                path.partition("\0")[0],
                path.partition("#")[0],
                posixpath.normpath(path),
            }
    return found


def send(stand: Stand, target: str) -> Answer:
    return raw(stand, request_bytes(stand, target.encode("utf-8")))


@pytest.mark.parametrize("kind", corpus())
def test_a_path_arrives_byte_for_byte_in_one_meaning_or_not_at_all(stand: Stand, kind: str) -> None:
    for path in corpus()[kind]:
        reached = len(stand.world.backend.received)
        answer = send(stand, R1 + path)
        arrived = stand.world.backend.received[reached:]
        if answer.status == 200:
            (got,) = arrived
            assert_one_meaning(path, got.target)
            continue
        assert arrived == [], f"refused, but reached the back end: {path!r}"
        assert answer.status in (400, 404), (path, answer)
        assert answer.code in REFUSALS, (path, answer)
        assert answer.headers["x-road-error"]


def assert_one_meaning(path: str, target: str) -> None:
    raw_path, question, query = path.partition("?")
    assert target == raw_path + question * bool(query) + query
    parts = raw_path.split("/")
    assert parts[1] in ("notes", "admin"), path
    assert len(parts) == 3, path
    for reading in readings(raw_path):
        plain = posixpath.normpath(reading)
        assert plain.split("/")[:2] == ["", parts[1]], f"{path!r}: a server could read {reading!r}"
        assert plain.count("/") == 2, f"{path!r}: a server could read {reading!r}"


def test_the_corpus_holds_allowed_and_refused_paths(stand: Stand) -> None:
    """Guards the test above against refusing, or allowing, everything."""
    allowed = ["/notes/1", "/notes/...", "/notes/%20", "/notes/a@b", "/notes/1:", "/notes/%ef%bc%8e%ef%bc%8e"]
    for path in allowed:
        reached = len(stand.world.backend.received)
        assert send(stand, R1 + path).status == 200, path
        assert stand.world.backend.received[reached].target == path
    for path in ("/notes/..", "/notes/%2e%2e/admin/1", "/notes//1", "/notes/1;x", "/notes/a%2fb", "/notes/%252e"):
        assert send(stand, R1 + path).code == "path-refused", path


@pytest.mark.parametrize("target", ABSOLUTE)
def test_other_forms_of_a_target_are_not_calls(stand: Stand, target: str) -> None:
    reached = len(stand.world.backend.received)
    answer = send(stand, target)
    assert answer.status in (400, 403, 404), answer
    assert answer.code in ("not-found", "request-malformed", "instance-unknown", "service-unknown", "path-refused"), (
        answer
    )
    assert len(stand.world.backend.received) == reached


@pytest.mark.parametrize("length", [4_000, 8_000, 16_000])
def test_a_very_long_path_is_refused_with_a_code(stand: Stand, length: int) -> None:
    reached = len(stand.world.backend.received)
    answer = send(stand, f"{R1}/notes/{'x' * length}")
    assert answer.code in ("path-refused", "request-invalid", "header-too-large"), answer
    assert len(stand.world.backend.received) == reached
