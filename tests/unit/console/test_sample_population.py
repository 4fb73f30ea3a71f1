import re
import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from adapters.national.population_mapping import COLUMNS
from console.sample.places import PROVINCES
from console.sample.population import citizens, claims, population_tables
from console.sample.tables import write_sqlite

PEOPLE = [dict(zip(COLUMNS, row, strict=True)) for row in citizens(1, 5000)]
BY_NUMBER = {str(person["number"]): person for person in PEOPLE}


def test_the_same_seed_gives_the_same_people_and_another_seed_gives_others() -> None:
    assert citizens(3, 200) == citizens(3, 200)
    assert citizens(3, 200) != citizens(4, 200)


def test_numbers_are_unique_well_formed_and_agree_with_province_sex_and_birth_year() -> None:
    assert len(BY_NUMBER) == len(PEOPLE) == 5000
    for number, person in BY_NUMBER.items():
        assert re.fullmatch("[0-9]{12}", number)
        assert number[1:3] in PROVINCES
        assert number[:3] == f"0{person['birth_registration_province']}"
        year = int(str(person["birth_date"])[:4])
        assert number[4:6] == f"{year % 100:02d}"
        assert int(number[3]) == (year // 100 - 19) * 2 + (person["sex"] == "2")


def test_birth_dates_are_known_to_the_year_the_month_or_the_day() -> None:
    lengths = Counter(len(str(person["birth_date"])) for person in PEOPLE)
    assert lengths.keys() == {4, 6, 8}
    assert lengths[8] > 4500


def test_nguyen_is_the_commonest_family_name_by_far() -> None:
    families = Counter(person["family_name"] for person in PEOPLE)
    assert families.most_common(1)[0][0] == "Nguyễn"
    assert 0.30 < families["Nguyễn"] / len(PEOPLE) < 0.46
    assert len(families) > 25


def test_parents_and_spouses_are_people_of_the_sample_and_older_or_married_back() -> None:
    linked = 0
    for person in PEOPLE:
        father = BY_NUMBER.get(str(person["father_number"]))
        if father:
            linked += 1
            assert father["sex"] == "1"
            assert father["full_name"] == person["father_name"]
            assert father["family_name"] == person["family_name"]
            assert str(father["birth_date"])[:4] < str(person["birth_date"])[:4]
        spouse = BY_NUMBER.get(str(person["spouse_number"]))
        if spouse:
            assert spouse["spouse_number"] == person["number"]
    assert linked > 500


def test_every_household_has_one_head() -> None:
    heads = [person for person in PEOPLE if person["household_head_relation"] == "01"]
    assert heads
    assert all(person["household_head_number"] == person["number"] for person in heads)


def test_claims_are_what_a_client_would_ask() -> None:
    asked = next(claims(citizens(1, 10)))
    assert re.fullmatch(r"\d{4}(-\d{2}(-\d{2})?)?", asked.birth_date)
    assert asked.number in {row[COLUMNS.index("number")] for row in citizens(1, 10)}


def test_a_file_holds_what_was_made_and_replaces_an_old_one(tmp_path: Path) -> None:
    path = tmp_path / "population.db"
    for count in (50, 20):
        write_sqlite(path, population_tables(1, count))
        connection = sqlite3.connect(path)
        try:
            assert connection.execute("SELECT count(*) FROM citizen").fetchone() == (count,)
        finally:
            connection.close()
    assert [file.name for file in tmp_path.iterdir()] == ["population.db"]


@pytest.mark.slow
def test_a_hundred_thousand_citizens_are_made_with_unique_numbers() -> None:
    number = COLUMNS.index("number")
    rows = citizens(1, 100_000)
    assert len({row[number] for row in rows}) == 100_000
