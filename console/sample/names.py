"""Words that names are put together from, with roughly the frequency that they have in Vietnam. Pure data."""

import random
from dataclasses import dataclass


def _words(separator: str, text: str) -> tuple[str, ...]:
    return tuple(text.split(separator))


FAMILY_NAMES: dict[str, float] = {
    "Nguyễn": 38.4, "Trần": 11.0, "Lê": 9.5, "Phạm": 7.1, "Hoàng": 3.0, "Huỳnh": 2.1, "Phan": 4.5, "Vũ": 2.2,
    "Võ": 1.7, "Đặng": 2.1, "Bùi": 2.0, "Đỗ": 1.4, "Hồ": 1.3, "Ngô": 1.3, "Dương": 1.0, "Lý": 0.5, "Đinh": 0.9,
    "Trương": 1.2, "Đoàn": 0.7, "Lâm": 0.6, "Mai": 0.5, "Trịnh": 0.6, "Đào": 0.6, "Cao": 0.5, "Hà": 0.5, "Lương": 0.5,
    "Lưu": 0.4, "Tạ": 0.4, "Thái": 0.3, "Châu": 0.3, "Tô": 0.3, "Phùng": 0.4, "Vương": 0.3, "Quách": 0.2, "Triệu": 0.2,
    "Nông": 0.2, "Kim": 0.2, "Thạch": 0.2, "Giàng": 0.15, "Lò": 0.25,
}  # fmt: skip
MALE_MIDDLE: dict[str, float] = {
    "Văn": 30, "Đức": 7, "Minh": 7, "Hữu": 6, "Quang": 6, "Công": 5, "Thanh": 5, "Ngọc": 4, "Xuân": 4, "Đình": 4,
    "Quốc": 4, "Anh": 3, "Hoàng": 3, "Tuấn": 3, "Thành": 3, "Duy": 3, "Trọng": 2, "Gia": 3, "Bá": 1, "": 3,
}  # fmt: skip
FEMALE_MIDDLE: dict[str, float] = {
    "Thị": 40, "Thị Ngọc": 5, "Thị Thanh": 5, "Ngọc": 7, "Thu": 5, "Thị Minh": 3, "Phương": 5, "Thị Kim": 4,
    "Khánh": 3, "Minh": 4, "Thanh": 4, "Bảo": 3, "Hoài": 2, "Quỳnh": 3, "Diệu": 1, "Như": 2, "Mỹ": 2, "": 2,
}  # fmt: skip
MALE_GIVEN = _words(
    " ",
    "An Anh Bảo Bình Cường Chiến Dũng Duy Đại Đạt Đức Giang Hà Hải Hào Hiếu Hiệp Hòa Hoàng Hùng Huy Hưng Khang Khánh "
    "Khoa Khôi Kiên Lâm Linh Long Lộc Lợi Mạnh Minh Nam Nghĩa Nhân Nhật Phong Phú Phúc Phước Quân Quang Quốc Quý Sang "
    "Sơn Tài Tâm Tân Thái Thắng Thành Thiện Thịnh Thuận Tiến Toàn Trí Trung Trường Tú Tuấn Tùng Việt Vinh Vũ Vương",
)
FEMALE_GIVEN = _words(
    " ",
    "An Anh Ánh Bích Châu Chi Dung Duyên Đào Giang Hà Hạnh Hằng Hân Hậu Hiền Hoa Hòa Hồng Huệ Huyền Hương Khánh Lan "
    "Lâm Liên Linh Loan Ly Mai My Mỹ Nga Ngân Nghi Ngọc Nguyệt Nhàn Nhi Nhung Như Oanh Phúc Phương Phượng Quyên Quỳnh "
    "Tâm Thảo Thanh Thắm Thi Thơ Thu Thúy Thủy Thư Thương Tiên Trang Trâm Trinh Trúc Tuyết Uyên Vân Vy Xuân Yến",
)
FIRM_WORDS = _words(
    ",",
    "An Bình,An Khang,An Phát,Bách Việt,Bảo Tín,Bình Minh,Cát Tường,Đại Lộc,Đại Phong,Đông Á,Đông Dương,Đức Thành,"
    "Gia Hưng,Hải Âu,Hải Long,Hoa Sen Vàng,Hoàng Gia,Hồng Hà,Hùng Cường,Hưng Thịnh,Khải Hoàn,Kim Long,Lạc Hồng,Lam Sơn,"
    "Long Thành,Mai Linh Chi,Minh Châu,Minh Phúc,Nam Hải,Ngọc Lan,Nhật Minh,Phú Quý,Phúc Lộc,Phương Đông,Phương Nam,"
    "Quang Trung,Sao Khuê,Sơn Hà,Tâm Đức,Tân Tiến,Tây Hồ,Thái Bình Dương,Thành Công,Thăng Tiến,Thiên Ân,Thuận Phát,"
    "Tiến Đạt,Toàn Cầu,Trung Nghĩa,Trường Thịnh,Việt Hưng,Vĩnh Phát,Xuân Thành",
)
FIRM_TRADES = _words(
    ",",
    "Thương mại,Xây dựng,Vận tải,Công nghệ,Thực phẩm,Dệt may,Cơ khí,Nội thất,Du lịch,Nông sản,Thủy sản,Điện tử,In ấn,"
    "Bao bì,Dược phẩm,Giáo dục,Tư vấn,Dịch vụ,Sản xuất và Thương mại,Xuất nhập khẩu,Môi trường,Năng lượng,Logistics",
)
STREETS = _words(
    ",",
    "Bạch Đằng,Cây Đa,Chùa Mới,Đê Cũ,Đồng Xanh,Giếng Làng,Hoa Sữa,Hồ Sen,Kênh Mới,Làng Gốm,Phố Chợ,Sông Con,Suối Trong,"
    "Tre Xanh,Trung Tâm,Vườn Cam,Ven Sông,Xóm Đình",
)


@dataclass(frozen=True, slots=True)
class PersonName:
    """A person's name in its parts; `middle` may be empty."""

    family: str
    middle: str
    given: str

    @property
    def full(self) -> str:
        """As it is written: family name, middle names, given name."""
        return " ".join(part for part in (self.family, self.middle, self.given) if part)


class Namer:
    """Draws names. The same source of chance gives the same names."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._family = _drawer(FAMILY_NAMES)
        self._middle = {"1": _drawer(MALE_MIDDLE), "2": _drawer(FEMALE_MIDDLE)}
        self._given = {"1": MALE_GIVEN, "2": FEMALE_GIVEN}

    def family(self) -> str:
        """A family name."""
        names, weights = self._family
        return self._chance.choices(names, cum_weights=weights)[0]

    def person(self, sex: str, family: str | None = None) -> PersonName:
        """A person's name.

        Args:
            sex: `1` male, `2` female.
            family: The family name, drawn when not given.
        """
        names, weights = self._middle[sex]
        middle = self._chance.choices(names, cum_weights=weights)[0]
        given = self._given[sex]
        return PersonName(family or self.family(), middle, given[int(self._chance.random() * len(given))])


def _drawer(weights: dict[str, float]) -> tuple[list[str], list[float]]:
    total, sums = 0.0, []
    for weight in weights.values():
        total += weight
        sums.append(total)
    return list(weights), sums
