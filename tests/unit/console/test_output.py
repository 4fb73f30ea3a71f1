import json
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from adapters.errors import BackendUnreachable
from bus.errors import AccessDenied, SettingsInvalid
from console.output import emit, json_option, reports_errors
from evidence.errors import IdentifierInvalid
from registry.errors import FeedUnavailable


def command_raising(error: BaseException):
    @click.command()
    @json_option
    @reports_errors
    def command(as_json: bool) -> None:
        """Fail."""
        raise error

    return command


ERRORS = [
    (AccessDenied("no right"), "access-denied"),
    (IdentifierInvalid("not an identifier"), "identifier-invalid"),
    (FeedUnavailable("not connected"), "feed-unavailable"),
    (BackendUnreachable("down"), "backend-unreachable"),
    (FileNotFoundError(2, "No such file or directory", "/none"), "file"),
    (OSError("disk"), "file"),
    (SettingsInvalid([(3, "node", "bad"), (7, "genesis", "missing")], "gateway.toml"), "settings-invalid"),
]


@pytest.mark.parametrize(("error", "code"), ERRORS)
def test_an_error_of_any_room_is_one_line_with_a_code(error, code):
    result = CliRunner().invoke(command_raising(error), [])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error [{code}]: ")
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) == (2 if code == "settings-invalid" else 1)


@pytest.mark.parametrize(("error", "code"), ERRORS)
def test_an_error_is_one_object_when_asked_for(error, code):
    result = CliRunner().invoke(command_raising(error), ["--json"])
    assert (result.exit_code, result.stderr) == (1, "")
    found = json.loads(result.stdout)["error"]
    assert found["code"] == code
    assert found["message"]
    if code == "settings-invalid":
        assert found["problems"][0] == {"file": "gateway.toml", "line": 3, "key": "node", "message": "bad"}


def test_settings_problems_are_lines_that_editors_understand():
    result = CliRunner().invoke(command_raising(ERRORS[-1][0]), [])
    assert result.stderr == "error [settings-invalid]: gateway.toml:3: node: bad\ngateway.toml:7: genesis: missing\n"


def test_a_reader_that_went_away_is_no_error_text():
    result = CliRunner().invoke(command_raising(BrokenPipeError()), [])
    assert (result.exit_code, result.output) == (1, "")


def test_a_defect_is_not_hidden():
    assert isinstance(CliRunner().invoke(command_raising(ZeroDivisionError()), []).exception, ZeroDivisionError)


def test_a_result_is_text_or_one_object(capsys):
    result = {
        "at": datetime(2026, 11, 23, tzinfo=UTC),
        "path": Path("/x"),
        "names": {"b", "a"},
        "frozen": frozenset({"c"}),
        "parts": ("z", "y"),
        "vi": "Sở Nội vụ",
    }
    emit(result, "text", False)
    emit(result, "text", True)
    text, line = capsys.readouterr().out.splitlines()
    assert text == "text"
    assert "Sở Nội vụ" in line
    assert json.loads(line) == {
        "at": "2026-11-23T00:00:00+00:00",
        "path": "/x",
        "names": ["a", "b"],
        "frozen": ["c"],
        "parts": ["z", "y"],
        "vi": "Sở Nội vụ",
    }
    with pytest.raises(TypeError):
        emit({"x": object()}, "", True)
