"""Tricks with paths, sent raw over TLS, in front of an `http` source whose back end normalises as much as any does.

`desk/notes` has `/notes/{id}` and `/admin/{id}`. The hostile back end reads a target in every way that servers do; if
any reading of what arrived differs from what the bus decided on, the test fails. What is allowed arrives byte for byte.
"""

from __future__ import annotations

import posixpath
import re
from urllib.parse import unquote, unquote_to_bytes, urlsplit

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


def corpus() -> list[str]:
    """Raw targets after the service."""
    made = [f"/notes/{dots}" for dots in DOTS]
    made += [f"/notes/{dots}/admin/1" for dots in DOTS]
    made += [f"/notes/1/{dots}/{dots}/admin/1" for dots in DOTS]
    made += [f"/{dots}/admin/1" for dots in DOTS]
    made += [f"{dots}/admin/1" for dots in DOTS]
    made += [f"/notes{slash}1" for slash in SLASHES]
    made += [f"/notes/1{slash}..{slash}..{slash}admin{slash}1" for slash in SLASHES]
    made += [f"/notes/x{slash}admin" for slash in SLASHES]
    made += [f"/notes/1{other}" for other in OTHERS]
    made += [f"/notes/{other}" for other in OTHERS]
    made += [f"/notes{other}/1" for other in OTHERS]
    made += ["/%6eotes/1", "/n%6ftes/1", "/NOTES/1", "/notes/1/", "/notes/", "/admin%2f1", "/%61dmin/1", "/notes/1/../1",
             "/notes/1?q=../admin", "/notes/1?q=1#x", "/notes/1#", "/notes/1%23x"]  # fmt: skip
    return list(dict.fromkeys(made))


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
    """Every path that a server could make of a target: decoded once and twice, normalised before and after."""
    found, waiting = set(), [target]
    while waiting:
        path = waiting.pop()
        if path in found or len(found) > 200:
            continue
        found.add(path)
        stripped = re.sub(r";[^/]*", "", path)
        waiting += [
            unquote(path), unquote_to_bytes(path).decode("latin-1"), path.replace("\\", "/"), stripped,
            re.sub(r"/+", "/", path), path.partition("\0")[0], path.partition("#")[0], path.rstrip(". ") or path,
            posixpath.normpath(path) if path.startswith("/") else path,
        ]  # fmt: skip
    return found


def send(stand: Stand, target: str) -> Answer:
    return raw(stand, request_bytes(stand, target.encode("utf-8")))


@pytest.mark.parametrize("path", corpus())
def test_a_path_arrives_byte_for_byte_in_one_meaning_or_not_at_all(stand: Stand, path: str) -> None:
    reached = len(stand.world.backend.received)
    answer = send(stand, R1 + path)
    arrived = stand.world.backend.received[reached:]
    if answer.status != 200:
        assert arrived == [], "a refused call reached the back end"
        assert answer.status in (400, 404), answer
        assert answer.code in (
            "path-refused", "request-malformed", "request-invalid", "operation-unknown", "service-unknown", "not-found",
        ), answer  # fmt: skip
        assert answer.headers["x-road-error"]
        return
    (got,) = arrived
    raw_path, question, query = path.partition("?")
    assert got.target == raw_path + question * bool(query) + query
    parts = urlsplit(got.target).path.split("/")
    assert parts[1] in ("notes", "admin")
    assert len(parts) == 3
    for reading in readings(raw_path):
        assert posixpath.normpath(reading).split("/")[:2] == ["", parts[1]], f"a server could read {reading!r}"
        assert posixpath.normpath(reading).count("/") == 2, f"a server could read {reading!r}"


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
