import contextlib
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.agency.dossiers import (
    STATUS_CODES,
    STATUSES,
    VIETNAM,
    Unreadable,
    read_code,
    read_instant,
    read_status,
    write_code,
    write_instant,
)
from adapters.agency.onedoorforms import LOOK_UP, PROGRESS, SERVICES, STATUS, SUBMIT, Fault, answer_of, read_item

CODE, LONG = "H37.02.02-260302-0001", "H37.02.02-20260302-0000001"
DOSSIER = {
    "MaHoSo": CODE, "MaTTHC": "1.001234", "TenTTHC": "Đăng ký thường trú", "ChuHoSo": "Nguyễn Văn Mẫu",
    "NgayTiepNhan": "20260302083000", "NgayHenTra": "09/03/2026", "TrangThaiHoSo": "2",
    "TaiLieuNop": [{"TenGiayTo": "Tờ khai", "SoLuong": 1}],
}  # fmt: skip
STEP = {
    "MaHoSo": CODE, "NguoiXuLy": "Trần Thị Ví Dụ", "ThoiDiemXuLy": "03/03/2026 09:00", "NoiDungXuLy": "Chuyển xử lý",
    "TrangThai": 4,
}  # fmt: skip
DAYS = st.dates(date(2000, 1, 1), date(2099, 12, 31))
AGENCIES = st.from_regex(r"[GH][0-9]{2}(\.[0-9]{2}){0,3}|000\.[0-9]{2}\.[0-9]{2}\.H[0-9]{2}", fullmatch=True)


@given(AGENCIES, DAYS, st.integers(0, 9999), st.booleans())
def test_both_forms_of_dossier_codes_are_read_as_they_were_written(
    agency: str, day: date, number: int, long: bool
) -> None:
    text = write_code(agency, day, number, long=long)
    read = read_code(text)
    assert (read.text, read.agency, read.day, read.number) == (text, agency, day, number)


@pytest.mark.parametrize(
    "text",
    ["", "H37", "H37-260302", "H37-261302-0001", "H37-260230-0001", "H37-20260231-0000001", "h37-260302-0001", None, 7,
     "H37-260302-0001\n", "H37-260302-001", "H37-2603020-0001", "H37.-260302-0001", "X" * 36 + "-260302-0001",
     "H37-19000101-0000001", "H37-٢٦٠٣٠٢-0001"],
)  # fmt: skip
def test_what_is_no_dossier_code_is_refused(text: object) -> None:
    with pytest.raises(Unreadable):
        read_code(text)


@given(
    st.builds(
        lambda day, clock: datetime.combine(day, clock.replace(microsecond=0), VIETNAM),
        st.dates(date(1976, 1, 1), date(2199, 12, 31)),
        st.times(),
    )
)
def test_instants_survive_writing_and_reading_in_every_form(at: datetime) -> None:
    assert read_instant(write_instant(at)) == at
    assert read_instant(f"{at:%d/%m/%Y %H:%M:%S}") == at
    assert read_instant(f"{at.day}/{at.month}/{at.year} {at:%H:%M}") == at.replace(second=0)
    assert read_instant(f"{at:%Y%m%d%H%M}") == at.replace(second=0)
    assert read_instant(f"{at:%d/%m/%Y}") == at.replace(hour=0, minute=0, second=0)
    assert read_instant(f"{at:%Y%m%d}", end_of_day=True) == at.replace(hour=23, minute=59, second=59)
    assert write_instant(at.astimezone(UTC)) == write_instant(at)
    assert at.utcoffset() == timedelta(hours=7)


@given(st.text(max_size=25) | st.none() | st.integers())
def test_whatever_stands_for_an_instant_is_read_or_refused(text: object) -> None:
    with contextlib.suppress(Unreadable):
        assert read_instant(text).tzinfo is VIETNAM


@pytest.mark.parametrize(
    "text",
    ["03/13/2026", "31/02/2026", "2026-03-02", "202603", "20260302250000", "02/03/26", "٠٢/٠٣/٢٠٢٦", "20260302 "],
)
def test_what_is_no_vietnamese_date_is_refused_and_never_bent(text: str) -> None:
    with pytest.raises(Unreadable):
        read_instant(text)


def test_all_ten_states_are_read_as_number_and_as_text() -> None:
    assert sorted(STATUSES) == list(range(1, 11))
    for code, word in STATUSES.items():
        assert read_status(code) == read_status(str(code)) == word
        assert STATUS_CODES[word] == code
    for wrong in (0, 11, "0", "", "x", True, None, 1.0, "٣", "011"):
        with pytest.raises(Unreadable):
            read_status(wrong)


def test_a_dossier_becomes_a_call_of_the_contract() -> None:
    call = read_item(SUBMIT, DOSSIER, updating=False)
    assert (call.method, call.path, call.code.text) == ("POST", "/dossiers", CODE)
    assert msgspec.json.decode(call.body) == {
        "code": CODE, "updating": False, "procedure": "1.001234", "procedureName": "Đăng ký thường trú",
        "applicant": "Nguyễn Văn Mẫu", "receivedAt": "2026-03-02T08:30:00+07:00",
        "dueAt": "2026-03-09T23:59:59+07:00", "status": "accepted",
        "documents": [{"TenGiayTo": "Tờ khai", "SoLuong": "1"}],
    }  # fmt: skip


def test_text_is_brought_to_one_unicode_form() -> None:
    decomposed = {**DOSSIER, "ChuHoSo": "Nguye\u0302\u0303n Va\u0306n Ma\u0302\u0303u"}
    assert read_item(SUBMIT, decomposed, updating=False).key == read_item(SUBMIT, DOSSIER, updating=False).key


def test_progress_state_and_look_up_become_calls() -> None:
    assert read_item(PROGRESS, STEP, updating=False).path == f"/dossiers/{CODE}/progress"
    state = read_item(STATUS, {"MaHoSo": LONG, "TrangThai": "10"}, updating=False)
    assert (state.path, state.body) == (f"/dossiers/{LONG}/status", b'{"status":"returned"}')
    asked = read_item(LOOK_UP, {"MaHoSo": CODE}, updating=False)
    assert (asked.method, asked.path, asked.body) == ("GET", f"/dossiers/{CODE}", b"")


def test_the_same_contents_have_the_same_key_and_others_another() -> None:
    key = read_item(SUBMIT, DOSSIER, updating=False).key
    assert key == read_item(SUBMIT, dict(reversed(DOSSIER.items())), updating=False).key
    assert read_item(SUBMIT, DOSSIER, updating=True).key == ""
    assert key != read_item(SUBMIT, {**DOSSIER, "ChuHoSo": "x"}, updating=False).key
    assert CODE not in key
    state = {"MaHoSo": CODE, "TrangThai": 4}
    assert read_item(STATUS, state, updating=False).key == ""
    assert read_item(STATUS, {**state, "ThoiDiem": "20260302"}, updating=False).key


@pytest.mark.parametrize(
    ("service", "change", "code", "named"),
    [
        (SUBMIT, {"ChuHoSo": None}, "200", "ChuHoSo"),
        (SUBMIT, {"ChuHoSo": ""}, "200", "ChuHoSo"),
        (SUBMIT, {"MaHoSo": "x"}, "302", "MaHoSo"),
        (SUBMIT, {"NgayTiepNhan": "2026-03-02"}, "302", "NgayTiepNhan"),
        (SUBMIT, {"TrangThaiHoSo": 11}, "302", "TrangThaiHoSo"),
        (SUBMIT, {"TaiLieuNop": "x"}, "302", "TaiLieuNop"),
        (SUBMIT, {"TaiLieuNop": [{}] * 51}, "302", "TaiLieuNop"),
        (SUBMIT, {"TenTTHC": "x" * 501}, "302", "TenTTHC"),
        (SUBMIT, {"TenTTHC": "\ud800"}, "302", "TenTTHC"),
        (SUBMIT, {"TruongLa": "1"}, "302", "TruongLa"),
        (PROGRESS, {"ThoiDiemXuLy": "x"}, "302", "ThoiDiemXuLy"),
        (PROGRESS, {"NguoiXuLy": None}, "200", "NguoiXuLy"),
    ],
)
def test_what_is_wrong_is_told_by_its_member_and_no_value_is_repeated(
    service: str, change: dict[str, Any], code: str, named: str
) -> None:
    item = {**(DOSSIER if service == SUBMIT else STEP), **change}
    with pytest.raises(Fault) as refusal:
        read_item(service, item, updating=False)
    assert refusal.value.code == code
    assert named in refusal.value.message
    assert "Nguyễn" not in refusal.value.message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = st.dictionaries(st.sampled_from(sorted({*DOSSIER, *STEP, "x"})), JSON)


@given(st.sampled_from(SERVICES), MEMBERS, st.booleans())
def test_whatever_is_posted_becomes_a_call_or_a_fault(service: str, item: dict[str, Any], updating: bool) -> None:
    for told in (item, {**DOSSIER, **item}, {**STEP, **item}):
        with contextlib.suppress(Fault):
            assert read_item(service, told, updating=updating).path.startswith("/dossiers")


def test_a_dossier_is_told_in_their_form() -> None:
    dossier = {"code": CODE, "status": "returned", "dueAt": "2026-03-09T16:59:59Z", "procedure": "1.001234"}
    assert answer_of(dossier) == {
        "MaHoSo": CODE, "TrangThaiHoSo": "10", "NgayHenTra": "20260309235959", "MaTTHC": "1.001234",
    }  # fmt: skip
    for wrong in (None, [], {}, {"code": CODE, "status": "lost"}):
        with pytest.raises(Fault):
            answer_of(wrong)
