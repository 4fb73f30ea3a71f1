"""A service's life as its callers see it: off with a notice, operations that end, contracts side by side."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from world import CONTRACT, Answer, CommandFailed, World, standard_world, wait_until

BROKEN = CONTRACT.replace("required: [text]", "required: [text, author]")
WIDER = CONTRACT.replace("  /jump:\n", "  /later:\n    get: {operationId: later, responses: *answers}\n  /jump:\n")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world of these tests' own: they switch its service off."""
    with standard_world(tmp_path_factory.mktemp("life")) as running:
        yield running


def home(world: World) -> str:
    return str(world.member("G01").home)


def call(world: World, path: str = "/notes/1", service: str = "G01/desk/notes") -> Answer:
    return world.call(world.clients["H37/app"], service, path)


def test_a_service_that_is_off_answers_with_its_notice(world: World) -> None:
    world.command("service", "disable", "desk/notes", "--home", home(world), "--notice", "Bảo trì đến thứ Hai")
    answer = wait_until(lambda: (got := call(world)).status == 503 and got, "the notice")
    assert answer.code == "service-disabled"
    assert answer.json()["detail"].endswith("off: Bảo trì đến thứ Hai")
    assert answer.headers["retry-after"] == "300"
    listed = world.command("service", "list", "--home", home(world))["services"]
    assert [(one["on"], one["notice"]) for one in listed] == [(False, "Bảo trì đến thứ Hai")]
    world.command("service", "enable", "desk/notes", "--home", home(world))
    wait_until(lambda: call(world).status == 200, "the service")


def test_a_service_that_is_off_until_an_instant_is_on_again_by_itself(world: World) -> None:
    until = datetime.now(UTC) + timedelta(seconds=7)
    world.command("service", "disable", "desk/notes", "--home", home(world), "--notice", "short",
                  "--until", until.strftime("%Y-%m-%dT%H:%M:%S"))  # fmt: skip
    answer = wait_until(lambda: (got := call(world)).status == 503 and got, "the notice")
    assert 1 <= int(answer.headers["retry-after"]) <= 8
    wait_until(lambda: call(world).status == 200, "the service")
    world.command("service", "enable", "desk/notes", "--home", home(world))


def test_callers_of_a_deprecated_operation_are_told_and_counted(world: World) -> None:
    assert "deprecation" not in call(world).headers
    world.command(
        "service", "deprecate", "desk/notes", "GET /notes/{id}", "--home", home(world), "--sunset", "2036-01-02"
    )
    answer = wait_until(lambda: "sunset" in (got := call(world)).headers and got, "the header")
    assert answer.status == 200
    since = datetime.fromtimestamp(int(answer.headers["deprecation"].removeprefix("@")), UTC)
    assert abs(datetime.now(UTC) - since) < timedelta(minutes=2)
    assert parsedate_to_datetime(answer.headers["sunset"]) == datetime(2036, 1, 2, tzinfo=UTC)
    assert "deprecation" not in call(world, "/flags/1").headers
    counted = {"operation": "getNote", "client": "VN-TEST/GOV/H37/onedoor"}
    assert world.metric("G01", "lienthong_deprecated_calls_total", **counted) >= 1
    rows = world.command("service", "callers", "desk/notes", "--home", home(world))["callers"]
    by_operation = {row["operation"]: row for row in rows}
    assert by_operation["getNote"]["deprecated"]
    assert by_operation["getNote"]["calls"] > by_operation["getFlag"]["calls"] >= 1
    only = world.command("service", "callers", "desk/notes", "--home", home(world), "--deprecated")["callers"]
    assert [(row["client"], row["operation"]) for row in only] == [("VN-TEST/GOV/H37/onedoor", "getNote")]
    world.command("service", "deprecate", "desk/notes", "getNote", "--home", home(world), "--undo")
    wait_until(lambda: "deprecation" not in call(world).headers, "the undo")


def test_what_breaks_callers_is_not_published_under_the_same_version(world: World, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(BROKEN)
    told = world.answer("service", "diff", "desk/notes", str(broken), "--home", home(world))["changes"]
    assert [(one["kind"], one["breaking"]) for one in told] == [("property-required", True)]
    with pytest.raises(CommandFailed, match="author is required now") as refused:
        world.publish("G01", "desk/notes", BROKEN)
    assert refused.value.code == "breaking-change"
    assert call(world).status == 200
    changes = world.command("service", "list", "--home", home(world))["services"]
    assert [one["version"] for one in changes] == ["1.0.0"]


def test_two_versions_of_a_contract_stand_side_by_side(world: World) -> None:
    world.publish("G01", "desk/notes-v2", BROKEN.replace("version: 1.0.0", "version: 2.0.0"))
    world.grant("VN-TEST/GOV/H37/onedoor", "G01", "desk/notes-v2")
    world.reload_gateway("G01")
    old = {"method": "POST", "body": b'{"text":"x"}'}
    client = world.clients["H37/app"]
    wait_until(lambda: world.call(client, "G01/desk/notes-v2", "/notes", **old).code == "request-invalid")
    assert world.call(client, "G01/desk/notes", "/notes", **old).status == 200
    new = {"method": "POST", "body": b'{"text":"x","author":"y"}'}
    wait_until(lambda: world.call(client, "G01/desk/notes-v2", "/notes", **new).status == 200, deadline_s=30)


def test_a_change_that_breaks_nobody_is_published_and_switches_nothing_on(world: World) -> None:
    world.command("service", "disable", "desk/notes", "--home", home(world), "--notice", "off")
    world.publish("G01", "desk/notes", WIDER)
    wait_until(lambda: call(world, "/later").code == "service-disabled")
    world.command("service", "enable", "desk/notes", "--home", home(world))
    wait_until(lambda: call(world, "/later").status == 200)
