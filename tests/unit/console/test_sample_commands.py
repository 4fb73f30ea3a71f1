import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from click.testing import CliRunner

from console.sample.__main__ import main
from console.sample.backend import Application, Effects, open_tables
from console.sample.business import business_tables
from console.sample.tables import write_sqlite

TABLES = business_tables(5, 200)
NAMESPACE = "urn:lienthong:business:1"


@pytest.mark.parametrize(("command", "table"), [("population", "citizen"), ("business", "enterprise")])
def test_a_register_is_written_to_a_file(tmp_path: Path, command: str, table: str) -> None:
    out = tmp_path / "x.db"
    result = CliRunner().invoke(main, [command, "--seed", "2", "--count", "30", "--out", str(out)])
    assert result.exit_code == 0
    assert f"{table}: 30 rows" in result.output
    connection = sqlite3.connect(out)
    try:
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (30,)
    finally:
        connection.close()


def test_a_register_goes_to_one_place_only() -> None:
    assert CliRunner().invoke(main, ["business"]).exit_code == 2


@asynccontextmanager
async def served(home: Path) -> AsyncIterator[tuple[ClientSession, str]]:
    write_sqlite(home / "b.db", TABLES)
    tables, effects = await open_tables(f"sqlite:///{home / 'b.db'}"), Effects(home / "effects.jsonl")
    runner = web.AppRunner(Application(tables, effects).routed(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with ClientSession() as session:
            yield session, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
        await tables.close()
        effects.close()


@pytest.mark.parametrize(
    ("method", "target", "body", "status"),
    [
        ("GET", "/livez", "", 200),
        ("GET", f"/enterprises/{TABLES[0].rows[0][0]}", "", 200),
        ("GET", "/enterprises/0", "", 404),
        ("GET", "/enterprises?name=c%C3%B4ng&status=active", "", 200),
        ("GET", "/enterprises?name=", "", 400),
        ("GET", "/enterprises?name=a&limit=x", "", 400),
        ("GET", "/enterprises?name=a&limit=101", "", 400),
        ("POST", "/registration-status", "<", 400),
        ("POST", "/registration-status", "<x/>", 400),
        ("POST", "/registration-status", f'<RegistrationStatusRequest xmlns="{NAMESPACE}"/>', 400),
    ],
)
async def test_the_application_answers(tmp_path: Path, method: str, target: str, body: str, status: int) -> None:
    data = body.encode() or None
    async with served(tmp_path) as (session, address), session.request(method, address + target, data=data) as response:
        assert response.status == status


async def test_a_dossier_is_answered_in_xml_and_noted(tmp_path: Path) -> None:
    for row in TABLES[1].rows[:3]:
        asked = f"<DossierCode>{row[0]}</DossierCode>"
        body = f'<RegistrationStatusRequest xmlns="{NAMESPACE}">{asked}</RegistrationStatusRequest>'
        async with served(tmp_path) as (session, address):
            headers = {"X-Road-Request-Id": f"id {row[0]}"}
            async with session.post(f"{address}/registration-status", data=body.encode(), headers=headers) as response:
                text = await response.text()
        assert f"<State>{row[1]}</State>" in text
        assert ("EnterpriseCode" in text) == (row[1] == "registered")
    noted = [json.loads(line) for line in (tmp_path / "effects.jsonl").read_text().splitlines()]
    assert [one["exchange_id"] for one in noted] == [f"id {row[0]}" for row in TABLES[1].rows[:3]]
