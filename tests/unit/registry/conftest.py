from __future__ import annotations

import pytest
from registry_world import World


@pytest.fixture
def world() -> World:
    return World().populate()


@pytest.fixture
def begun() -> World:
    return World().begin()
