"""The catalogue in X-Road's JSON form: listClients, listMethods, allowedMethods.

Source: X-Road "Service Metadata Protocol for REST" (PR-MREST) annexes A and B, and PR-META for listClients. Path
parameters become `*`, as X-Road writes them. Pure; finds no contract (`getOpenAPI` is served from the follower's blobs)
and answers for what the directory says, not for what is reachable now.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TypedDict
from xml.sax.saxutils import escape

from evidence.errors import IdentifierInvalid
from evidence.identifiers import MemberId, ServiceId, SubsystemId
from registry.decision import authorise_coarse
from registry.state import State
from registry.view import DecisionView, ServiceEntry, ServiceOperation

_PARAMETER = re.compile(r"\{[^{}/]*\}")
# characters that XML 1.0 (section 2.2) cannot write; names are their members' own words
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Client(TypedDict):
    """One line of listClients."""

    id: dict[str, str]
    name: str


class Endpoint(TypedDict):
    """One operation, with `*` for each path parameter."""

    method: str
    path: str


class Method(TypedDict):
    """One service of listMethods."""

    xroad_instance: str
    member_class: str
    member_code: str
    object_type: str
    service_code: str
    service_type: str
    subsystem_code: str
    endpoint_list: list[Endpoint]


def list_clients(directory: State, *, language: str = "") -> dict[str, list[Client]]:
    """All active members and their subsystems.

    Args:
        directory: The directory.
        language: Preferred language of names; where a name is missing, the first one that there is.
    """
    active = [member for member in directory.members() if member.status == "active"]
    ids = {member.id for member in active}
    clients: list[Client] = [{"id": _identifier(m.id), "name": _name(m.names, language)} for m in active]
    clients.extend(
        {"id": _identifier(subsystem.id), "name": _name(subsystem.names, language)}
        for subsystem in directory.subsystems()
        if subsystem.member in ids
    )
    return {"member": clients}


def list_methods(directory: State, provider: str) -> dict[str, list[Method]]:
    """All services of a subsystem.

    Args:
        directory: The directory.
        provider: The providing subsystem, slash form; an unknown one provides nothing.
    """
    return {"service": [method_of(entry, operations) for entry, operations in provided(directory, provider)]}


def allowed_methods(
    directory: State, provider: str, client: str, at: datetime, *, view: DecisionView | None = None
) -> dict[str, list[Method]]:
    """The services of a subsystem that a client may call now, each with the operations that some right grants.

    Args:
        directory: The directory.
        provider: The providing subsystem, slash form.
        client: The calling subsystem, slash form.
        at: The instant that counts.
        view: What decides; the directory itself unless a provider asks about its own store.
    """
    found = allowed(directory, provider, client, at, view=view)
    return {"service": [method_of(entry, operations) for entry, operations in found]}


Offer = tuple[ServiceEntry, list[ServiceOperation]]
"""A service and those of its operations that are meant."""


def provided(directory: State, provider: str) -> list[Offer]:
    """What `list_methods` lists."""
    return [(entry, list(entry.operations.values())) for entry in _services(directory, provider)]


def allowed(
    directory: State, provider: str, client: str, at: datetime, *, view: DecisionView | None = None
) -> list[Offer]:
    """What `allowed_methods` lists."""
    deciding = view or directory
    offers: list[Offer] = []
    for entry in _services(directory, provider):
        if not authorise_coarse(deciding, client=client, service=entry.id, at=at).allowed:
            continue
        granted = _granted_operations(deciding, client, entry, at)
        if granted:
            offers.append((entry, granted))
    return offers


def _granted_operations(view: DecisionView, client: str, entry: ServiceEntry, at: datetime) -> list[ServiceOperation]:
    granted: set[str] = set()
    for right in view.rights(client, entry.id):
        if right.valid_from_at <= at and (right.until_at is None or at < right.until_at):
            granted |= entry.operations.keys() if right.operations is None else right.operations
    return [operation for operation in entry.operations.values() if operation.id in granted]


def _services(directory: State, provider: str) -> list[ServiceEntry]:
    try:
        member = str(SubsystemId.parse(provider).member)
    except IdentifierInvalid:
        return []
    return [entry for entry in directory.services_of(member) if entry.subsystem == provider]


def method_of(entry: ServiceEntry, operations: Iterable[ServiceOperation]) -> Method:
    """A service with some of its operations, as X-Road writes it."""
    id_ = ServiceId.parse(entry.id)
    return {
        "xroad_instance": id_.member.instance,
        "member_class": id_.member.member_class,
        "member_code": id_.member.member,
        "object_type": "SERVICE",
        "service_code": id_.service,
        "service_type": "OPENAPI",
        "subsystem_code": id_.subsystem.subsystem,
        "endpoint_list": [
            {"method": operation.method, "path": _PARAMETER.sub("*", operation.path)} for operation in operations
        ],
    }


_XML_FIELDS = {
    "xroad_instance": "xRoadInstance",
    "member_class": "memberClass",
    "member_code": "memberCode",
    "subsystem_code": "subsystemCode",
}


def clients_xml(listed: dict[str, list[Client]]) -> bytes:
    """`list_clients` as X-Road's XML (PR-META annex A)."""
    parts = [
        (
            '<?xml version="1.0" encoding="UTF-8"?>\n<xrd:clientList xmlns:xrd="http://x-road.eu/xsd/xroad.xsd"'
            ' xmlns:id="http://x-road.eu/xsd/identifiers">'
        )
    ]
    for client in listed["member"]:
        told = "".join(
            f"<id:{element}>{escape(client['id'][key])}</id:{element}>"
            for key, element in _XML_FIELDS.items()
            if key in client["id"]
        )
        parts.append(
            f'<xrd:member><xrd:id id:objectType="{client["id"]["object_type"]}">{told}</xrd:id>'
            f"<xrd:name>{escape(_NOT_XML.sub('', client['name']))}</xrd:name></xrd:member>"
        )
    return ("".join(parts) + "</xrd:clientList>").encode()


def _identifier(text: str) -> dict[str, str]:
    if text.count("/") == 2:
        return {"object_type": "MEMBER", **_parts(MemberId.parse(text))}
    id_ = SubsystemId.parse(text)
    return {"object_type": "SUBSYSTEM", **_parts(id_.member), "subsystem_code": id_.subsystem}


def _parts(id_: MemberId) -> dict[str, str]:
    return {"xroad_instance": id_.instance, "member_class": id_.member_class, "member_code": id_.member}


def _name(names: Mapping[str, str], language: str) -> str:
    return names.get(language) or next(iter(names.values()), "")
