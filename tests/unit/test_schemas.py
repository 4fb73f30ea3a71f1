"""Every contract in schemas/ is one that the bus enforces, and every example says the truth about it."""

import json
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from adapters.national.population import PopulationKind
from adapters.national.population_changes import PopulationChangesKind
from adapters.port import AdapterRequest, SilentObserver
from console.sample.business import business_tables
from console.sample.population import claims, population_tables
from console.sample.tables import write_sqlite
from registry.contract import AnswerInvalid, CompiledContract, RequestInvalid, compile_contract, parse_contract

SCHEMAS = Path(__file__).parents[2] / "schemas"
DOMAINS = sorted(path.parent.relative_to(SCHEMAS).as_posix() for path in SCHEMAS.glob("*/*/openapi.yaml"))
EXAMPLES = sorted(path.relative_to(SCHEMAS).as_posix() for path in SCHEMAS.glob("*/*/examples/*/*.json"))
BASE = AdapterRequest(
    exchange_id="0198c0de-0000-7000-8000-000000000001", client="VN/GOV/H37/onedoor", service="VN/GOV/G01/x/y",
    operation="lookUpCitizen", method="GET", path="", query="", headers=(), content_type="", body=b"", parameters={},
    json_body=None, official="", issue="", represented_party="", purpose="", legal_basis="", deadline_s=10.0,
)  # fmt: skip
JSON_TYPES = ("application/json", "application/problem+json")


@dataclass(frozen=True)
class Example:
    """One example file."""

    domain: str
    valid: bool
    said: dict[str, Any]

    @property
    def body(self) -> bytes:
        body = self.said["body"]
        if body is None:
            return b""
        is_json = self.said["content_type"].partition(";")[0] in JSON_TYPES
        return json.dumps(body, ensure_ascii=False).encode() if is_json else body.encode()


def read(path: str) -> Example:
    domain, version, _, kind, _ = path.split("/")
    return Example(f"{domain}/{version}", kind == "valid", json.loads((SCHEMAS / path).read_text()))


@lru_cache
def compiled(domain: str) -> CompiledContract:
    return compile_contract(parse_contract((SCHEMAS / domain / "openapi.yaml").read_bytes()))


def run(example: Example) -> None:
    said, contract = example.said, compiled(example.domain)
    if said["direction"] == "answer":
        check = contract.validate_answer(said["operation"], said["status"], said["content_type"], example.body)
        assert check.declared
        return
    match = contract.route(said["method"], said["path"])
    assert match.operation.id == said["operation"]
    headers = tuple(said["headers"].items())
    contract.validate_request(match, said["query"], headers, said["content_type"], example.body)


def test_the_first_two_domains_are_there() -> None:
    assert {"population/1", "business/1"} <= set(DOMAINS)


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_operation_has_valid_examples_of_both_directions_and_an_invalid_one(domain: str) -> None:
    contract = compiled(domain)
    examples = [read(path) for path in EXAMPLES if path.startswith(domain + "/")]
    for operation in contract.operations:
        of_it = [example for example in examples if example.said["operation"] == operation]
        assert {example.said["direction"] for example in of_it if example.valid} == {"request", "answer"}
        assert any(not example.valid for example in of_it)


@pytest.mark.parametrize("path", [path for path in EXAMPLES if "/valid/" in path])
def test_a_valid_example_passes(path: str) -> None:
    run(read(path))


@pytest.mark.parametrize("path", [path for path in EXAMPLES if "/invalid/" in path])
def test_an_invalid_example_is_refused_for_the_reason_that_it_names(path: str) -> None:
    example = read(path)
    with pytest.raises((RequestInvalid, AnswerInvalid)) as refusal:
        run(example)
    violates = example.said["violates"]
    named = (violates["where"], violates["pointer"], violates["rule"])
    assert named in [(one.where, one.pointer, one.rule) for one in refusal.value.violations]


@pytest.mark.parametrize("domain", DOMAINS)
def test_without_field_grants_no_marked_field_leaves(domain: str) -> None:
    parsed = parse_contract((SCHEMAS / domain / "openapi.yaml").read_bytes())
    granted = compile_contract(parsed, granted=frozenset())
    answers = [example for path in EXAMPLES if "/valid/" in path and (example := read(path)).domain == domain]
    for example in answers:
        said = example.said
        if said["direction"] == "answer" and said["status"] == 200:
            cut = granted.cut_answer(said["operation"], said["status"], said["content_type"], example.body)
            for withheld in (b"religion", b"bloodGroup", b"ethnicity", b"father", b"members", b"012345678901"):
                assert withheld not in cut
            granted.validate_answer(said["operation"], said["status"], said["content_type"], cut)


def test_the_samples_documents_keep_the_business_contract() -> None:
    contract = compiled("business/1")
    for table in business_tables(1, 300)[:1]:
        for row in table.rows:
            contract.validate_answer("getEnterprise", 200, "application/json", str(row[5]).encode())


async def test_the_population_sources_answers_keep_the_population_contract(tmp_path: Path) -> None:
    contract = compiled("population/1")
    tables = population_tables(1, 500)
    write_sqlite(tmp_path / "p.db", tables)
    source = PopulationKind().build({"database": f"sqlite:///{tmp_path / 'p.db'}"}, SilentObserver())
    await source.open()
    try:
        for claim in claims(tables[0].rows):
            match = contract.route("GET", f"/citizens/{claim.number}")
            parameters = contract.validate_request(match, "", (), "", b"").values
            answer = await source.call(replace(BASE, parameters=parameters))
            assert contract.validate_answer("lookUpCitizen", answer.status, answer.content_type, answer.body).declared
            body = {"number": claim.number, "fullName": claim.full_name, "birthDate": claim.birth_date}
            match = contract.route("POST", "/confirm")
            said = contract.validate_request(match, "", (), "application/json", json.dumps(body).encode()).json_body
            asked = replace(BASE, operation="confirmCitizen", method="POST", parameters={}, json_body=said)
            answer = await source.call(asked)
            assert answer.body == b'{"exists":true}'
        none = await source.call(replace(BASE, parameters={"number": "000000000000"}))
        assert contract.validate_answer("lookUpCitizen", none.status, none.content_type, none.body).declared
    finally:
        await source.close()


async def test_the_changes_sources_answers_keep_the_contract_of_changes(tmp_path: Path) -> None:
    contract = compiled("population-changes/1")
    tables = population_tables(1, 50)
    write_sqlite(tmp_path / "p.db", tables)
    source = PopulationChangesKind().build({"database": f"sqlite:///{tmp_path / 'p.db'}"}, SilentObserver())
    await source.open()
    assert source.write_back is not None
    await source.write_back.prepare()
    await source.check()
    numbers = [claim.number for claim in claims(tables[0].rows)]

    async def ask(operation: str, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, Any]:
        data = b"" if body is None else json.dumps(body).encode()
        match = contract.route(method, path)
        said = contract.validate_request(match, "", (), "" if body is None else "application/json", data)
        request = replace(BASE, operation=operation, method=method, path=path, parameters=said.values,
                          json_body=said.json_body, body=data, **more)  # fmt: skip
        answer = await source.call(request)
        assert contract.validate_answer(operation, answer.status, answer.content_type, answer.body).declared
        return answer.status, json.loads(answer.body)

    async def propose(number: str, changes: Any, based_on: int, id_: str) -> tuple[int, Any]:
        body = read("population-changes/1/examples/valid/propose-request.json").said["body"]
        body = {**body, "basedOn": based_on, "changes": changes}
        return await ask("proposeChange", "POST", f"/citizens/{number}/changes", body, exchange_id=id_)

    id_ = BASE.exchange_id
    home = {"province": "01", "commune": "00301", "detail": "12 đường Mẫu"}
    try:
        for number in numbers:
            assert (await ask("getRecord", "GET", f"/citizens/{number}"))[1]["version"] == 1
        assert (await propose(numbers[0], {"permanentResidence": home}, 1, id_))[0] == 200
        after = (await ask("getRecord", "GET", f"/citizens/{numbers[0]}"))[1]
        assert (after["version"], after["permanentResidence"]) == (2, home)
        assert (await propose(numbers[0], {"permanentResidence": home}, 1, id_[:-1] + "2"))[0] == 409
        nowhere = {**home, "commune": "99999"}
        assert (await propose(numbers[0], {"currentResidence": nowhere}, 2, id_[:-1] + "3"))[0] == 422
        assert (await propose(numbers[1], {"maritalStatus": "divorced"}, 1, id_[:-1] + "4"))[0] == 202
        assert (await propose("0" * 12, {"maritalStatus": "divorced"}, 1, id_[:-1] + "5"))[0] == 404
        assert (await ask("getChange", "GET", f"/changes/{id_[:-1]}4"))[1]["state"] == "queued"
        assert await source.write_back.decide(id_[:-1] + "4", "accept", "thu.ky", "seen") == ("accepted", 2)
        assert (await ask("getChange", "GET", f"/changes/{id_[:-1]}4"))[1]["state"] == "accepted"
        assert (await ask("getRecord", "GET", f"/citizens/{numbers[1]}"))[1]["maritalStatus"] == "divorced"
    finally:
        await source.close()
