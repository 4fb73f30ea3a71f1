"""What all long-running processes share: the event loop, signals, log lines, the file that says where they listen."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine, MutableMapping
from pathlib import Path
from typing import Any

import structlog
import uvloop

from console.homes import replace_file

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure_logging(format_: str = "json", level: str = "info") -> None:
    """Log lines on stderr: JSON for machines, `console` for people. Never payload or personal data."""
    renderer: Any = structlog.processors.JSONRenderer() if format_ == "json" else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _trace,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS.get(level, logging.INFO)),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)


def _trace(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Where a defect happened, without the exception's own text, which could repeat somebody's data."""
    error = event.pop("exc_info", None)
    if isinstance(error, BaseException):
        frames = traceback.extract_tb(error.__traceback__)
        event["trace"] = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
    return event


def run_process(
    main: Callable[[asyncio.Event], Coroutine[Any, Any, None]],
    on_reload: Callable[[], Coroutine[Any, Any, None]] | None,
) -> None:
    """Runs `main(stop)` on uvloop; SIGTERM and SIGINT set `stop`, SIGHUP calls `on_reload`."""

    async def supervised() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        reloads: set[asyncio.Task[None]] = set()

        def reload() -> None:
            if on_reload is not None:
                task = loop.create_task(on_reload())
                reloads.add(task)
                task.add_done_callback(reloads.discard)

        loop.add_signal_handler(signal.SIGHUP, reload)
        await main(stop)

    # Calls make few cycles and directories are large: collections are rare, and what was read at the start is left out.
    gc.set_threshold(50_000, 50, 50)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(supervised())


def announce(path: Path, facts: dict[str, Any]) -> None:
    """Writes where a process listens; others wait for this file. What was made until now stays: see `gc.freeze`."""
    gc.freeze()
    replace_file(path, json.dumps({"pid": os.getpid(), **facts}).encode(), 0o644)
