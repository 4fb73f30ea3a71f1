"""Property tests here are about results, never about time: a loaded machine must not make them fail."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "bus", deadline=None, max_examples=60, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("bus")

# the signed directory of the registry's tests serves here too
sys.path.append(str(Path(__file__).parent.parent / "registry"))


@pytest.fixture(autouse=True, scope="module")
def _no_waiting_for_the_disk():
    """What a power cut leaves behind is tested with the log itself; here only time would be lost."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda descriptor: None)
        yield
