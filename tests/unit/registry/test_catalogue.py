from __future__ import annotations

from datetime import timedelta

from registry_world import CLIENT, CONSUMER, PROVIDER, START, SUBSYSTEM, World, time_at

from registry.catalogue import allowed_methods, list_clients, list_methods

AT = START + timedelta(hours=1)
CITIZENS = {
    "xroad_instance": "VN-TEST",
    "member_class": "GOV",
    "member_code": "G01",
    "object_type": "SERVICE",
    "service_code": "citizens",
    "service_type": "OPENAPI",
    "subsystem_code": "population",
    "endpoint_list": [
        {"method": "GET", "path": "/citizens/*"},
        {"method": "POST", "path": "/citizens/confirm"},
    ],
}


def test_list_clients_has_x_roads_form(world: World) -> None:
    [provider, consumer, population, onedoor] = list_clients(world.directory)["member"]
    assert provider == {
        "id": {"object_type": "MEMBER", "xroad_instance": "VN-TEST", "member_class": "GOV", "member_code": "G01"},
        "name": "Cơ quan G01",
    }
    assert consumer["id"]["member_code"] == "H37"
    assert onedoor["name"] == "onedoor"
    assert population["id"] == {**provider["id"], "object_type": "SUBSYSTEM", "subsystem_code": "population"}


def test_names_are_in_the_asked_language_where_there_is_one(world: World) -> None:
    world.put(world.member(world.consumer, names={}), world.operator)
    [provider, consumer, *_] = list_clients(world.directory, language="en")["member"]
    assert (provider["name"], consumer["name"]) == ("Agency G01", "")


def test_inactive_members_and_their_subsystems_are_not_listed(world: World) -> None:
    world.put(world.member(world.consumer, status="left"), world.operator)
    listed = list_clients(world.directory)["member"]
    assert {client["id"]["member_code"] for client in listed} == {"G01"}


def test_list_methods_has_x_roads_form(world: World) -> None:
    assert list_methods(world.directory, SUBSYSTEM) == {"service": [CITIZENS]}
    for unknown in (CLIENT, f"{PROVIDER}/other", "nonsense", CONSUMER):
        assert list_methods(world.directory, unknown) == {"service": []}


def test_allowed_methods_has_only_what_a_valid_right_grants(world: World) -> None:
    assert allowed_methods(world.directory, SUBSYSTEM, CLIENT, AT) == {"service": [CITIZENS]}
    assert allowed_methods(world.directory, SUBSYSTEM, SUBSYSTEM, AT) == {"service": []}
    world.put(world.access(operations=("confirmCitizen",)), world.provider)
    [method] = allowed_methods(world.directory, SUBSYSTEM, CLIENT, AT, view=world.directory)["service"]
    assert method["endpoint_list"] == [{"method": "POST", "path": "/citizens/confirm"}]
    expired = world.access(f"{SUBSYSTEM}/citizens#old", until=time_at(30))
    world.put(expired, world.provider)
    assert len(allowed_methods(world.directory, SUBSYSTEM, CLIENT, AT)["service"][0]["endpoint_list"]) == 1
    world.put(world.access(operations=()), world.provider)
    assert allowed_methods(world.directory, SUBSYSTEM, CLIENT, AT) == {"service": []}
