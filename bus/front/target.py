"""The request target of `/r1/…`: split on `/` first, decode each identifier part after (X-Road pr-rest). Pure."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote_to_bytes

import msgspec

from bus.errors import RequestMalformed
from evidence.errors import IdentifierInvalid
from evidence.identifiers import MemberId, ServiceId, SubsystemId

_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PARTS = 5


class Target(msgspec.Struct, frozen=True, gc=False):
    """Service in slash form, raw path after it (begins with `/` or is empty), raw query."""

    service: str
    path: str
    query: str


def parse_target(raw: str) -> Target:
    """Reads `/r1/{instance}/{class}/{member}/{subsystem}/{service}[/path][?query]`.

    Raises:
        RequestMalformed: too few parts, or a bad identifier.
    """
    raw_path, _, query = raw.partition("?")
    parts = raw_path.split("/", _PARTS + 2)
    if len(parts) < _PARTS + 2:
        raise RequestMalformed("the path is /r1/{instance}/{class}/{member}/{subsystem}/{service}/…; parts are missing")
    path = "/" + parts[_PARTS + 2] if len(parts) > _PARTS + 2 else ""
    return Target(service_of(tuple(parts[2 : _PARTS + 2])), path, query)


@lru_cache(maxsize=4096)
def service_of(parts: tuple[str, ...]) -> str:
    """Service identifier of five raw parts, in canonical slash form.

    Raises:
        RequestMalformed: an empty part, a bad `%`, or characters that X-Road does not allow.
    """
    instance, member_class, member, subsystem, service = (_decode(part) for part in parts)
    try:
        made = ServiceId(SubsystemId(MemberId(instance, member_class, member), subsystem), service)
        return str(ServiceId.parse(str(made)))
    except IdentifierInvalid as error:
        raise RequestMalformed(f"the service identifier is not valid: {error}") from error


@lru_cache(maxsize=4096)
def subsystem_of(parts: tuple[str, ...]) -> str:
    """Subsystem identifier of four raw parts, in canonical slash form.

    Raises:
        RequestMalformed: an empty part, a bad `%`, or characters that X-Road does not allow.
    """
    instance, member_class, member, subsystem = (_decode(part) for part in parts)
    try:
        made = SubsystemId(MemberId(instance, member_class, member), subsystem)
        return str(SubsystemId.parse(str(made)))
    except IdentifierInvalid as error:
        raise RequestMalformed(f"the subsystem identifier is not valid: {error}") from error


def _decode(part: str) -> str:
    if not part or _BAD_PERCENT.search(part):
        raise RequestMalformed("an identifier part is empty or has an incomplete %-encoding")
    try:
        return unquote_to_bytes(part).decode("utf-8")
    except UnicodeError as error:  # also of raw bytes that are no text, which aiohttp hands on as surrogates
        raise RequestMalformed("an identifier part is not UTF-8") from error


@lru_cache(maxsize=4096)
def client_of(text: str) -> str:
    """Client subsystem of an `X-Road-Client` header, in canonical slash form.

    Raises:
        RequestMalformed: not a subsystem identifier.
    """
    try:
        return str(SubsystemId.parse(text))
    except IdentifierInvalid as error:
        raise RequestMalformed(f"X-Road-Client is not a subsystem identifier: {error}") from error
