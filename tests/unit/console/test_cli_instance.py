"""An instance from nothing to a granted right, by commands only; no broker, no gateway."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner
from console_world import CONTRACT, INSTANCE, Registry, fails, free_port, run, run_json

from bus.front.credentials import check_key
from bus.settings import load_settings
from console.cli import main
from console.homes import InstanceHome, MemberHome
from console.processes.broker import write_configuration
from evidence.issue import create_authority
from evidence.signer import FileSigner
from registry.own import OwnStore

PROVIDER, CONSUMER = f"{INSTANCE}/GOV/G01", f"{INSTANCE}/GOV/H37"
CLIENT, SERVICE = f"{CONSUMER}/onedoor", f"{PROVIDER}/population/citizens"


class World:
    """Homes of an instance and of two members."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "instance"
        listen = f"127.0.0.1:{free_port()}"
        made = run_json("init", "instance", INSTANCE, "--home", self.home, "--registry-listen", listen, "--host", "::1")
        self.genesis, self.url = made["genesis"], made["registry"]
        self.registry = Registry(self.home)

    def member(self, identifier: str) -> Path:
        code = identifier.rpartition("/")[2]
        home = self.folder / code
        where = ("--registry", self.url, "--genesis", self.genesis)
        named = ("--name", f"vi=Sở {code}", "--alias", f"000.{code}")
        asked = run_json("join", "--member", identifier, "--home", home, *where, *named)
        assert (asked["member"], asked["state"]) == (identifier, "pending")
        assert run_json("join", "--status", "--home", home)["state"] == "pending"
        assert run_json("member", "approve", "--home", self.home, asked["request"][:16])["state"] == "approved"
        assert run_json("join", "--status", "--home", home)["state"] == "approved"
        run("node", "add", "n1", "--home", home, "--front", "127.0.0.1:0", "--admin", "127.0.0.1:0")
        return home


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Made once: every test reads, or adds something of its own."""
    made = World(tmp_path_factory.mktemp("world"))
    with made.registry:
        made.provider, made.consumer = made.member(PROVIDER), made.member(CONSUMER)
        run("subsystem", "add", "population", "--home", made.provider, "--name", "vi=Dân cư")
        run("subsystem", "add", "onedoor", "--home", made.consumer)
        (made.folder / "contract.json").write_text(CONTRACT)
        (made.folder / "source.toml").write_text('base_url = "http://127.0.0.1:1"\n')
        made.published = run_json(
            "service",
            "publish",
            "population/citizens",
            *("--home", made.provider, "--contract", made.folder / "contract.json"),
            *("--kind", "http", "--settings", made.folder / "source.toml", "--deadline", "5"),
        )
        run("access", "grant", CLIENT, "population/citizens", "--home", made.provider, "--purpose", "residence")
        made.registry.follow(made.provider)
        made.registry.follow(made.consumer)
        yield made


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_private_keys_are_their_owners(world):
    for home in (world.home, world.provider):
        for path in home.rglob("*.pem"):
            if path.name != "ca.pem" or home is world.home:
                assert mode(path) == 0o600, path
    for path in (world.provider / "keys/sealing").iterdir():
        assert mode(path) == 0o600
    assert mode(world.provider / "keys/broker.jwt") == 0o600


def test_an_instance_is_made_once(world):
    before = (world.home / "registry/anchor.json").read_bytes()
    assert fails("init", "instance", INSTANCE, "--home", world.home).startswith("key")
    assert (world.home / "registry/anchor.json").read_bytes() == before
    assert f"sha256:{InstanceHome(world.home).facts.genesis}" == world.genesis


def test_a_member_joins_only_the_instance_that_it_was_told_of(world, tmp_path):
    where = ("--registry", world.url, "--name", "en=M")
    args = ("join", "--member", PROVIDER, "--home", tmp_path / "m", *where)
    assert fails(*args, "--genesis", f"sha256:{'0f' * 32}") == "wrong-genesis"
    assert not (tmp_path / "m" / "member.json").exists()
    args = ("join", "--member", "OTHER/GOV/G01", "--home", tmp_path / "m", *where)
    assert fails(*args, "--genesis", world.genesis) == "home-invalid"
    args = ("join", "--member", PROVIDER, "--home", world.provider, *where)
    assert fails(*args, "--genesis", world.genesis) == "home-invalid"


def test_a_node_is_made_once_and_its_settings_are_good(world):
    settings = load_settings(MemberHome(world.provider).settings)
    assert settings.node == f"{PROVIDER}/@n1"
    assert settings.genesis == MemberHome(world.provider).facts.genesis
    assert [service.id for service in settings.service] == [SERVICE]
    checked = run_json("config", "check", "--home", world.provider)
    assert checked == {"ok": True, "node": f"{PROVIDER}/@n1", "services": [SERVICE]}
    assert fails("node", "add", "n1", "--home", world.provider) == "home-invalid"


def test_the_registry_mints_credentials_for_the_node(world):
    from bus.transport.nkeys import decode_claims, public_text

    claims = decode_claims((world.provider / "keys/broker.jwt").read_text())
    broker_key = FileSigner.load(world.provider / "keys/broker.pem")
    assert claims["sub"] == public_text("user", broker_key.public_bytes)
    assert claims["name"] == f"{PROVIDER}/@n1"


def test_requests_are_listed_with_their_decision(world):
    rows = run_json("member", "list", "--home", world.home)["requests"]
    assert {(row["member"], row["state"]) for row in rows} >= {(PROVIDER, "approved"), (CONSUMER, "approved")}
    assert "approved" in run("member", "list", "--home", world.home).output
    assert fails("member", "approve", "--home", world.home, "") == "home-invalid"
    assert fails("member", "approve", "--home", world.home, "no such") == "home-invalid"


def test_a_request_is_refused_with_a_reason(world, tmp_path):
    home = tmp_path / "x"
    identifier = f"{INSTANCE}/COM/X1"
    where = ("--registry", world.url, "--genesis", world.genesis)
    join = ("join", "--member", identifier, "--home", home, *where, "--name", "en=X")
    made = run_json(*join)["request"]
    assert fails(*join) == "request-conflict"
    refused = run_json("member", "refuse", "--home", world.home, made, "--reason", "not an agency")
    assert (refused["state"], refused["reason"]) == ("refused", "not an agency")
    told = run_json("join", "--status", "--home", home)
    assert (told["state"], told["reason"]) == ("refused", "not an agency")
    assert fails("subsystem", "add", "x", "--home", home) == "home-invalid"
    assert run_json(*join)["state"] == "pending"
    assert run_json("member", "refuse", identifier, "--home", world.home, "--reason", "again")["state"] == "refused"
    assert "no requests" not in run("member", "list", "--home", world.home).output


def test_a_published_service_says_what_it_is(world):
    made = world.published
    assert made["service"] == SERVICE
    assert made["contract"] == hashlib.sha256(CONTRACT.encode()).hexdigest()
    assert (made["operations"], made["fields"]) == (["getCitizen"], ["religion"])
    part = Path(made["backend"])
    assert part.parent == world.provider / "gateway.d"
    assert mode(part) == 0o644


def test_a_service_is_switched_off_and_on_again(world):
    args = ("population/citizens", "--home", world.provider)
    assert run_json("service", "disable", *args, "--notice", "moving")["enabled"] is False
    store = OwnStore(world.provider / "data/own.db", genesis=world.genesis[7:], member=PROVIDER)
    entry = store.state.service(SERVICE)
    store.close()
    assert (entry.enabled, entry.notice, entry.limits.deadline_s) == (False, "moving", 5.0)
    why = ("access", "why", CLIENT, SERVICE, "getCitizen", "--home", world.provider, "--purpose", "residence")
    assert run_json(*why, code=1)["code"] == "service-disabled"
    assert "enabled" in run("service", "enable", *args).output
    assert run_json(*why)["allowed"] is True
    assert fails("service", "enable", "population/none", "--home", world.provider) == "home-invalid"


def test_why_a_client_can_or_cannot_call(world):
    why = ("access", "why", CLIENT, SERVICE, "getCitizen", "--home", world.provider)
    text = run(*why, "--purpose", "residence").output
    assert "allowed   granted" in text
    assert "(no marked field)" in text
    refused = run_json(*why, "--purpose", "tax", code=1)
    assert (refused["allowed"], refused["code"], refused["author"]) == (False, "purpose-not-granted", PROVIDER)
    stranger = run("access", "why", f"{CONSUMER}/x", SERVICE, "getCitizen", "--home", world.consumer, code=1)
    assert "client-unknown" in stranger.output


def test_a_right_is_granted_again_and_revoked(world):
    other = f"{CONSUMER}/tax"
    run("subsystem", "add", "tax", "--home", world.consumer)
    args = (other, "population/citizens", "--home", world.provider)
    first = run_json("access", "grant", *args, "--field", "religion", "--per-second", "5", "--until", "2099-01-01")
    again = run_json("access", "grant", *args, "--operation", "getCitizen", "--official-required", "--per-day", "9")
    assert first["right"] == again["right"]
    world.registry.follow(world.provider)
    why = ("access", "why", other, SERVICE, "getCitizen", "--home", world.provider)
    assert run_json(*why, code=1)["code"] == "official-required"
    assert run_json(*why, "--official", "an")["fields"] == []
    assert run_json("access", "revoke", *args)["granted"] is False
    assert run_json(*why, "--official", "an", code=1)["code"] == "right-expired"


def test_a_change_from_a_home_that_is_behind_is_refused_before_it_is_published(world, tmp_path):
    behind = tmp_path / "behind"
    args = (f"{CONSUMER}/two", "population/citizens")
    run("subsystem", "add", "two", "--home", world.consumer)
    run("access", "grant", *args, "--home", world.provider)
    shutil.copytree(world.provider, behind)
    run("access", "revoke", *args, "--home", world.provider)
    assert fails("access", "grant", *args, "--home", behind) == "predecessor-unproven"
    assert run_json("access", "grant", *args, "--home", world.provider)["granted"] is True


def test_the_catalogue_is_the_verified_directory(world):
    found = run_json("catalogue", "--home", world.consumer)
    assert found["instance"] == INSTANCE
    provider = next(one for one in found["members"] if one["id"] == PROVIDER)
    assert provider["names"] == {"vi": "Sở G01"}
    assert provider["services"][0]["operations"] == [
        {"id": "getCitizen", "method": "GET", "path": "/citizens/{number}"}
    ]
    text = run("catalogue", "--home", world.consumer).output
    assert f"service   {SERVICE}  Citizens 1.0" in text
    assert f"subsystem {CLIENT}" in text


def test_the_trust_file_names_every_log(world, tmp_path):
    out = tmp_path / "trust.json"
    made = run_json("audit", "trust", "--home", world.consumer, "--out", out)
    assert made["origins"] == sorted(f"{world.genesis[7:]}/{one}/@n1/1" for one in (CONSUMER, PROVIDER))
    found = json.loads(out.read_text())
    assert (found["genesis"], found["instance"]) == (world.genesis[7:], INSTANCE)
    assert mode(out) == 0o644


def test_a_client_gets_its_key_once(world):
    made = run_json("client", "add", "app", "--home", world.consumer, "--subsystem", "onedoor")
    kept = world.consumer / "keys/clients/app.hash"
    assert mode(kept) == 0o600
    assert made["key"] not in kept.read_text()
    assert check_key(made["key"], kept.read_text())
    assert load_settings(world.consumer / "gateway.toml").client[0].subsystems == (CLIENT,)
    assert fails("client", "add", "app", "--home", world.consumer, "--subsystem", "onedoor") == "home-invalid"


def test_a_client_may_have_a_certificate_instead(world, tmp_path):
    from datetime import UTC, datetime, timedelta

    now = datetime.now(UTC)
    made = create_authority("x", FileSigner.generate("p256"), not_before_at=now, not_after_at=now + timedelta(1))
    (tmp_path / "x.crt").write_bytes(made.pem)
    args = ("client", "add", "tls", "--home", world.consumer, "--subsystem", "onedoor", "--subsystem", "tax")
    told = run_json(*args, "--certificate", tmp_path / "x.crt")
    assert told["certificate_sha256"] == hashlib.sha256(made.certificate).hexdigest()
    assert "key" not in told
    (client,) = [one for one in load_settings(world.consumer / "gateway.toml").client if one.name == "tls"]
    assert client.certificate_sha256 == told["certificate_sha256"]


def test_the_brokers_configuration_is_written_for_a_server_of_ones_own(world):
    printed = run("broker", "--home", world.home, "--write-config").output.strip()
    assert printed == str(write_configuration(world.home))
    text = Path(printed).read_text()
    assert "resolver_preload" in text
    assert InstanceHome(world.home).facts.broker_listen in text
    (world.home / "broker/identity.json").rename(world.home / "broker/kept")
    (world.home / "broker/identity.json").write_bytes(b'{"\xff')
    assert fails("broker", "--home", world.home, "--write-config") == "home-invalid"
    (world.home / "broker/kept").rename(world.home / "broker/identity.json")


def test_a_leaf_brokers_files_are_made_and_withdrawn(world, tmp_path):
    leaf = ("broker", "leaf", PROVIDER, "--home", world.home)
    made = run_json(*leaf, "--out", tmp_path / "leaf")
    assert mode(tmp_path / "leaf/leaf.creds") == mode(tmp_path / "leaf/tls.pem") == 0o600
    assert made["key"].startswith("U")
    assert "broker config" in run(*leaf, "--out", tmp_path / "second").output
    assert fails(*leaf, "--out", tmp_path / "leaf") in {"key-unusable", "home-invalid"}
    assert (
        fails("broker", "leaf", "VN-TEST/GOV/NOBODY", "--home", world.home, "--out", tmp_path / "x") == "home-invalid"
    )
    assert not (tmp_path / "x").exists()
    config = ("broker", "config", "--home", world.home, "--leaf", tmp_path / "leaf")
    assert fails(*config) == "home-invalid"  # the instance takes no leafs
    written = run_json(*config, "--hub", "tls://hub.example:7422", "--listen", "127.0.0.1:4333")["configuration"]
    text = Path(written).read_text()
    assert '"tls://hub.example:7422"' in text
    assert 'listen: "127.0.0.1:4333"' in text
    assert fails("broker", "config", "--home", world.home, "--leaf", world.home, "--hub", "tls://x:1") == "home-invalid"
    assert fails(*config, "--hub", "tls://x:1", "--listen", "nonsense") == "home-invalid"
    assert len(run_json(*leaf, "--withdraw")["withdrawn"]) == 2
    assert run(*leaf, "--withdraw").output.startswith("0 leaf brokers")


def test_the_brokers_commands_say_what_they_need(world):
    assert "Missing option '--home'" in run("broker", code=2).output
    assert "Missing option '--out'" in run("broker", "leaf", PROVIDER, "--home", world.home, code=2).output
    assert "belongs behind" in run("broker", "--home", world.home, "upgrade", "--home", world.home, code=2).output
    assert run("broker", "upgrade", "--home", world.home).output.startswith("nothing to do")
    assert "nats-server -c" in run("broker", "config", "--home", world.home).output


def test_an_instance_without_an_account_for_streams_says_what_to_do(world):
    path = world.home / "broker/identity.json"
    kept = path.read_bytes()
    path.write_bytes(json.dumps({**json.loads(kept), "streams_account": ""}).encode())
    try:
        result = run("broker", "--home", world.home, "--write-config", code=1)
        assert "lienthong broker upgrade" in result.output
    finally:
        path.write_bytes(kept)


def test_changes_between_contracts_are_told(world, tmp_path):
    old, new = world.folder / "contract.json", tmp_path / "new.json"
    new.write_text(CONTRACT.replace('"required": true', '"required": true, "description": "x"'))
    assert run("service", "diff", old, old).output == "no changes\n"
    assert run_json("service", "diff", old, new)["changes"] is not None
    new.write_text(CONTRACT.replace("getCitizen", "readCitizen").replace("/citizens/", "/people/"))
    changed = run_json("service", "diff", old, new, code=1)["changes"]
    assert any(one["breaking"] for one in changed)
    assert "BREAKING" in run("service", "diff", old, new, code=1).output


def test_certificates_are_issued_once(world, tmp_path):
    public = world.provider / "keys/member.pub"
    args = ("certificate", "issue", PROVIDER, "--home", world.home, "--public-key", public)
    assert fails(*args, "--out", world.provider / "keys/member.crt") == "home-invalid"
    assert run_json(*args, "--out", tmp_path / "new.crt", "--days", "5")["days"] == 5
    assert CliRunner().invoke(main, [*map(str, args), "--out", "x", "--days", "0"]).exit_code == 2


def test_a_registry_that_is_away_is_told(world, tmp_path):
    home = tmp_path / "copy"
    home.mkdir()
    facts = json.loads((world.consumer / "member.json").read_text())
    (home / "member.json").write_text(json.dumps({**facts, "registry": "http://127.0.0.1:1"}))
    (home / "keys").mkdir()
    for name in ("member.pem", "member.crt"):
        (home / "keys" / name).write_bytes((world.consumer / "keys" / name).read_bytes())
        (home / "keys" / name).chmod(0o600)
    assert fails("subsystem", "add", "x", "--home", home) == "registry-unavailable"
