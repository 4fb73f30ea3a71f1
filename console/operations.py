"""Operations as people name them: by id, or by `METHOD /path/{template}`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from console.homes import HomeInvalid
from registry.documents import Service
from registry.view import ServiceEntry

_PARAMETER = re.compile(r"\{[^{}/]*\}")


def operation_ids(service: Service, named: Iterable[str]) -> tuple[str, ...]:
    """Operation ids of what was named as id or as `METHOD /path/{template}`; names of path parameters do not matter.

    Raises:
        HomeInvalid: the service has no such operation.
    """
    by_place: dict[tuple[str, str], str] = {(one.method, _shape(one.path)): one.id for one in service.operations}
    found = []
    for text in named:
        method, space, path = text.partition(" ")
        id_ = by_place.get((method.upper(), _shape(path.strip()))) if space else text
        if id_ is None:
            places = ", ".join(f"{one.method} {one.path}" for one in service.operations[:12])
            raise HomeInvalid(f"{service.subject} has no operation {text!r}; it has {places}")
        found.append(id_)
    return tuple(dict.fromkeys(found))


def operation_at(service: ServiceEntry | None, named: str) -> str:
    """The operation id of `METHOD /path/{template}`; what names none, and an id, stays as it is."""
    method, space, path = named.partition(" ")
    if service is None or not space:
        return named
    place = method.upper(), _shape(path.strip())
    return next((one.id for one in service.operations.values() if (one.method, _shape(one.path)) == place), named)


def _shape(path: str) -> str:
    return _PARAMETER.sub("{}", path)
