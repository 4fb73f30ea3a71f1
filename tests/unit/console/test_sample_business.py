import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.sample.business import CHECK_WEIGHTS, business_tables, check_digit, register

REGISTER = register(1, 2000)


def test_the_same_seed_gives_the_same_register() -> None:
    assert register(2, 60) == register(2, 60)
    assert register(2, 60) != register(3, 60)


def test_the_check_digit_is_that_of_a_code_that_everyone_knows() -> None:
    assert check_digit("010010910") == 6


@given(st.from_regex(r"[0-9]{9}", fullmatch=True))
def test_the_check_digit_brings_the_weighted_sum_to_ten(nine: str) -> None:
    digit = check_digit(nine)
    total = sum(int(one) * weight for one, weight in zip(nine, CHECK_WEIGHTS, strict=True))
    assert digit is None or (total + digit) % 11 == 10
    assert (digit is None) == (total % 11 == 0)


def test_codes_are_unique_and_their_check_digit_is_right() -> None:
    codes = [str(row[0]) for row in REGISTER.enterprises]
    assert len(set(codes)) == len(codes) == 2000
    assert codes == sorted(codes)
    assert all(re.fullmatch("[0-9]{10}", code) and check_digit(code[:9]) == int(code[9]) for code in codes)


def test_documents_agree_with_the_columns_beside_them() -> None:
    for code, name, _, status, province, document in REGISTER.enterprises:
        read = json.loads(str(document))
        assert (read["code"], read["name"], read["status"]) == (code, name, status)
        assert read["headOffice"]["province"] == province


def test_only_registered_dossiers_name_an_enterprise() -> None:
    codes = {row[0] for row in REGISTER.enterprises}
    for _, state, _, code in REGISTER.dossiers:
        assert (code in codes) == (state == "registered")


def test_the_tables_hold_the_register() -> None:
    assert [(table.name, len(table.rows)) for table in business_tables(1, 90)] == [("enterprise", 90), ("dossier", 30)]


@pytest.mark.parametrize("count", [1, 2])
def test_the_smallest_registers_work(count: int) -> None:
    assert len(register(1, count).enterprises) == count
