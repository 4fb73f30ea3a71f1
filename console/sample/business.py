"""Makes up enterprises with codes whose check digit is right, and registration dossiers.

The register keeps each enterprise as the document that it delivers (contract `business/1`), with the columns that are
searched beside it.
"""

import random
from dataclasses import dataclass
from datetime import date, timedelta

import msgspec

from adapters.kinds.sql.binding import name_key
from console.sample.names import FIRM_TRADES, FIRM_WORDS, STREETS, Namer
from console.sample.places import draw_commune, draw_provinces
from console.sample.tables import Row, Table

ENTERPRISE_COLUMNS = ("code", "name", "name_key", "status", "province", "document")
DOSSIER_COLUMNS = ("code", "state", "received_on", "enterprise_code")
CHECK_WEIGHTS = (31, 29, 23, 19, 17, 13, 7, 5, 3)
_FIRST_DAY = date(2000, 1, 3)
_DAYS = 9400
_STATUSES = {"active": 80, "suspended": 8, "dissolving": 3, "dissolved": 8, "bankrupt": 1}
_FORMS = {
    "limited-one-member": ("Công ty TNHH Một thành viên", 40),
    "limited-more-members": ("Công ty TNHH", 28),
    "joint-stock": ("Công ty Cổ phần", 24),
    "private": ("Doanh nghiệp tư nhân", 5),
    "cooperative": ("Hợp tác xã", 3),
}
_STATES = ("received", "processing", "supplement-asked", "registered", "refused")
_ACTIVITIES = {
    "4661": "Bán buôn nhiên liệu", "4101": "Xây dựng nhà để ở", "4933": "Vận tải hàng hóa bằng đường bộ",
    "6201": "Lập trình máy vi tính", "1030": "Chế biến và bảo quản rau quả", "1410": "May trang phục",
    "2592": "Gia công cơ khí", "3100": "Sản xuất giường, tủ, bàn, ghế", "7912": "Điều hành tua du lịch",
    "0322": "Nuôi trồng thủy sản nội địa", "1811": "In ấn", "8559": "Giáo dục khác", "7020": "Tư vấn quản lý",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Register:
    """A made-up business register.

    Attributes:
        enterprises: Rows in the order of `ENTERPRISE_COLUMNS`, sorted by code.
        dossiers: Rows in the order of `DOSSIER_COLUMNS`, sorted by code.
    """

    enterprises: list[Row]
    dossiers: list[Row]


def check_digit(nine: str) -> int | None:
    """The tenth digit of an enterprise code, or None when there is no single digit for these nine.

    Ten minus the weighted sum modulo eleven. Sources disagree on what ten would mean; the sample leaves such codes out.
    """
    digit = 10 - sum(int(one) * weight for one, weight in zip(nine, CHECK_WEIGHTS, strict=True)) % 11
    return digit if digit < 10 else None


def register(seed: int, count: int) -> Register:
    """Make up a register.

    Args:
        seed: The same seed and count give the same register.
        count: Enterprises; there is one dossier for each three.
    """
    maker = _Maker(seed)
    enterprises = sorted((maker.enterprise() for _ in range(count)), key=lambda row: row[0] or "")
    codes = [row[0] or "" for row in enterprises]
    dossiers = [maker.dossier(number, codes) for number in range(1, count // 3 + 1)]
    return Register(enterprises, sorted(dossiers, key=lambda row: row[0] or ""))


class _Maker:
    def __init__(self, seed: int) -> None:
        self._chance = random.Random(f"business {seed}")
        self._namer = Namer(self._chance)
        self._codes: set[str] = set()

    def enterprise(self) -> Row:
        province = draw_provinces(self._chance, 1)[0]
        code = self._code(province)
        form = self._drawn({name: weight for name, (_, weight) in _FORMS.items()})
        name = (
            f"{_FORMS[form][0]} {self._one(FIRM_TRADES)} {self._one(FIRM_WORDS)} {1 + int(self._chance.random() * 999)}"
        )
        status = self._drawn(_STATUSES)
        document = self._document(code, name, form, status, province)
        return (code, name, name_key(name), status, province, msgspec.json.encode(document).decode())

    def dossier(self, number: int, codes: list[str]) -> Row:
        day = self._day()
        state = self._one(_STATES)
        code = codes[int(self._chance.random() * len(codes))] if state == "registered" and codes else None
        return (f"H{1 + number % 63:02d}-{day:%Y%m%d}-{number:07d}", state, day.isoformat(), code)

    def _document(self, code: str, name: str, form: str, status: str, province: str) -> dict[str, object]:
        draw = self._chance.random
        capital = (1 + int(draw() * 400)) * 100_000_000
        main, other = self._chance.sample(list(_ACTIVITIES.items()), 2)
        document: dict[str, object] = {
            "code": code, "name": name, "status": status, "legalForm": form, "foundedOn": self._day().isoformat(),
            "charterCapital": capital,
            "headOffice": {
                "province": province, "commune": draw_commune(self._chance, province),
                "detail": f"Số {1 + int(draw() * 300)} đường {self._one(STREETS)}",
            },
            "legalRepresentatives": [{**self._somebody(province), "position": "Giám đốc"}],
            "activities": [
                {"code": main[0], "name": main[1], "main": True}, {"code": other[0], "name": other[1], "main": False},
            ],
        }  # fmt: skip
        if form in {"limited-more-members", "joint-stock"}:
            document["members"] = [{**self._somebody(province), "capital": capital // 2} for _ in range(2)]
        return document

    def _somebody(self, province: str) -> dict[str, object]:
        male = self._chance.random() < 0.6
        year = 55 + int(self._chance.random() * 40)
        number = f"0{province}{0 if male else 1}{year}{int(self._chance.random() * 1_000_000):06d}"
        return {"fullName": self._namer.person("1" if male else "2").full, "number": number}

    def _code(self, province: str) -> str:
        while True:
            nine = f"{province}{int(self._chance.random() * 10_000_000):07d}"
            digit = check_digit(nine)
            if digit is not None and nine not in self._codes:
                self._codes.add(nine)
                return f"{nine}{digit}"

    def _day(self) -> date:
        return _FIRST_DAY + timedelta(days=int(self._chance.random() * _DAYS))

    def _one(self, words: "list[str] | tuple[str, ...]") -> str:
        return words[int(self._chance.random() * len(words))]

    def _drawn(self, weights: dict[str, int]) -> str:
        return self._chance.choices(list(weights), weights=list(weights.values()))[0]


def business_tables(seed: int, count: int) -> list[Table]:
    """The tables of a made-up business register."""
    made = register(seed, count)
    return [
        Table("enterprise", ENTERPRISE_COLUMNS, "code", ("name_key",), made.enterprises),
        Table("dossier", DOSSIER_COLUMNS, "code", (), made.dossiers),
    ]
