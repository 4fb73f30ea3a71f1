"""Who and what takes part in the demonstration: constants, all invented."""

from __future__ import annotations

from dataclasses import dataclass

INSTANCE = "VN-DEMO"
CITIZENS, ENTERPRISES = 100_000, 10_000
PURPOSE = "residence"
GROUND = "Sample Act 1, Article 7"
GRANTED_FIELD = "maritalStatus"
OFFICIAL = "canbo.maulan"
ISSUE = "H37-2026-000123"


@dataclass(frozen=True, slots=True)
class Member:
    """A member of the instance.

    Attributes:
        code: Like H37.
        name: In English, for the report.
        vietnamese: Its own name.
        subsystems: Code to name.
    """

    code: str
    name: str
    vietnamese: str
    subsystems: dict[str, str]

    @property
    def id(self) -> str:
        """Identifier."""
        return f"{INSTANCE}/GOV/{self.code}"


@dataclass(frozen=True, slots=True)
class Service:
    """A published service and the right that the one-door system gets.

    Attributes:
        provider: Its member.
        code: SUBSYSTEM/SERVICE.
        contract: Folder of the contract.
        kind: Kind of source.
        grant: Options of `access grant`.
    """

    provider: Member
    code: str
    contract: str
    kind: str
    grant: tuple[str, ...]

    @property
    def id(self) -> str:
        """Identifier."""
        return f"{self.provider.id}/{self.code}"


PROVINCE = Member("H37", "Province", "Tỉnh mẫu", {"onedoor": "Hệ thống một cửa", "archive": "Phần mềm lưu trữ"})
POPULATION_MINISTRY = Member("G01", "Population ministry", "Bộ mẫu Dân cư", {"population": "Dân cư"})
BUSINESS_MINISTRY = Member("G05", "Business ministry", "Bộ mẫu Doanh nghiệp", {"business": "Đăng ký doanh nghiệp"})
MEMBERS = (PROVINCE, POPULATION_MINISTRY, BUSINESS_MINISTRY)
VISITOR = Member("G99", "Visiting agency", "Cơ quan mẫu khách", {"desk": "Bàn khách"})
LOGGED = (*MEMBERS, VISITOR)
"""Everybody who has a log: the visitor comes late, misbehaves, and is revoked."""
POPULATION = Service(
    POPULATION_MINISTRY,
    "population/citizens",
    "population/1/openapi.yaml",
    "population",
    ("--purpose", PURPOSE, "--ground", GROUND, "--field", GRANTED_FIELD),
)
BUSINESS = Service(
    BUSINESS_MINISTRY,
    "business/enterprises",
    "business/1/openapi.yaml",
    "business",
    ("--operation", "getEnterprise", "--operation", "registrationStatus", "--purpose", PURPOSE),
)
CHANGES = Service(
    POPULATION_MINISTRY,
    "population/changes",
    "population-changes/1/openapi.yaml",
    "population-changes",
    ("--field", "change-permanentResidence", "--field", "change-maritalStatus"),
)
"""Changes to the population register: offered like `POPULATION`, over the same database, after `writeback prepare`."""
CHANGED_RESIDENCE = {"province": "01", "commune": "00301", "detail": "12 đường Mẫu"}
"""A residence whose commune is in the sample register's code list."""
DOSSIERS = Service(BUSINESS_MINISTRY, "business/dossiers", "dossiers/1/openapi.yaml", "http", ())
CHECKS = Service(POPULATION_MINISTRY, "population/dossiers", "dossiers/1/openapi.yaml", "http", ())
"""Both take dossiers as commands, each before its own application: the one registers, the other checks persons."""
SERVICES = (POPULATION, CHANGES, CHECKS, BUSINESS, DOSSIERS)
VISITED = Service(VISITOR, "desk/citizens", "population/1/openapi.yaml", "population", ())
ONEDOOR, ARCHIVE = f"{PROVINCE.id}/onedoor", f"{PROVINCE.id}/archive"
REGISTRAR, CHECKER = f"{BUSINESS_MINISTRY.id}/business", f"{POPULATION_MINISTRY.id}/population"
DESK, DESK_AGENCY = "motcua", "H37.02.02"
"""The one-door system's name at its front, and the agency code for which it speaks."""
