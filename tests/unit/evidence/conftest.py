"""Property tests here are about results, never about time: a loaded machine must not make them fail."""

from hypothesis import settings

settings.register_profile("evidence", deadline=None)
settings.load_profile("evidence")
