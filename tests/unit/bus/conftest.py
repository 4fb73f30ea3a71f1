"""Property tests here are about results, never about time: a loaded machine must not make them fail."""

import sys
from pathlib import Path

from hypothesis import settings

settings.register_profile("bus", deadline=None, max_examples=60)
settings.load_profile("bus")

# the signed directory of the registry's tests serves here too
sys.path.append(str(Path(__file__).parent.parent / "registry"))
