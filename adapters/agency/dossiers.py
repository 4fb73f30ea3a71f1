"""What one-door systems write: dossier codes, instants, status codes. Pure.

Codes: Circular 01/2018 writes `<agency>-YYMMDD-NNNN`, newer systems `<agency>-YYYYMMDD-NNNNNNN`; both are read and kept
as they are. Instants have no zone and mean Vietnam's time (UTC+7 since 1975). Which agency a code belongs to is a
matter of tables, not of arithmetic on the code, and not looked at here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone

VIETNAM = timezone(timedelta(hours=7))
FIRST_YEAR, LAST_YEAR = 1976, 2199
STATUSES = {
    1: "filed",
    2: "accepted",
    3: "refused",
    4: "processing",
    5: "supplement-asked",
    6: "payment-asked",
    7: "withdrawn",
    8: "stopped",
    9: "finished",
    10: "returned",
}
"""Status codes of the national portal, 1 to 10, as words of the contract."""
STATUS_CODES = {word: code for code, word in STATUSES.items()}

_CODE = re.compile(r"(?P<agency>[0-9A-Z]+(?:\.[0-9A-Z]+)*)-(?P<day>[0-9]{6}|[0-9]{8})-(?P<number>[0-9]{4,8})")
_COMPACT = re.compile(r"(?P<day>[0-9]{8})(?P<time>[0-9]{6}|[0-9]{4})?")
_SLASHED = re.compile(
    r"(?P<d>[0-9]{1,2})/(?P<m>[0-9]{1,2})/(?P<y>[0-9]{4})(?: (?P<H>[0-9]{1,2}):(?P<M>[0-9]{2})(?::(?P<S>[0-9]{2}))?)?"
)


class Unreadable(ValueError):
    """A text is not what it should be; the message says what it should be, in Vietnamese, without the text itself."""


@dataclass(frozen=True, slots=True)
class DossierCode:
    """A dossier code in its parts.

    Attributes:
        text: As it was written.
        agency: Code of the agency that received it.
        day: When.
        number: Of that day.
    """

    text: str
    agency: str
    day: date
    number: int


def read_code(text: object) -> DossierCode:
    """Read a dossier code of either form.

    Raises:
        Unreadable: It is none.
    """
    found = _CODE.fullmatch(text) if isinstance(text, str) and len(text) <= 60 else None
    if found is None or len(found["agency"]) > 35:
        raise Unreadable("mã hồ sơ phải có dạng <mã đơn vị>-YYMMDD-NNNN hoặc <mã đơn vị>-YYYYMMDD-NNNNNNN")
    digits = found["day"] if len(found["day"]) == 8 else f"20{found['day']}"
    return DossierCode(found[0], found["agency"], _day(digits), int(found["number"]))


def write_code(agency: str, day: date, number: int, *, long: bool) -> str:
    """Write a dossier code, in the newer form or in that of Circular 01/2018."""
    return f"{agency}-{day:%Y%m%d}-{number:07d}" if long else f"{agency}-{day:%y%m%d}-{number:04d}"


def read_instant(text: object, *, end_of_day: bool = False) -> datetime:
    """Read `yyyymmddhhmmss`, `yyyymmddhhmm`, `yyyymmdd`, `dd/mm/yyyy` or `dd/mm/yyyy hh:mm[:ss]`, in Vietnam's time.

    Args:
        text: As it was written.
        end_of_day: A date alone means its last second (for dates until which something is due), else its first.

    Raises:
        Unreadable: It is none of these.
    """
    if not isinstance(text, str) or len(text) > 20:
        raise Unreadable(_FORMS)
    if found := _COMPACT.fullmatch(text):
        day, clock = _day(found["day"]), found["time"]
        return _instant(day, None if clock is None else (clock[:2], clock[2:4], clock[4:] or "00"), end_of_day)
    if found := _SLASHED.fullmatch(text):
        day = _day(f"{found['y']}{int(found['m']):02d}{int(found['d']):02d}")
        given = found["H"] is not None
        return _instant(day, (found["H"], found["M"], found["S"] or "00") if given else None, end_of_day)
    raise Unreadable(_FORMS)


def write_instant(instant: datetime) -> str:
    """Write an aware instant as `yyyymmddhhmmss` in Vietnam's time."""
    return instant.astimezone(VIETNAM).strftime("%Y%m%d%H%M%S")


def read_status(value: object) -> str:
    """Read a status code 1 to 10, a number or its text; the word of the contract.

    Raises:
        Unreadable: It is none.
    """
    number = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 2 else value
    if isinstance(number, bool) or not isinstance(number, int) or number not in STATUSES:
        raise Unreadable("trạng thái phải là số từ 1 đến 10")
    return STATUSES[number]


_FORMS = "thời gian phải có dạng yyyymmddhhmmss, yyyymmdd, dd/mm/yyyy hoặc dd/mm/yyyy hh:mm:ss"


def _day(digits: str) -> date:
    try:
        day = date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        raise Unreadable("ngày không có trong lịch") from None
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise Unreadable(f"năm phải từ {FIRST_YEAR} đến {LAST_YEAR}")
    return day


def _instant(day: date, clock: tuple[str, str, str] | None, end_of_day: bool) -> datetime:
    if clock is None:
        return datetime.combine(day, time(23, 59, 59) if end_of_day else time(), VIETNAM)
    try:
        return datetime.combine(day, time(int(clock[0]), int(clock[1]), int(clock[2])), VIETNAM)
    except ValueError:
        raise Unreadable("giờ không hợp lệ") from None
