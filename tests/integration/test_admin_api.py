"""The admin API from the outside: roles, records of every act, maintenance; and client systems' keys and limits."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from world import Answer, ClientSystem, CommandFailed, World, standard_world, wait_until

from bus.settings import ROLES
from evidence import header
from evidence.identifiers import NodeId, log_origin
from evidence.note import VerifierKey
from evidence.verify import verify_record

SHORT = {role: role.removeprefix("XROAD_").lower().replace("_", "-") for role in ROLES}
READABLE = {
    "/status": set(ROLES),
    "/clients": {"XROAD_SECURITY_OFFICER", "XROAD_REGISTRATION_OFFICER", "XROAD_SECURITYSERVER_OBSERVER"},
    "/services": {"XROAD_SERVICE_ADMINISTRATOR", "XROAD_SYSTEM_ADMINISTRATOR", "XROAD_SECURITYSERVER_OBSERVER"},
    "/keys": {"XROAD_SECURITY_OFFICER"},
    "/maintenance": {"XROAD_SYSTEM_ADMINISTRATOR", "XROAD_SECURITYSERVER_OBSERVER"},
    "/evidence/checkpoint": {"auditor"},
    "/evidence/records/0": {"auditor"},
    "/evidence/records/0/proof": {"auditor"},
}


class Site:
    """A world whose gateways have an admin key for each role."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.app = world.clients["H37/app"]
        self.keys: dict[str, str] = {}
        for code in ("H37", "G01"):
            for role, name in SHORT.items():
                made = world.command("admin", "key", "add", name, "--role", role, "--home", self.home(code))
                self.keys[f"{code}/{role}"] = made["key"]
            world.reload_gateway(code)

    def home(self, code: str) -> str:
        return str(self.world.member(code).home)

    def ask(self, method: str, path: str, key: str = "", body: Any = None, code: str = "H37") -> Answer:
        host, port = self.world.member(code).listening["admin"].rpartition("/")[2].split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        headers = {"Authorization": f"X-Road-ApiKey token={key}"} if key else {}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            got = connection.getresponse()
            return Answer(got.status, {name.lower(): value for name, value in got.getheaders()}, got.read())
        finally:
            connection.close()

    def api(self, method: str, path: str, role: str, body: Any = None, code: str = "H37") -> Answer:
        return self.ask(method, f"/api/v1{path}", self.keys[f"{code}/{role}"], body, code)

    def acts(self, code: str = "H37", last: int = 1) -> list[dict[str, Any]]:
        acts: list[dict[str, Any]] = self.world.command(
            "audit", "acts", str(self.world.member(code).log_db), "--last", str(last)
        )["acts"]
        return acts

    def call(self, **options: Any) -> Answer:
        return self.world.call(self.app, "G01/desk/notes", "/notes/1", **options)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with standard_world(tmp_path_factory.mktemp("admin")) as running:
        yield Site(running)


@pytest.mark.parametrize("path", READABLE)
def test_each_role_reads_what_it_may_and_every_act_is_recorded(site: Site, path: str) -> None:
    for role in ROLES:
        answer = site.api("GET", path, role)
        (act,) = site.acts()
        assert (act["key"], act["roles"], act["node"]) == (SHORT[role], [role], site.world.member("H37").node)
        if role in READABLE[path]:
            assert answer.status == 200, answer.body
            assert (act["outcome"], act["code"]) == ("allowed", "")
        else:
            assert (answer.status, answer.code) == (403, "role-missing")
            assert (act["outcome"], act["code"]) == ("refused", "role-missing")


def test_health_and_metrics_need_no_key_and_are_no_acts(site: Site) -> None:
    before = site.acts(last=1000)
    for path in ("/livez", "/readyz", "/metrics", "/openapi.json"):
        assert site.ask("GET", path).status == 200
    assert site.acts(last=1000) == before


def test_without_a_good_key_nothing_is_done_and_the_attempt_is_recorded(site: Site) -> None:
    assert site.ask("GET", "/api/v1/status").code == "credentials-missing"
    assert (site.acts()[0]["outcome"], site.acts()[0]["key"]) == ("refused", "")
    wrong = site.ask("DELETE", "/api/v1/maintenance", "system-administrator.guess")
    assert (wrong.status, wrong.code) == (401, "credentials-invalid")
    (act,) = site.acts()
    assert (act["act"], act["outcome"], act["code"]) == ("maintenance.off", "refused", "credentials-invalid")
    assert b"guess" not in site.world.member("H37").log_db.read_bytes()


def test_strangers_do_not_fill_the_log(site: Site) -> None:
    before = len(site.acts(last=10_000))
    for _ in range(100):
        site.ask("GET", "/api/v1/status")
    assert len(site.acts(last=10_000)) - before <= 40
    wait_until(lambda: site.api("GET", "/status", "auditor").status == 200)


def test_what_the_api_does_not_have_is_told_and_recorded(site: Site) -> None:
    system = "XROAD_SYSTEM_ADMINISTRATOR"
    assert site.api("GET", "/nothing", system).code == "not-found"
    assert site.api("POST", "/maintenance", system).headers["allow"] == "GET, PUT, DELETE"
    for body in ({}, {"notice": ""}, {"notice": "x", "more": 1}, {"notice": "x\ny"}, {"notice": "x" * 5000}):
        answer = site.api("PUT", "/maintenance", system, body)
        assert (answer.status, answer.code) == (400, "request-malformed")
        assert site.acts(last=2)[0]["outcome"] == "allowed"
        assert (site.acts()[0]["outcome"], site.acts()[0]["code"]) == ("failed", "request-malformed")
    assert site.api("GET", "/evidence/records/99999999", "auditor").code == "not-found"
    assert site.api("GET", "/evidence/records/007", "auditor").code == "request-malformed"


def test_maintenance_is_seen_by_clients_and_by_other_members(site: Site, tmp_path: Path) -> None:
    key = tmp_path / "key"
    for code, notice in (("H37", "Nâng cấp máy chủ"), ("G01", "moving house")):
        key.write_text(site.keys[f"{code}/XROAD_SYSTEM_ADMINISTRATOR"])
        arguments = ("--home", site.home(code), "--key-file", str(key))
        site.world.command("admin", "maintenance", "on", *arguments, "--notice", notice, "--until", "2036-01-01")
        answer = site.call()
        assert (answer.status, answer.code, answer.json()["detail"]) == (503, "maintenance", notice)
        assert int(answer.headers["retry-after"]) > 3600
        assert site.ask("GET", "/readyz", code=code).status == 503
        site.world.command("admin", "maintenance", "off", *arguments)
        assert site.call().status == 200
        assert [act["act"] for act in site.acts(code, 2)] == ["maintenance.on", "maintenance.off"]
    assert len(site.world.backend.received) >= 2


def test_maintenance_outlives_a_restart(site: Site) -> None:
    system = "XROAD_SYSTEM_ADMINISTRATOR"
    assert site.api("PUT", "/maintenance", system, {"notice": "a new disk"}).status == 200
    site.world.stop_gateway("H37")
    site.world.start_gateway("H37", ready=False)
    wait_until(lambda: site.call().code == "maintenance")
    wait_until(lambda: site.api("DELETE", "/maintenance", system).status == 200)
    site.world.wait_ready("H37")
    assert site.call().status == 200


def test_an_auditor_gets_records_with_proofs_that_verify(site: Site) -> None:
    record_id = site.call().headers["x-road-request-id"]
    records = site.api("GET", f"/evidence/exchanges/{record_id}", "auditor").json()["records"]
    assert [one["header"]["type"] for one in records] == ["query", "answer"]
    assert records[0]["header"]["id"] == record_id
    node = site.world.member("H37").node
    origin = log_origin(site.world.genesis, NodeId.parse(node), 1)
    verifier = VerifierKey(origin, site.world.member("H37").signer("log").public_bytes)
    for one in records:
        leaf = base64.b64decode(one["leaf"])
        proof = site.api("GET", f"/evidence/records/{one['index']}/proof", "auditor").body
        report = verify_record(leaf, proof, [verifier])
        assert report.header == header.decode(leaf.partition(b"\n")[2])
    other = "01890000-0000-7000-8000-000000000000"
    assert site.api("GET", f"/evidence/exchanges/{other}", "auditor").code == "not-found"
    assert site.api("GET", "/evidence/exchanges/x", "auditor").code == "request-malformed"


def test_a_reload_through_the_api_is_all_or_nothing(site: Site) -> None:
    system = "XROAD_SYSTEM_ADMINISTRATOR"
    assert site.api("POST", "/reload", system).json()["reloaded"]
    part = site.world.member("H37").home / "gateway.d" / "zz-broken.toml"
    part.write_text("[[client]]\nname = 7\n")
    try:
        answer = site.api("POST", "/reload", system)
    finally:
        part.unlink()
    assert (answer.status, answer.code) == (409, "settings-refused")
    assert site.acts()[0]["code"] == "settings-refused"
    assert site.call().status == 200


def test_the_log_with_acts_verifies_offline(site: Site, tmp_path: Path) -> None:
    trust = tmp_path / "trust.json"
    site.world.command("audit", "trust", "--home", site.home("H37"), "--out", str(trust))
    from evidence.__main__ import main

    assert main(["verify", str(site.world.member("H37").log_db), "--trust", str(trust)]) == 0


def test_keys_are_made_listed_and_removed_by_command(site: Site) -> None:
    world, home = site.world, site.home("G01")
    made = world.command("admin", "key", "add", "temp", "--role", "auditor", "--role", ROLES[0], "--home", home)
    assert {"name": "temp", "roles": ["auditor", ROLES[0]]} in world.command("admin", "key", "list", "--home", home)[
        "keys"
    ]
    world.reload_gateway("G01")
    assert site.ask("GET", "/api/v1/status", made["key"], code="G01").status == 200
    world.command("admin", "key", "remove", "temp", "--home", home)
    world.reload_gateway("G01")
    assert site.ask("GET", "/api/v1/status", made["key"], code="G01").code == "credentials-invalid"
    with pytest.raises(CommandFailed, match="the roles are"):
        world.command("admin", "key", "add", "bad", "--role", "root", "--home", home)


# --- client systems ---------------------------------------------------------------------------------------------------


def called_with(site: Site, key: str) -> Answer:
    client = ClientSystem("H37", site.app.subsystem, key)
    return site.world.call(client, "G01/desk/notes", "/notes/1")


def test_a_client_systems_key_is_replaced_without_a_gap(site: Site) -> None:
    world, home = site.world, site.home("H37")
    client = world.add_client("H37", "onedoor", "rolling", register=False)
    new = world.command("client", "key", "rolling", "--home", home)["key"]
    world.reload_gateway("H37")
    assert {called_with(site, key).status for key in (client.key, new)} == {200}
    world.command("client", "key", "rolling", "--home", home, "--remove", "1")
    world.reload_gateway("H37")
    assert called_with(site, client.key).code == "credentials-invalid"
    assert called_with(site, new).status == 200
    with pytest.raises(CommandFailed, match="only credential"):
        world.command("client", "key", "rolling", "--home", home, "--remove", "1")


def test_who_guesses_is_locked_out_and_nobody_else_is(site: Site) -> None:
    guesses = [called_with(site, f"app.guess-{at}") for at in range(8)]
    assert [one.code for one in guesses[:5]] == ["credentials-invalid"] * 5
    assert guesses[-1].code == "guessing-locked"
    assert int(guesses[-1].headers["retry-after"]) >= 1
    assert site.call().status == 200  # the genuine one of that very name, from that very address: its key is known
    world = site.world
    other = world.add_client("H37", "onedoor", "bystander", register=False)
    world.reload_gateway("H37")
    assert called_with(site, other.key).status == 200


def test_a_client_systems_own_limits_hold(site: Site) -> None:
    world, home = site.world, site.home("H37")
    limits = ("--per-second", "0.01", "--max-in-flight", "3")
    made = world.command("client", "add", "slow", "--home", home, "--subsystem", "onedoor", *limits)
    world.reload_gateway("H37")
    assert called_with(site, made["key"]).status == 200
    answer = called_with(site, made["key"])
    assert (answer.status, answer.code) == (429, "client-limit-reached")
    assert int(answer.headers["retry-after"]) > 30
    assert site.call().status == 200
    listed = world.command("client", "list", "--home", home)["clients"]
    slow = next(one for one in listed if one["client"] == "slow")
    assert (
        slow.items() >= {"subsystems": [site.app.subsystem], "keys": 1, "max_in_flight": 3, "per_second": 0.01}.items()
    )


async def test_calls_under_way_of_one_client_system_are_limited(site: Site) -> None:
    world, home = site.world, site.home("H37")
    made = world.command("client", "add", "single", "--home", home, "--subsystem", "onedoor", "--max-in-flight", "1")
    await asyncio.to_thread(world.reload_gateway, "H37")
    client = ClientSystem("H37", site.app.subsystem, made["key"])
    waiting = asyncio.ensure_future(world.call_async(client, "G01/desk/notes", "/slow"))
    while not world.backend.waiting:
        await asyncio.sleep(0.01)
    assert (await world.call_async(client, "G01/desk/notes", "/notes/1")).code == "client-limit-reached"
    world.backend.release.set()
    assert (await waiting).status == 200
    assert (await world.call_async(client, "G01/desk/notes", "/notes/1")).status == 200


def test_a_changed_authority_of_client_certificates_needs_a_restart(site: Site) -> None:
    settings = site.world.member("H37").home / "gateway.toml"
    text = settings.read_text()
    settings.write_text(text.replace("[front]\n", '[front]\nclient_ca = "tls/ca.crt"\n'))
    try:
        answer = site.api("POST", "/reload", "XROAD_SYSTEM_ADMINISTRATOR")
    finally:
        settings.write_text(text)
    assert (answer.code, "client_ca" in answer.json()["detail"]) == ("settings-refused", True)


def test_credentials_reach_no_agency_no_back_end_and_no_file(site: Site) -> None:
    answer = site.call(headers={"Authorization": "Bearer of-the-back-end"})
    assert answer.status == 200
    received = site.world.backend.received[-1]
    assert received.header("Authorization") == "Bearer of-the-back-end"
    secrets = {key.partition(".")[2] for key in (*site.keys.values(), site.app.key)}
    told = repr(received.headers) + received.target
    assert not [secret for secret in secrets if secret in told]
    written = [path for path in site.world.folder.rglob("*") if path.is_file()]
    assert len(written) > 50
    for path in written:
        data = path.read_bytes()
        assert not [secret for secret in secrets if secret.encode() in data], path
