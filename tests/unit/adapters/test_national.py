import pytest
from adapter_requests import asked

from adapters.errors import OperationNotMapped, SettingsInvalid
from adapters.national.business import BusinessKind
from adapters.national.population import PopulationKind
from adapters.national.population_mapping import COLUMNS, CONFIRM, ENUMS, LOOK_UP
from adapters.port import SilentObserver

DATABASE = {"database": "sqlite:///x.db"}


def test_every_column_is_named_in_a_statement_and_no_other() -> None:
    named = {part.split("}")[0] for part in (CONFIRM + LOOK_UP).split("{")[1:]}
    assert named == {*COLUMNS, "table"}


def test_population_names_can_be_an_agencys_own() -> None:
    codes = {"sex": {"M": "male", "F": "female"}}
    settings = {**DATABASE, "table": "register.person", "columns": {"number": "so_dinh_danh"}, "codes": codes}
    PopulationKind().build(settings, SilentObserver())


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"table": "t; DROP TABLE x"}, "table"),
        ({"table": "a.b.c"}, "table"),
        ({"table": "Citizen"}, "table"),
        ({"table": "citizen\n"}, "table"),
        ({"columns": {"number": 'x" --'}}, "columns.number"),
        ({"columns": {"number": "1x"}}, "columns.number"),
        ({"columns": {"numbr": "x"}}, "columns.numbr"),
        ({"codes": {"colour": {}}}, "codes.colour"),
        ({"codes": {"sex": {"1": "man"}}}, "codes.sex.1"),
        ({"operations": {}}, "operations"),
        ({"enums": {}}, "enums"),
        ({"tabel": "x"}, "tabel"),
        ({"database": "x"}, "database"),
    ],
)
def test_a_wrong_population_setting_is_refused_with_its_key(settings: dict[str, object], key: str) -> None:
    with pytest.raises(SettingsInvalid) as refusal:
        PopulationKind().build({**DATABASE, **settings}, SilentObserver())
    assert refusal.value.key == key


def test_code_lists_map_to_the_contracts_values() -> None:
    assert ENUMS["sex"] == {"0": "unknown", "1": "male", "2": "female"}


@pytest.mark.parametrize(
    ("operation", "method", "path"),
    [
        ("deleteEnterprise", "DELETE", "/enterprises/0100000000"),
        ("getEnterprise", "DELETE", "/enterprises/0100000000"),
        ("getEnterprise", "GET", "/enterprises/../admin"),
        ("getEnterprise", "GET", "/enterprises/0100000000\n"),
        ("searchEnterprises", "GET", "/enterprises/"),
        ("registrationStatus", "GET", "/registration-status"),
    ],
)
async def test_only_the_contracts_doors_of_the_business_register_are_open(
    operation: str, method: str, path: str
) -> None:
    source = BusinessKind().build({"base_url": "http://127.0.0.1:1"}, SilentObserver())
    await source.open()
    try:
        with pytest.raises(OperationNotMapped) as refusal:
            await source.call(asked(operation, method=method, path=path))
        assert refusal.value.acted == "no"
    finally:
        await source.close()
