"""The agencies' own dossier application: it does everything once, also after a kill, and has a rule of its own."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from console.sample.dossiers import DossierApplication, DossierBook

CODE = "H37.02.02-260302-0001"
DOSSIER = {"code": CODE, "procedure": "1.1", "procedureName": "x", "applicant": "A", "status": "accepted"}


class Client:
    def __init__(self, session: aiohttp.ClientSession, front: str) -> None:
        self._session, self._front = session, front

    async def post(self, path: str, exchange_id: str, **told: Any) -> tuple[int, dict[str, Any]]:
        headers = {"X-Road-Request-Id": exchange_id}
        async with self._session.post(self._front + path, json=told, headers=headers) as got:
            return got.status, await got.json(content_type=None)

    async def get(self, path: str) -> tuple[int, dict[str, Any]]:
        async with self._session.get(self._front + path) as got:
            return got.status, await got.json(content_type=None)


@asynccontextmanager
async def running(path: Path) -> AsyncIterator[Client]:
    book = DossierBook(path)
    runner = web.AppRunner(DossierApplication(book).routed(), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with aiohttp.ClientSession() as session:
            yield Client(session, f"http://127.0.0.1:{runner.addresses[0][1]}")
    finally:
        await runner.cleanup()
        book.close()


def effects(path: Path) -> list[str]:
    return [json.loads(line)["exchange_id"] for line in path.read_text().splitlines()]


async def test_an_exchange_that_comes_again_after_a_restart_changes_nothing_and_gets_the_same_answer(tmp_path) -> None:
    path = tmp_path / "effects.jsonl"
    async with running(path) as client:
        first = await client.post("/dossiers", "one", **DOSSIER)
        assert first == (200, {"code": CODE})
    async with running(path) as client:
        assert await client.post("/dossiers", "one", **DOSSIER) == first
        assert (await client.get(f"/dossiers/{CODE}"))[1]["status"] == "accepted"
    assert effects(path) == ["one"]


async def test_progress_and_states_are_what_a_look_up_tells(tmp_path) -> None:
    path = tmp_path / "effects.jsonl"
    async with running(path) as client:
        await client.post("/dossiers", "one", **DOSSIER)
        step = {"official": "a", "at": "2026-03-03T08:00:00+07:00", "content": "c", "status": "processing", "unit": "U"}
        await client.post(f"/dossiers/{CODE}/progress", "two", **step)
        _, found = await client.get(f"/dossiers/{CODE}")
        assert (found["status"], found["unit"], found["procedure"]) == ("processing", "U", "1.1")
        await client.post(f"/dossiers/{CODE}/status", "three", status="finished", at="2026-03-04T08:00:00+07:00")
        _, found = await client.get(f"/dossiers/{CODE}")
        assert (found["status"], found["finishedAt"]) == ("finished", "2026-03-04T08:00:00+07:00")


async def test_a_dossier_that_has_ended_takes_nothing_more_and_an_unknown_one_is_unknown(tmp_path) -> None:
    path = tmp_path / "effects.jsonl"
    async with running(path) as client:
        await client.post("/dossiers", "one", **DOSSIER)
        await client.post(f"/dossiers/{CODE}/status", "two", status="returned")
        status, told = await client.post(f"/dossiers/{CODE}/status", "three", status="processing")
        assert (status, told["code"]) == (422, "dossier-ended")
        assert (await client.get("/dossiers/H37-260302-0009"))[0] == 404
        assert (await client.post("/dossiers/H37-260302-0009/status", "four", status="finished"))[0] == 404
    assert effects(path) == ["one", "two"]
