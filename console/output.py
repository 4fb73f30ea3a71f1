"""How commands speak: text for people, one JSON object with `--json`, errors as one line with a stable code."""

from __future__ import annotations

import errno
import functools
import json
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn, ParamSpec, TypeVar

import click

P = ParamSpec("P")
R = TypeVar("R")

EXIT_FAILED, EXIT_USAGE = 1, 2


def emit(result: dict[str, Any], text: str, as_json: bool) -> None:
    """Prints the result of a command."""
    click.echo(json.dumps(result, ensure_ascii=False, default=_plain) if as_json else text)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (set, frozenset, tuple)):
        return sorted(value, key=str)
    raise TypeError(type(value).__name__)


def json_option(function: Callable[P, R]) -> Callable[P, R]:
    """The option `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(function)


def reports_errors(function: Callable[P, R]) -> Callable[P, R]:
    """Turns the errors of all rooms into one line and exit code 1; never a traceback for bad input."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        from adapters.errors import AdapterError
        from bus.errors import BusError, SettingsInvalid
        from evidence.errors import EvidenceError
        from registry.errors import RegistryError

        as_json = bool(kwargs.get("as_json"))
        try:
            return function(*args, **kwargs)
        except SettingsInvalid as error:
            problems = [
                {"file": error.path, "line": line, "key": key, "message": message}
                for line, key, message in error.problems
            ]
            lines = [f"{item['file']}:{item['line']}: {item['key']}: {item['message']}" for item in problems]
            _fail(error.code, "\n".join(lines), as_json, {"problems": problems})
        except (BusError, RegistryError, EvidenceError, AdapterError) as error:
            _fail(error.code, str(error), as_json, {})
        except BrokenPipeError:
            sys.exit(EXIT_FAILED)
        except OSError as error:
            _fail("file", _told(error), as_json, {})

    return wrapped


def _told(error: OSError) -> str:
    """Without Python's number in front; an address in use is no fault of a file and gets its way out."""
    said = f"{error.strerror}: {error.filename}" if error.filename else error.strerror or str(error)
    if error.errno == errno.EADDRINUSE:
        return f"{said}; stop what listens there, or choose another address in the home's settings"
    return said


def _fail(code: str, message: str, as_json: bool, more: dict[str, Any]) -> NoReturn:
    if as_json:
        click.echo(json.dumps({"error": {"code": code, "message": message, **more}}, ensure_ascii=False))
    else:
        click.echo(f"error [{code}]: {message}", err=True)
    sys.exit(EXIT_FAILED)
