"""Provinces as the citizen number and addresses code them, with a rough weight of their population. Pure data.

These are the codes of before July 2025: numbers that were given then keep them. Commune codes are made up.
"""

import random

# code → weight: the large cities draw more
PROVINCES: dict[str, float] = {
    "01": 8.0, "02": 0.9, "04": 0.5, "06": 0.3, "08": 0.8, "10": 0.7, "11": 0.6, "12": 0.5, "14": 1.2, "15": 0.8,
    "17": 0.9, "19": 1.3, "20": 0.8, "22": 1.3, "24": 1.8, "25": 1.5, "26": 1.2, "27": 1.4, "30": 1.9, "31": 2.0,
    "33": 1.3, "34": 1.9, "35": 0.9, "36": 1.8, "37": 1.0, "38": 3.6, "40": 3.3, "42": 1.3, "44": 0.9, "45": 0.6,
    "46": 1.1, "48": 1.2, "49": 1.5, "51": 1.2, "52": 1.5, "54": 0.9, "56": 1.2, "58": 0.6, "60": 1.2, "62": 0.5,
    "64": 1.5, "66": 1.9, "67": 0.6, "68": 1.3, "70": 1.0, "72": 1.2, "74": 2.5, "75": 3.1, "77": 1.1, "79": 9.0,
    "80": 1.7, "82": 1.8, "83": 1.3, "84": 1.0, "86": 1.0, "87": 1.6, "89": 1.9, "91": 1.7, "92": 1.2, "93": 0.7,
    "94": 1.2, "95": 0.9, "96": 1.2,
}  # fmt: skip
COMMUNES_IN_EACH = 120


def draw_provinces(chance: random.Random, count: int) -> list[str]:
    """Draw province codes by weight."""
    return chance.choices(list(PROVINCES), weights=list(PROVINCES.values()), k=count)


def communes_of(province: str) -> list[str]:
    """All commune codes of a province."""
    return [f"{int(province) * 300 + number:05d}" for number in range(COMMUNES_IN_EACH)]


def draw_commune(chance: random.Random, province: str) -> str:
    """Draw a commune code of a province: five digits, made up."""
    return f"{int(province) * 300 + int(chance.random() * COMMUNES_IN_EACH):05d}"
