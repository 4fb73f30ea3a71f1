import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.errors import BackendUnreachable
from adapters.national.business import BusinessKind, BusinessSource
from adapters.port import AdapterRequest, SilentObserver
from console.sample.business import business_tables
from console.sample.tables import write_sqlite

TABLES = business_tables(5, 400)
BASE = AdapterRequest(
    exchange_id="0198c0de-0000-7000-8000-000000000001", client="VN/GOV/H37/onedoor", service="VN/GOV/G05/business/x",
    operation="", method="GET", path="", query="", headers=(), content_type="", body=b"", parameters={},
    json_body=None, official="", issue="", represented_party="", purpose="", legal_basis="", deadline_s=10.0,
)  # fmt: skip


@asynccontextmanager
async def running(home: Path) -> AsyncIterator[tuple[BusinessSource, asyncio.subprocess.Process]]:
    write_sqlite(home / "business.db", TABLES)
    port_file = home / "port"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "console.sample", "backend", "--database", str(home / "business.db"),
        "--effects", str(home / "effects.jsonl"), "--port-file", str(port_file),
    )  # fmt: skip
    try:
        until_s = time.monotonic() + 30
        while not port_file.exists():
            assert process.returncode is None
            assert time.monotonic() < until_s
            await asyncio.sleep(0.02)  # a file cannot be awaited
        address = f"http://127.0.0.1:{port_file.read_text().strip()}"
        source = BusinessKind().build({"base_url": address, "check_path": "/livez"}, SilentObserver())
        await source.open()
        try:
            yield source, process
        finally:
            await source.close()
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 15)


async def test_the_register_serves_its_contract_and_notes_what_it_served(tmp_path: Path) -> None:
    code, document = (TABLES[0].rows[0][place] for place in (0, 5))
    dossier, state = TABLES[1].rows[0][:2]
    asked = f"<DossierCode>{dossier}</DossierCode>"
    xml = f'<RegistrationStatusRequest xmlns="urn:lienthong:business:1">{asked}</RegistrationStatusRequest>'
    async with running(tmp_path) as (source, process):
        await source.check()
        found = await source.call(replace(BASE, operation="getEnterprise", path=f"/enterprises/{code}"))
        assert (found.status, found.content_type) == (200, "application/json; charset=utf-8")
        assert found.body.decode() == document
        none = await source.call(replace(BASE, operation="getEnterprise", path="/enterprises/9999999999"))
        assert (none.status, none.content_type) == (404, "application/problem+json")
        search = replace(BASE, operation="searchEnterprises", path="/enterprises", query="name=c%C3%B4ng%20ty&limit=3")
        result = json.loads((await source.call(search)).body)
        assert len(result["enterprises"]) == 3 < result["total"]
        assert (await source.call(replace(search, query="name=An&limit=x"))).status == 400
        ask = replace(
            BASE, operation="registrationStatus", method="POST", path="/registration-status",
            content_type="application/xml", body=xml.encode(), exchange_id="last",
        )  # fmt: skip
        status = await source.call(ask)
        assert status.content_type == "application/xml"
        assert f"<State>{state}</State>".encode() in status.body
        assert (await source.call(replace(ask, body=b"<x/>", exchange_id="x"))).status == 400
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 15) == 0
        with pytest.raises(BackendUnreachable):
            await source.check()
    lines = [json.loads(line) for line in (tmp_path / "effects.jsonl").read_text().splitlines()]
    assert [line["operation"] for line in lines[:2]] == ["getEnterprise", "getEnterprise"]
    assert lines[-2]["exchange_id"] == "last"
    assert all(line.keys() == {"exchange_id", "operation", "at"} for line in lines)
