"""Rights from the outside: commands grant, `/r1` calls, and `access why` says the same as the calls got."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest
from world import ClientSystem, CommandFailed, World, wait_until

CATALOGUE = """
[purposes]
residence = {vi = "Cư trú", en = "Residence"}
tax = {vi = "Thuế"}
[grounds]
"Law 1/2026" = {en = "An invented law"}
"Law 2/2026" = {}
"""
CALLS = {
    "getNote": ("GET", "/notes/1", b""),
    "addNote": ("POST", "/notes", b'{"text":"x"}'),
    "getFlag": ("GET", "/flags/1", b""),
}


class Office:
    """A world with a catalogue, a group, and rights of every kind to `desk/register`."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.h37, self.g01 = str(world.member("H37").home), str(world.member("G01").home)
        catalogue = folder / "catalogue.toml"
        catalogue.write_text(CATALOGUE, encoding="utf-8")
        world.command("purposes", "publish", str(catalogue), "--home", str(world.home))
        self.clients: dict[str, ClientSystem] = {"onedoor": world.clients["H37/app"]}
        for name in ("archive", "audit"):
            self.clients[name] = world.add_client("H37", name, f"{name}-app")
        world.command(
            "group", "set", "readers", self.id("archive"), "--home", str(world.home), "--name", "vi=Người đọc"
        )
        world.publish("G01", "desk/register")
        world.publish("G01", "desk/closed")
        self.grant("onedoor", "desk/register", "--operation", "getNote", "--operation", "post /notes",
                   "--purpose", "residence", "--ground", "Law 1/2026", "--official-required")  # fmt: skip
        self.command("access", "grant", "VN-TEST#readers", "desk/register", "--operation", "GET /flags/{anything}",
                     "--purpose", "tax", "--purpose", "residence", "--any")  # fmt: skip
        self.command(
            "access", "grant", world.member_id("H37"), "desk/closed", "--any", "--until", "2026-01-02T00:00:00"
        )
        self.grant("onedoor", "desk/closed", "--any", "--from", "2036-01-02T00:00:00")
        world.reload_gateway("H37")
        world.reload_gateway("G01")
        app = self.clients["onedoor"]  # the last right that was granted: all others are known when it is
        wait_until(lambda: "onedoor" in world.call(app, "G01/desk/closed", "/notes/1").json().get("rule", ""))
        wait_until(lambda: "onedoor" in str(self.why("onedoor", "desk/closed", "getNote", home=self.h37)["rule"]))

    def id(self, name: str) -> str:
        return self.world.member_id("H37") + f"/{name}"

    def command(self, *args: str) -> dict[str, object]:
        return self.world.command(*args, "--home", self.g01)

    def grant(self, name: str, service: str, *options: str) -> None:
        self.command("access", "grant", self.id(name), service, *options)

    def why(self, name: str, service: str, operation: str, *, home: str, purpose: str = "", ground: str = "",
            official: str = "") -> dict[str, object]:  # fmt: skip
        made: dict[str, object] = self.world.answer(
            "access", "why", self.id(name), self.world.service_id(f"G01/{service}"), operation, "--home", home,
            "--purpose", purpose, "--ground", ground, "--official", official,
        )  # fmt: skip
        return made


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory):
    from world import standard_world

    folder = tmp_path_factory.mktemp("access")
    with standard_world(folder / "world") as running:
        yield Office(running, folder)


def test_access_why_and_the_call_never_disagree(office: Office) -> None:
    everything = list(itertools.product(
        office.clients, ("desk/register", "desk/closed", "desk/register", "desk/register"), CALLS,
        ("residence", "tax", ""), ("Law 1/2026", "Law 2/2026"), ("", "official-7"),
    ))  # fmt: skip
    rare = ("onedoor", "desk/register", "getNote", "residence", "Law 1/2026", "")
    seen = set()
    for name, service, operation, purpose, ground, official in [*random.Random(7).sample(everything, 48), rare]:
        told = {"purpose": purpose, "ground": ground, "official": official}
        method, path, body = CALLS[operation]
        answer = office.world.call(office.clients[name], f"G01/{service}", path, method=method, body=body, **told)
        for home in (office.g01, office.h37):
            said = office.why(name, service, operation, home=home, **told)
            assert said["allowed"] == (answer.status == 200), (said, answer.body)
            if not said["allowed"]:
                problem = answer.json()
                assert problem["reason"] == said["code"]
                assert problem.get("rule") == said["rule"]
        seen.add(said["code"])
    assert seen >= {"granted", "no-access-right", "purpose-not-granted", "official-required", "operation-not-granted",
                    "right-expired"}  # fmt: skip


def test_a_refusal_says_code_reason_and_rule_but_never_what_was_stated(office: Office) -> None:
    answer = office.world.call(office.clients["onedoor"], "G01/desk/register", "/notes/1", purpose="curiosity-of-mine")
    problem = answer.json()
    assert (answer.status, problem["code"], problem["reason"]) == (403, "access-denied", "purpose-not-granted")
    assert problem["rule"].startswith("VN-TEST/GOV/G01/desk/register#")
    assert b"curiosity-of-mine" not in answer.body


def test_an_operation_is_asked_for_by_method_and_path(office: Office) -> None:
    told = {"purpose": "residence", "ground": "Law 1/2026", "official": "official-7"}
    assert office.why("onedoor", "desk/register", "POST /notes", home=office.g01, **told)["allowed"]
    assert office.why("onedoor", "desk/register", "GET /notes/{x}", home=office.g01, **told)["allowed"]
    assert office.why("onedoor", "desk/register", "PUT /notes", home=office.g01, **told)["code"] == "operation-unknown"
    with pytest.raises(CommandFailed, match="has no operation"):
        office.grant("onedoor", "desk/register", "--operation", "PUT /notes", "--any")


def test_words_that_are_not_in_the_catalogue_are_not_granted(office: Office) -> None:
    for options in (("--purpose", "curiosity", "--any"), ("--ground", "because", "--any"), ("--purpose", "tax")):
        with pytest.raises(CommandFailed, match=r"--any|not a (purpose|ground)"):
            office.grant("audit", "desk/register", *options)
    listed = office.world.command("purposes", "list", "--home", office.h37)
    assert [term["code"] for term in listed["purposes"]] == ["residence", "tax"]


def test_who_leaves_a_group_loses_its_rights(office: Office) -> None:
    def answers() -> int:
        return office.world.call(office.clients["archive"], "G01/desk/register", "/flags/1", purpose="tax").status

    assert answers() == 200
    world = office.world
    world.command("group", "set", "readers", office.id("audit"), "--home", str(world.home))
    wait_until(lambda: answers() == 403, "the group's change at the provider")
    assert world.call(office.clients["audit"], "G01/desk/register", "/flags/1", purpose="tax").status == 200
    assert world.command("group", "list", "--home", office.h37)["groups"] == [
        {"group": "VN-TEST#readers", "clients": [office.id("audit")]}
    ]
    world.command("group", "set", "readers", office.id("archive"), "--home", str(world.home))
    wait_until(lambda: answers() == 200, "the group's change back")


def test_a_members_own_group_counts_too(office: Office) -> None:
    office.command("group", "set", "partners", office.id("audit"))
    office.command("access", "grant", "VN-TEST/GOV/G01#partners", "desk/notes", "--any")
    wait_until(lambda: office.world.call(office.clients["audit"], "G01/desk/notes", "/notes/1").status == 200)
    rights = office.command("access", "list")["rights"]
    assert isinstance(rights, list)
    assert "VN-TEST/GOV/G01#partners" in {right["client"] for right in rights}


def test_answers_tell_what_is_left_of_a_quota(office: Office) -> None:
    office.command("access", "grant", office.id("audit"), "desk/notes", "--any", "--per-day", "3")
    office.command("group", "set", "partners")
    found = []

    def asked() -> bool:
        found.append(office.world.call(office.clients["audit"], "G01/desk/notes", "/notes/1"))
        return "ratelimit" in found[-1].headers

    wait_until(asked, "the quota")
    left = [found[-1]]
    while left[-1].status == 200:
        left.append(office.world.call(office.clients["audit"], "G01/desk/notes", "/notes/1"))
    assert [one.status for one in left] == [200, 200, 200, 429]
    assert [one.headers["ratelimit"].partition(";t=")[0] for one in left] == [
        '"day";r=2', '"day";r=1', '"day";r=0', '"day";r=0',
    ]  # fmt: skip
    assert left[0].headers["ratelimit-policy"] == '"day";q=3;w=86400'
    assert left[-1].code == "quota-exceeded"
    assert int(left[-1].headers["retry-after"]) > 20_000
