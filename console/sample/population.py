"""Makes up citizens in households, in the columns of the population mapping.

Numbers are well formed: three digits of the province of birth registration, one of century and sex, two of the birth
year, six at random, each number once. Parents, spouses and heads of household refer to people of the same
sample, except that the last household may be cut short.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from adapters.kinds.sql.binding import name_key
from adapters.national.population_mapping import COLUMNS, TABLE
from console.sample.names import STREETS, Namer, PersonName
from console.sample.places import PROVINCES, communes_of, draw_commune, draw_provinces
from console.sample.tables import Row, Table

HEAD, PARTNER, CHILD = "01", "02", "03"
LAST_YEAR = 2025
_MALE, _FEMALE = "1", "2"
_ADDRESS_PARTS = 5
_RELATIVES = ("father", "mother", "spouse", "representative", "household_head")
_NOBODY: Row = (None,) * 4
_ADULT = 18


@dataclass(slots=True)
class Person:
    """One made-up citizen before it is written as a row."""

    number: str
    name: PersonName
    sex: str
    born: str
    year: int
    home: Row
    father: "Person | None" = None
    mother: "Person | None" = None
    spouse: "Person | None" = None

    def named(self) -> Row:
        """How another citizen's record refers to this one: name, nationality, number, old number."""
        return (self.name.full, "VN", self.number, None)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a client would ask about a citizen of the sample."""

    number: str
    full_name: str
    birth_date: str


def citizens(seed: int, count: int) -> list[Row]:
    """Make up citizens.

    Args:
        seed: The same seed and count give the same citizens.
        count: How many.

    Returns:
        Rows in the order of `adapters.national.population_mapping.COLUMNS`, sorted by number.
    """
    maker = _Maker(seed)
    rows: list[Row] = []
    while len(rows) < count:
        rows.extend(maker.household())
    del rows[count:]
    number = COLUMNS.index("number")
    rows.sort(key=lambda row: row[number] or "")
    return rows


def claims(rows: Iterable[Row]) -> Iterator[Claim]:
    """What a client could ask about these citizens, birth dates with hyphens."""
    number, name, born = (COLUMNS.index(column) for column in ("number", "full_name", "birth_date"))
    for row in rows:
        date = row[born] or ""
        parts = (date[:4], date[4:6], date[6:])
        yield Claim(row[number] or "", row[name] or "", "-".join(part for part in parts if part))


class _Maker:
    """Makes households one after the other."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(f"population {seed}")
        self._namer = Namer(self._chance)
        self._numbers: set[str] = set()
        self._provinces: list[str] = []

    def household(self) -> list[Row]:
        draw = self._chance.random
        province = self._province()
        home = self._address(province)
        head = self._person(_MALE if draw() < 0.7 else _FEMALE, 1935 + int(draw() * 68), province, home)
        people = [head]
        if draw() < 0.75:
            sex = _FEMALE if head.sex == _MALE else _MALE
            partner = self._person(sex, min(head.year + int(draw() * 9) - 3, 2004), self._province(), home)
            head.spouse, partner.spouse = partner, head
            people.append(partner)
            people += self._children(head, partner, province, home)
        return [self._row(person, head) for person in people]

    def _children(self, head: Person, partner: Person, province: str, home: Row) -> list[Person]:
        draw = self._chance.random
        father, mother = (head, partner) if head.sex == _MALE else (partner, head)
        children, year = [], mother.year + 20 + int(draw() * 8)
        for _ in range(int(draw() * 4)):
            if year > LAST_YEAR:
                break
            child = self._person(_MALE if draw() < 0.52 else _FEMALE, year, province, home, father.name.family)
            child.father, child.mother = father, mother
            children.append(child)
            year += 2 + int(draw() * 4)
        return children

    def _person(self, sex: str, year: int, province: str, home: Row, family: str | None = None) -> Person:
        digit = (year // 100 - 19) * 2 + (0 if sex == _MALE else 1)
        beginning = f"0{province}{digit}{year % 100:02d}"
        number = f"{beginning}{int(self._chance.random() * 1_000_000):06d}"
        while number in self._numbers:
            number = f"{beginning}{int(self._chance.random() * 1_000_000):06d}"
        self._numbers.add(number)
        return Person(number, self._namer.person(sex, family), sex, self._birth_date(year), year, home)

    def _birth_date(self, year: int) -> str:
        """The older a record, the more often only a part is known."""
        drawn = self._chance.random()
        if drawn < (0.12 if year < 1960 else 0.005):
            return str(year)
        month = f"{year}{1 + int(self._chance.random() * 12):02d}"
        return (
            month if drawn < (0.15 if year < 1960 else 0.008) else f"{month}{1 + int(self._chance.random() * 28):02d}"
        )

    def _address(self, province: str) -> Row:
        draw = self._chance.random
        street = STREETS[int(draw() * len(STREETS))]
        return (province, None, draw_commune(self._chance, province), f"{1 + int(draw() * 300)} đường {street}", "VN")

    def _province(self) -> str:
        if not self._provinces:
            self._provinces = draw_provinces(self._chance, 4096)
        return self._provinces.pop()

    def _row(self, person: Person, head: Person) -> Row:
        draw = self._chance.random
        name, adult = person.name, LAST_YEAR - person.year >= _ADULT
        married = "2" if person.spouse else ("1" if adult else None)
        blood = "01234"[int(draw() * 5)] if draw() < 0.3 else None
        ethnicity = "01" if draw() < 0.85 else f"{2 + int(draw() * 53):02d}"
        religion = "00" if draw() < 0.8 else f"{1 + int(draw() * 16):02d}"
        old = f"{int(draw() * 1_000_000_000):09d}" if person.year < 2000 and draw() < 0.6 else None
        registered = (person.number[1:3], None, draw_commune(self._chance, person.number[1:3]), None, "VN")
        away = self._address(self._province()) if draw() < 0.08 else person.home
        guardian = person.mother or person.father
        relation = HEAD if person is head else (PARTNER if person is head.spouse else CHILD)
        return (
            name_key(name.full), person.number, old, name.family, name.middle or None, name.given, name.full,
            person.sex, ethnicity, religion, married, blood, person.born, "VN",
            *registered, *registered, *person.home, *away,
            *(person.father.named() if person.father else _NOBODY),
            *(person.mother.named() if person.mother else _NOBODY),
            *(person.spouse.named() if person.spouse else _NOBODY),
            *(guardian.named() if guardian and not adult else _NOBODY),
            *head.named(), relation,
        )  # fmt: skip


def population_tables(seed: int, count: int) -> list[Table]:
    """The tables of a made-up population register: citizens with a version each, and the code list of communes."""
    communes: list[Row] = [(code, code_of) for code_of in PROVINCES for code in communes_of(code_of)]
    return [
        Table(TABLE, COLUMNS, "number", (), citizens(seed, count), versioned=True),
        Table("commune", ("code", "province"), "code", (), sorted(communes, key=lambda row: row[0] or "")),
    ]
