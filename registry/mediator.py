"""The catalogue in the form of GovStack's Information Mediator: listClients, listMethods, allowedMethods.

Source: GovStack "Information Mediator" building block, IM Service Metadata API 1.0: names in camel case, lists below
`member`, an application where X-Road says subsystem, and the version of a service. Pure; `catalogue` says what.
"""

from __future__ import annotations

from registry.catalogue import Client, Method, Offer, method_of

_NAMES = {
    "xroad_instance": "instanceId",
    "member_class": "memberClass",
    "member_code": "memberCode",
    "subsystem_code": "applicationCode",
}
_KINDS = {"MEMBER": "MEMBER", "SUBSYSTEM": "APPLICATION", "SERVICE": "SERVICE"}


def clients(listed: dict[str, list[Client]]) -> dict[str, object]:
    """`catalogue.list_clients` in GovStack's form."""
    return {"member": [{"name": client["name"], "id": _identifier(client["id"])} for client in listed["member"]]}


def methods(offers: list[Offer], service_id: str = "") -> dict[str, object]:
    """Services with their operations.

    Args:
        offers: what `catalogue.provided` or `catalogue.allowed` found.
        service_id: only the service with that code or identifier; empty for all.
    """
    return {
        "member": [
            _service(method_of(entry, operations), entry.version)
            for entry, operations in offers
            if not service_id or service_id in (entry.id, entry.id.rpartition("/")[2])
        ]
    }


def _service(method: Method, version: str) -> dict[str, object]:
    told: dict[str, object] = {
        "objectType": "SERVICE",
        "serviceType": method["service_type"],
        "instanceId": method["xroad_instance"],
        "memberClass": method["member_class"],
        "memberCode": method["member_code"],
        "applicationCode": method["subsystem_code"],
        "serviceCode": method["service_code"],
        "serviceVersion": version,
        "endpointList": {"member": method["endpoint_list"]},
    }
    return told


def _identifier(id_: dict[str, str]) -> dict[str, str]:
    told = {"objectType": _KINDS[id_["object_type"]]}
    return told | {name: id_[key] for key, name in _NAMES.items() if key in id_}
