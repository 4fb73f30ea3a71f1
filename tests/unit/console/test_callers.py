"""Who still calls an operation, counted from the provider's own log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from console.callers import callers
from evidence.header import Header, encode, encode_time, uuid7
from evidence.leaf import EXCHANGE, wrap
from evidence.log import ExchangeLog
from evidence.signer import FileSigner

SERVICE, CLIENT = "VN-TEST/GOV/G01/desk/notes", "VN-TEST/GOV/H37/onedoor"
NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)


def record(number: int, type_: str) -> bytes:
    made = Header(
        specversion="1.0",
        id=uuid7(1_790_000_000_000 + number, b"0123456789"),
        time=encode_time(NOW + timedelta(seconds=number)),
        type=type_,  # type: ignore[arg-type]
        source=CLIENT,
        node="VN-TEST/GOV/H37/@n1",
        to=SERVICE,
        operation="closeNote",
    )
    return wrap(EXCHANGE, encode(made))


async def test_who_calls_by_commands_only_is_counted_too(tmp_path: Path) -> None:
    path, tokens = tmp_path / "log.db", iter(range(1000))
    log = await ExchangeLog.open(
        path,
        origin=f"{'ab' * 32}/VN-TEST/GOV/G01/@n1/1",
        signer=FileSigner.generate("ed25519"),
        now=lambda: NOW,
        token=lambda: f"{next(tokens):032x}",
    )
    await log.append([record(1, "query"), record(2, "command"), record(3, "command")])
    await log.close()
    found = callers(path, SERVICE, NOW)
    assert {key: calls.count for key, calls in found.items()} == {("closeNote", CLIENT): 3}
