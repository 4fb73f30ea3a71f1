"""Fixtures of the integration tests: one running world for the whole session, and worlds of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from forging import Stand, build_stand
from world import World, standard_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """H37 and G01 as `standard_world` makes them. Shared by all tests: whoever stops a part starts it again."""
    with standard_world(tmp_path_factory.mktemp("world")) as running:
        yield running


@pytest.fixture
def own_world(tmp_path: Path) -> Iterator[World]:
    """A standard world of one test's own, to break as it likes (about four seconds)."""
    with standard_world(tmp_path / "world") as running:
        yield running


@pytest.fixture
def empty_world(tmp_path: Path) -> Iterator[World]:
    """An instance with broker and registry and no members."""
    with World(tmp_path / "world") as running:
        yield running


@pytest.fixture(scope="session")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """H37 and G01 with running gateways, E66 and F77 as hand-made nodes: what the attack tests share."""
    with World(tmp_path_factory.mktemp("stand")) as running:
        yield build_stand(running)
        for name in ("H37", "G01", "registry"):
            text = running.log_path(name).read_text(encoding="utf-8")
            # Whatever was sent, it was foreseen: no handler, front or source failed with a defect.
            assert not [line for line in text.splitlines() if ".failed" in line or "Traceback" in line]
