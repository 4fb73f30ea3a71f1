"""Picks people and firms out of the two registers, by the seed, for the client to ask about. Read-only."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import asyncpg

_SQLITE = "sqlite:///"
_CITIZENS = """
SELECT number, full_name, birth_date, spouse_name IS NOT NULL AND marital_status IS NOT NULL AND religion IS NOT NULL
AND ethnicity IS NOT NULL AND household_head_name IS NOT NULL AND length(birth_date) = 8
FROM citizen ORDER BY number
"""
_ENTERPRISES = "SELECT code, document FROM enterprise ORDER BY code"
_DOSSIERS = "SELECT code FROM dossier ORDER BY code"


@dataclass(frozen=True, slots=True)
class Citizen:
    """A citizen of the register, birth date as far as it is known, with hyphens."""

    number: str
    full_name: str
    birth_date: str


@dataclass(frozen=True, slots=True)
class Samples:
    """Whom the client asks about.

    Attributes:
        citizens: For the bulk of calls.
        enterprises: Codes, for the bulk of calls.
        dossiers: Codes, for the bulk of calls.
        citizen: One with spouse, head of household, religion, ethnicity and marital status on record.
        enterprise: One with members and a representative's number on record.
        counts: Rows of the registers, by table.
    """

    citizens: list[Citizen]
    enterprises: list[str]
    dossiers: list[str]
    citizen: Citizen
    enterprise: str
    counts: dict[str, int]


async def pick(seed: int, population: str, business: str) -> Samples:
    """Pick by the seed: the same seed and registers give the same people and firms.

    Args:
        seed: Of the demonstration.
        population: Address of the population register.
        business: Address of the business register.
    """
    people, firms, dossiers = await asyncio.gather(
        rows(population, _CITIZENS), rows(business, _ENTERPRISES), rows(business, _DOSSIERS)
    )
    chance = random.Random(f"demo {seed}")
    complete = [row for row in people if row[3]]
    owned = [row for row in firms if "members" in json.loads(row[1])]
    return Samples(
        citizens=[_citizen(row) for row in chance.sample(people, min(2000, len(people)))],
        enterprises=[row[0] for row in chance.sample(firms, min(500, len(firms)))],
        dossiers=[row[0] for row in chance.sample(dossiers, min(200, len(dossiers)))],
        citizen=_citizen(chance.choice(complete)),
        enterprise=chance.choice(owned)[0],
        counts={"citizens": len(people), "enterprises": len(firms), "dossiers": len(dossiers)},
    )


def _citizen(row: Sequence[Any]) -> Citizen:
    born = row[2] or ""
    return Citizen(row[0], row[1], "-".join(part for part in (born[:4], born[4:6], born[6:]) if part))


async def rows(address: str, statement: str) -> list[Sequence[Any]]:
    """What a statement finds in a register.

    Args:
        address: `sqlite:///…` or `postgresql://…`.
        statement: Without parameters.
    """
    if address.startswith(_SQLITE):
        return await asyncio.to_thread(_sqlite_rows, address.removeprefix(_SQLITE), statement)
    connection = await asyncpg.connect(address)
    try:
        return [tuple(row) for row in await connection.fetch(statement)]
    finally:
        await connection.close()


def _sqlite_rows(path: str, statement: str) -> list[Sequence[Any]]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(statement).fetchall()
