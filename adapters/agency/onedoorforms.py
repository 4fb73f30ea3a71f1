"""The four services of a one-door system as calls of the dossier contract, and back. Pure.

`DongBoHoSoMC` (a dossier), `CapNhatTienDoHoSoMC` (progress), `DongBoTrangThaiHoSo` (status), `TraCuuHoSo` (look up).
Names of members are the one-door system's; what they become is in `schemas/dossiers`. Every fault names the member and
says in Vietnamese what it should be; no value is repeated.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import msgspec

from adapters.agency.dossiers import (
    STATUS_CODES,
    DossierCode,
    Unreadable,
    read_code,
    read_instant,
    read_status,
    write_instant,
)

OK, SESSION, GATEWAY_REFUSES, AGENCY, MISSING, UNKNOWN, FORM, DATA, LATER = (
    "00", "100", "101", "106", "200", "201", "302", "500", "503",
)  # fmt: skip
"""Codes of answers (`error_code`)."""
SUBMIT, PROGRESS, STATUS, LOOK_UP = "DongBoHoSoMC", "CapNhatTienDoHoSoMC", "DongBoTrangThaiHoSo", "TraCuuHoSo"
SERVICES = (SUBMIT, PROGRESS, STATUS, LOOK_UP)
Made = TypeVar("Made")
_MEMBER = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
_MAX_LIST, _MAX_MEMBERS, _MAX_TEXT = 50, 20, 2000


class Fault(Exception):
    """What a one-door system is told.

    Attributes:
        code: `error_code`.
        message: In Vietnamese.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the gateway.

    Attributes:
        code: Of the dossier.
        method: HTTP method.
        path: Below the service.
        body: JSON; empty for none.
        key: Idempotency key, the same for the same contents; empty when a repeat cannot be told from a new event.
    """

    code: DossierCode
    method: str
    path: str
    body: bytes
    key: str


def read_item(service: str, item: object, *, updating: bool) -> Call:
    """One element of `data` as a call.

    Raises:
        Fault: It lacks something, or something has another form.
    """
    if not isinstance(item, dict):
        raise Fault(FORM, "mỗi phần tử của data phải là một đối tượng")
    code = _read(item, "MaHoSo", read_code)
    path = f"/dossiers/{code.text}"
    if service == LOOK_UP:
        return Call(code, "GET", path, b"", "")
    if service == SUBMIT:
        told = {"code": code.text, "updating": updating, **_members(item, _DOSSIER)}
        # corrected and corrected back is not a repeat of the first; the same update twice does no harm
        return _call(service, code, "/dossiers", told, known=not updating)
    if service == PROGRESS:
        return _call(service, code, f"{path}/progress", _members(item, _PROGRESS))
    if service == STATUS:
        told = _members(item, _STATUS)
        # a dossier may come back to a status: without an instant the same again is no repeat
        return _call(service, code, f"{path}/status", told, known="at" in told)
    raise Fault(FORM, "service phải là một trong: " + ", ".join(SERVICES))


def _call(service: str, code: DossierCode, path: str, body: Mapping[str, object], *, known: bool = True) -> Call:
    encoded = msgspec.json.encode(body)
    digest = hashlib.sha256(f"{service} {code.text}\n".encode() + encoded).hexdigest()
    return Call(code, "POST", path, encoded, digest if known else "")


def answer_of(dossier: object) -> dict[str, object]:
    """A dossier, as the contract has it, in the one-door system's form.

    Raises:
        Fault: It is none.
    """
    if not isinstance(dossier, dict) or dossier.get("status") not in STATUS_CODES:
        raise Fault(DATA, "hệ thống tiếp nhận trả lời không đúng hợp đồng dịch vụ")
    made: dict[str, object] = {"MaHoSo": dossier.get("code"), "TrangThaiHoSo": str(STATUS_CODES[dossier["status"]])}
    for theirs, ours in _ANSWERED.items():
        value = dossier.get(ours)
        if isinstance(value, str):
            made[theirs] = write_instant(datetime.fromisoformat(value)) if ours.endswith("At") else value
    return made


_Reader = Callable[[object], object]
_Form = dict[str, tuple[str, _Reader, bool]]


def _text(longest: int) -> _Reader:
    def read(value: object) -> str:
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or len(value) > longest or "\x00" in value:
            raise Unreadable(f"phải là chuỗi không quá {longest} ký tự")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Unreadable("có ký tự không hợp lệ") from None
        return unicodedata.normalize("NFC", value).strip()

    return read


def _list(value: object) -> list[dict[str, str]]:
    if not isinstance(value, list) or len(value) > _MAX_LIST:
        raise Unreadable(f"phải là danh sách không quá {_MAX_LIST} phần tử")
    made, read = [], _text(_MAX_TEXT)
    for one in value:
        if not isinstance(one, dict) or len(one) > _MAX_MEMBERS:
            raise Unreadable(f"mỗi phần tử phải là đối tượng không quá {_MAX_MEMBERS} trường")
        made.append({str(read(name)): str(read(inner)) for name, inner in one.items() if inner is not None})
    return made


def _at(value: object) -> str:
    return read_instant(value).isoformat()


def _until(value: object) -> str:
    return read_instant(value, end_of_day=True).isoformat()


_DOSSIER: _Form = {
    "MaTTHC": ("procedure", _text(60), True),
    "TenTTHC": ("procedureName", _text(500), True),
    "MaLinhVuc": ("field", _text(60), False),
    "ChuHoSo": ("applicant", _text(200), True),
    "LoaiDoiTuong": ("applicantKind", _text(20), False),
    "NgayTiepNhan": ("receivedAt", _at, True),
    "NgayHenTra": ("dueAt", _until, False),
    "TrangThaiHoSo": ("status", read_status, True),
    "NgayTra": ("returnedAt", _at, False),
    "HinhThuc": ("channel", _text(20), False),
    "NgayKetThucXuLy": ("finishedAt", _at, False),
    "DonViXuLy": ("unit", _text(200), False),
    "TaiLieuNop": ("documents", _list, False),
    "DanhSachLePhi": ("fees", _list, False),
    "DanhSachHoSoBoSung": ("supplements", _list, False),
    "DanhSachGiayToKetQua": ("results", _list, False),
}
_PROGRESS: _Form = {
    "NguoiXuLy": ("official", _text(200), True),
    "ThoiDiemXuLy": ("at", _at, True),
    "PhongBanXuLy": ("unit", _text(200), False),
    "NoiDungXuLy": ("content", _text(2000), True),
    "TrangThai": ("status", read_status, True),
    "NgayBatDau": ("startedAt", _at, False),
    "NgayKetThucTheoQuyDinh": ("dueAt", _until, False),
}
_STATUS: _Form = {
    "TrangThai": ("status", read_status, True),
    "ThoiDiem": ("at", _at, False),
    "NoiDung": ("content", _text(2000), False),
}
_ANSWERED = {
    "MaTTHC": "procedure", "TenTTHC": "procedureName", "NgayTiepNhan": "receivedAt", "NgayHenTra": "dueAt",
    "NgayKetThucXuLy": "finishedAt", "NgayTra": "returnedAt", "DonViXuLy": "unit",
}  # fmt: skip


def _members(item: Mapping[str, object], form: _Form) -> dict[str, object]:
    """What an element has, in our names.

    Raises:
        Fault: All that is wrong with it, under the code of the first.
    """
    made: dict[str, object] = {}
    faults: list[Fault] = []
    for theirs, (ours, read, required) in form.items():
        value = item.get(theirs)
        try:
            if value is not None and value != "":
                made[ours] = _read(item, theirs, read)
            elif required:
                raise Fault(MISSING, f"thiếu {theirs}")
        except Fault as fault:
            faults.append(fault)
    if unknown := item.keys() - form.keys() - {"MaHoSo"}:
        named = sorted(str(name) for name in unknown if _MEMBER.fullmatch(str(name)))[:5]
        faults.append(Fault(FORM, f"có trường không được khai báo trong mẫu này: {', '.join(named) or len(unknown)}"))
    if faults:
        raise Fault(faults[0].code, ", ".join(fault.message for fault in faults))
    return made


def _read(item: Mapping[str, object], name: str, read: Callable[[object], Made]) -> Made:
    if name not in item:
        raise Fault(MISSING, f"thiếu {name}")
    try:
        return read(item[name])
    except Unreadable as error:
        raise Fault(FORM, f"{name}: {error}") from None
