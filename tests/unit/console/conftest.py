"""Property tests here are about results, never about time: a loaded machine must not make them fail."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from office import Office

settings.register_profile(
    "console", deadline=None, max_examples=60, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("console")


@pytest.fixture(autouse=True, scope="module")
def _no_waiting_for_the_disk():
    """Nothing here is about power cuts; waiting for the disk would only take time."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    made = Office(tmp_path_factory.mktemp("office"))
    with made.registry:
        yield made
