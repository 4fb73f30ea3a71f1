"""Directory services as X-Road's and GovStack's own clients ask for them, at a real gateway."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest
from world import Answer, World

BASE = "/r1/VN-TEST/GOV/G01/desk"
# the schemas of GovStack's IM Service Metadata API 1.0, closed so that another spelling is seen
KIND = {"enum": ["MEMBER", "APPLICATION", "SERVICE"]}
TEXT = {"type": "string"}
PARTS = dict.fromkeys(("instanceId", "memberClass", "memberCode", "applicationCode"), TEXT)
CLIENTS = {
    "type": "object", "required": ["member"], "additionalProperties": False,
    "properties": {"member": {"type": "array", "minItems": 1, "items": {
        "type": "object", "required": ["name", "id"], "additionalProperties": False,
        "properties": {"name": TEXT, "id": {
            "type": "object", "required": ["objectType", "instanceId"], "additionalProperties": False,
            "properties": {"objectType": KIND, **PARTS}}}}}},
}  # fmt: skip
SERVICES = {
    "type": "object", "required": ["member"], "additionalProperties": False,
    "properties": {"member": {"type": "array", "items": {
        "type": "object", "required": ["serviceCode", "endpointList"], "additionalProperties": False,
        "properties": {
            "objectType": KIND, "serviceType": TEXT, "serviceCode": TEXT, "serviceVersion": TEXT, **PARTS,
            "endpointList": {"type": "object", "required": ["member"], "properties": {"member": {
                "type": "array", "items": {"type": "object", "required": ["method", "path"]}}}}}}}},
}  # fmt: skip


def ask(world: World, target: str, *, client: str = "", key: bool = True, **headers: str) -> Answer:
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    if key:
        told["X-LienThong-Key"] = world.clients["H37/app"].key
    if client:
        told[client] = "VN-TEST/GOV/H37/onedoor"
    return world.request(world.member("H37"), "GET", target, told)


def listed(answer: Answer) -> Any:
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    return answer.json()


def test_an_x_road_client_lists_clients_in_json_and_xml(world: World) -> None:
    members = listed(ask(world, "/listClients?xRoadInstance=VN-TEST", key=False, Accept="application/json"))["member"]
    onedoor = {"object_type": "SUBSYSTEM", "xroad_instance": "VN-TEST", "member_class": "GOV", "member_code": "H37",
               "subsystem_code": "onedoor"}  # fmt: skip
    assert onedoor in [member["id"] for member in members]
    answer = ask(world, "/listClients", key=False, Accept="text/xml")
    assert answer.headers["content-type"] == "text/xml; charset=utf-8"
    tree = ET.fromstring(answer.body)
    ids = "{http://x-road.eu/xsd/identifiers}"
    found = [
        (one.get(f"{ids}objectType"), [part.text for part in one])
        for one in tree.iter("{http://x-road.eu/xsd/xroad.xsd}id")
    ]
    assert len(found) == len(members)
    assert ("SUBSYSTEM", ["VN-TEST", "GOV", "H37", "onedoor"]) in found


def test_an_x_road_client_lists_methods_and_what_it_may_call(world: World) -> None:
    for verb in ("listMethods", "allowedMethods"):
        (service,) = listed(ask(world, f"{BASE}/{verb}?serviceId=notes", client="X-Road-Client"))["service"]
        assert service["service_code"] == "notes"
        assert {"method": "GET", "path": "/notes/*"} in service["endpoint_list"]
    assert listed(ask(world, "/r1/VN-TEST/GOV/G01/nothing/listMethods", client="X-Road-Client")) == {"service": []}


def test_a_govstack_client_gets_govstacks_form(world: World) -> None:
    for target in ("/listClients?instanceId=VN-TEST", "/r1/listClients"):
        jsonschema.validate(listed(ask(world, target, key=False)), CLIENTS)
    for verb in ("listMethods", "allowedMethods"):
        told = listed(ask(world, f"{BASE}/{verb}?serviceId=notes", client="X-GovStack-Client"))
        jsonschema.validate(told, SERVICES)
        (service,) = told["member"]
        assert (service["applicationCode"], service["serviceVersion"]) == ("desk", "1.0.0")
    unknown = listed(ask(world, "/r1/identifier/identifier/alp4aNum3r1c/m3mb3rc0d3/listMethods?serviceId=s1",
                         client="X-GovStack-Client"))  # fmt: skip
    assert unknown == {"member": []}
    answer = ask(world, f"{BASE}/getOpenAPI?serviceCode=notes", client="X-GovStack-Client")
    assert answer.status == 200
    assert b"operationId: getNote" in answer.body


@pytest.mark.parametrize(
    "target",
    [
        "/r1/1nval1d/identifier/alp4aNum3r1c/alp4aNum3r1c/getOpenAPI?serviceCode=alp4aNum3r1c",
        "/r1/VN-TEST/GOV/_invalid/desk/getOpenAPI?serviceCode=notes",
        f"{BASE}/getOpenAPI?serviceCode=_invalid",
        f"{BASE}/getOpenAPI?serviceCode=",
        f"{BASE}/getOpenAPI",
        f"{BASE}/listMethods?serviceId=",
        f"{BASE}/allowedMethods?serviceId=a&serviceId=b",
        "/listClients?instanceId=",
        "/r1/VN-TEST/GOV//desk/listMethods",
        "/r1/VN-TEST/GOV/G01/%C3%28/listMethods",
        "/r1/VN-TEST/GOV/G01/d%3Aesk/listMethods",
        "/r1/VN-TEST/GOV/G01/desk%/listMethods",
    ],
)
def test_malformed_identifiers_and_empty_parameters_are_400(world: World, target: str) -> None:
    answer = ask(world, target, client="X-GovStack-Client")
    assert (answer.status, answer.code) == (400, "request-malformed")
    assert answer.json()["detail"]


def test_get_wsdl_is_answered_as_x_road_answers_for_a_rest_service(world: World) -> None:
    answer = ask(world, f"{BASE}/getWsdl?serviceCode=notes", client="X-Road-Client")
    assert (answer.status, answer.code) == (400, "service-type-invalid")
    assert answer.headers["x-road-error"] == answer.json()["type"] == "Server.ServerProxy.InvalidServiceType"
    assert answer.json()["title"] == "Service is a REST service and does not have a WSDL"
    assert ask(world, f"{BASE}/getWsdl?serviceCode=none", client="X-Road-Client").code == "service-unknown"
    assert ask(world, f"{BASE}/getWsdl", client="X-Road-Client").code == "request-malformed"


def test_nobody_asks_in_anothers_name(world: World) -> None:
    told = {"X-LienThong-Key": world.clients["H37/app"].key, "X-Road-Client": "VN-TEST/GOV/G01/desk"}
    answer = world.request(world.member("H37"), "GET", f"{BASE}/allowedMethods", told)
    assert (answer.status, answer.code) == (403, "client-forbidden")
    assert ask(world, f"{BASE}/listMethods", key=False).code == "credentials-missing"
