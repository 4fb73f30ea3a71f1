"""Kinds of sources, found by name among the installed packages.

A kind is an entry point of the group `lienthong.sources`; its object is a class without arguments that is an
`adapters.port.SourceKind`. Only the kind that is asked for is imported. Kinds import none of each other.
"""

from importlib.metadata import EntryPoint, entry_points
from typing import cast

from adapters.errors import KindUnknown
from adapters.port import SourceKind

GROUP = "lienthong.sources"


def known_kinds() -> tuple[str, ...]:
    """Names of the kinds that are installed, sorted."""
    return tuple(sorted({point.name for point in entry_points(group=GROUP)}))


def load_kind(name: str) -> SourceKind:
    """Import the kind of that name.

    Raises:
        KindUnknown: No such kind, two packages offer it, or its package cannot be imported.
    """
    found = list(entry_points(group=GROUP, name=name))
    if not found:
        known = ", ".join(known_kinds()) or "none; is the program installed?"
        raise KindUnknown("kind", f"no kind of source is called {name!r}; known kinds: {known}")
    if len({point.value for point in found}) > 1:
        offers = ", ".join(sorted(point.value for point in found))
        raise KindUnknown("kind", f"several packages offer a kind {name!r} ({offers}); remove all but one")
    return _made(found[0])


def _made(point: EntryPoint) -> SourceKind:
    try:
        factory = point.load()
    except (ImportError, AttributeError) as error:
        raise KindUnknown("kind", f"kind {point.name!r} ({point.value}) cannot be imported: {error}") from error
    return cast("SourceKind", factory())
