"""Parts of a gateway process by themselves: sealing key files, own rights, back ends, health."""

from __future__ import annotations

import asyncio
import stat
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from bus_world import Clock, FakeSource
from prometheus_client.exposition import generate_latest
from registry_world import CLIENT, CONSUMER, PROVIDER, SERVICE, START, World

from adapters.errors import BackendRefused
from bus.errors import SettingsInvalid
from bus.exchange.verification import CheckpointMemory
from bus.gateway.backends import Backends, build_sources
from bus.gateway.health import Health
from bus.gateway.ownrights import OwnRights
from bus.gateway.sealingkeys import load_keys, write_key
from bus.gateway.warming import keep_warm, relevant_services
from bus.metrics import GatewayMetrics
from bus.sealing.keys import X25519, SealingKeyPair
from bus.settings import Service
from evidence.issue import create_authority
from evidence.leaf import DIRECTORY
from evidence.signer import FileSigner
from registry.decision import authorise_coarse
from registry.own import OwnStore

AT = START + timedelta(hours=1)


# --- sealing key files ----------------------------------------------------------------------------------------------


def test_sealing_keys_survive_their_files(tmp_path):
    pairs = {use: SealingKeyPair.generate(X25519) for use in ("query", "answer")}
    for use, pair in pairs.items():
        path = write_key(tmp_path / "sealing", "VN/GOV/H37", use, pair)
        assert path.name == f"{use}-{pair.keyid[:16]}.json"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "sealing").stat().st_mode) == 0o700
    found = load_keys(tmp_path / "sealing")
    assert {use: list(kept) for use, kept in found.items()} == {use: [pair.keyid] for use, pair in pairs.items()}
    assert found["query"][pairs["query"].keyid].private == pairs["query"].private


def test_a_sealing_key_is_never_written_over(tmp_path):
    pair = SealingKeyPair.generate(X25519)
    write_key(tmp_path, "VN/GOV/H37", "query", pair)
    with pytest.raises(FileExistsError):
        write_key(tmp_path, "VN/GOV/H37", "query", pair)


def test_an_empty_or_missing_folder_has_no_keys(tmp_path):
    assert load_keys(tmp_path) == load_keys(tmp_path / "none") == {"query": {}, "answer": {}}


def test_a_sealing_key_that_others_may_read_is_refused(tmp_path):
    write_key(tmp_path, "VN/GOV/H37", "query", SealingKeyPair.generate(X25519)).chmod(0o640)
    with pytest.raises(SettingsInvalid, match="chmod 600"):
        load_keys(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'{"owner":"x","use":"query","kem":"X25519"}',
        b'{"owner":"x","use":"query","kem":"X25519","private":"AAAA"}',
        b'{"owner":"x","use":"query","kem":"X448","private":""}',
        b'{"owner":"x","use":"query","kem":"X25519","private":"A"}',
    ],
)
def test_what_is_no_sealing_key_is_refused(tmp_path, content):
    path = tmp_path / "query-x.json"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(SettingsInvalid, match="not a sealing key"):
        load_keys(tmp_path)


# --- own rights -----------------------------------------------------------------------------------------------------


@pytest.fixture
def world():
    return World().populate()


def put(world: World, path, *leaves: bytes) -> None:
    store = OwnStore(path, genesis=world.genesis, member=PROVIDER)
    for leaf in leaves:
        store.put(leaf[len(DIRECTORY) :])
    store.close()


def test_rights_are_taken_over_when_the_store_changed(world, tmp_path):
    path = tmp_path / "own.db"
    rights = OwnRights(path, world.genesis, PROVIDER, world.directory)
    assert authorise_coarse(rights.view, client=CLIENT, service=SERVICE, at=AT).code == "service-unknown"
    before = rights.view
    rights.take_over()
    rights.take_over()
    put(world, path, *world.leaves[-2:])
    rights.take_over()
    assert rights.view is not before
    assert authorise_coarse(rights.view, client=CLIENT, service=SERVICE, at=AT).allowed
    rights.close()
    again = OwnRights(path, world.genesis, PROVIDER, world.directory)
    again.take_over()  # opening the file may itself have touched it
    before = again.view
    again.take_over()
    assert again.view is before
    again.close()


def test_a_store_that_cannot_be_read_changes_nothing(world, tmp_path):
    path = tmp_path / "own.db"
    put(world, path, *world.leaves[-2:])
    rights = OwnRights(path, world.genesis, PROVIDER, world.directory)
    for extra in ("-wal", "-shm"):
        path.with_name(path.name + extra).unlink(missing_ok=True)
    path.unlink()
    path.write_bytes(b"damaged, and long enough to be looked at" * 100)
    rights.take_over()
    assert authorise_coarse(rights.view, client=CLIENT, service=SERVICE, at=AT).allowed
    rights.close()


def test_differences_are_alarmed_once(world, tmp_path):
    path = tmp_path / "own.db"
    put(world, path, *world.leaves[-2:])
    world.put(world.access(f"{SERVICE}#thief", client=f"{CONSUMER}/thief"), world.provider)
    rights, metrics = OwnRights(path, world.genesis, PROVIDER, world.directory), GatewayMetrics()
    for _ in range(3):
        rights.report_differences(metrics)
    told = generate_latest(metrics.registry).decode()
    assert f'lienthong_alarms_total{{code="stranger-in-own-name",member="{PROVIDER}"}} 1.0' in told
    rights.close()


# --- back ends ------------------------------------------------------------------------------------------------------


class Source(FakeSource):
    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.open_error = error
        self.state: list[str] = []

    async def open(self):
        if self.open_error is not None:
            raise self.open_error
        self.state.append("open")

    async def close(self):
        self.state.append("closed")


def test_sources_are_built_by_their_kind():
    good = Service(id=SERVICE, kind="http", settings={"base_url": "http://127.0.0.1:1"})
    assert list(build_sources((good,), GatewayMetrics())) == [SERVICE]


def test_every_problem_of_the_back_ends_is_told():
    services = (
        Service(id="a", kind="telepathy"),
        Service(id="b", kind="http", settings={"nonsense": 1}),
    )
    with pytest.raises(SettingsInvalid) as caught:
        build_sources(services, GatewayMetrics())
    assert [key for _, key, _ in caught.value.problems] == ["service[0].settings", "service[1].settings"]


async def test_back_ends_are_exchanged_as_a_whole():
    backends, old, new = Backends(), Source(), Source()
    await backends.replace({SERVICE: old})
    await backends.replace({SERVICE: new})
    assert backends.current() == {SERVICE: new}
    assert old.state == ["open"]
    await asyncio.sleep(0)
    await backends.close()
    await asyncio.gather(*backends._retired, return_exceptions=True)
    assert old.state == new.state == ["open", "closed"]
    assert backends.current() == {}


async def test_back_ends_stay_in_use_when_a_new_one_cannot_be_opened():
    backends, old, first = Backends(), Source(), Source()
    await backends.replace({SERVICE: old})
    with pytest.raises(SettingsInvalid, match="no rights"):
        await backends.replace({"a": first, "b": Source(BackendRefused("no rights"))})
    assert backends.current() == {SERVICE: old}
    assert first.state == ["open", "closed"]
    await backends.close()


# --- warming --------------------------------------------------------------------------------------------------------


def test_own_services_and_those_with_a_right_are_relevant(world):
    other = f"{PROVIDER}/population/births"
    world.put(world.service(other), world.provider)
    assert {one.id for one in relevant_services(world.directory, PROVIDER)} == {SERVICE, other}
    assert {one.id for one in relevant_services(world.directory, CONSUMER)} == {SERVICE}
    assert relevant_services(world.directory, "VN-TEST/GOV/X") == []


async def test_contracts_are_loaded_before_they_are_called(world, monkeypatch):
    from bus.errors import ContractUnavailable

    monkeypatch.setattr("bus.gateway.warming._SETTLE_S", 0)
    loaded, ended, warmed, done = [], [], [], asyncio.Event()

    class Contracts:
        async def load(self, service, granted, deadline_s):
            loaded.append(service.id)
            done.set()
            raise ContractUnavailable

    for as_of, times in ((None, 0), (Clock().now(), 1)):
        follower = SimpleNamespace(
            directory=world.directory, as_of=as_of, subscribe=lambda changed: lambda: ended.append(changed)
        )
        warming = asyncio.ensure_future(keep_warm(follower, Contracts(), CONSUMER, lambda: warmed.append(1)))
        await asyncio.wait_for(done.wait(), 10)
        done.clear()
        await asyncio.sleep(0)
        warming.cancel()
        await asyncio.gather(warming, return_exceptions=True)
        assert len(warmed) == times, "what was tried before the directory is confirmed is not all"
    assert loaded == [SERVICE, SERVICE]
    assert len(ended) == 2


# --- health ---------------------------------------------------------------------------------------------------------


class Parts:
    """What health looks at."""

    def __init__(self) -> None:
        self.node, self.origin = "VN/GOV/H37/@n1", "origin"
        self.clock = Clock()
        self.metrics = GatewayMetrics()
        self.memory = CheckpointMemory()
        self.connection = SimpleNamespace(connected=False)
        self.broker_user = SimpleNamespace(seconds_left=lambda: 3_600.0)
        self.query_keys, self.answer_keys = {}, {}
        self.standing = SimpleNamespace(unknown=False)
        self.follower = SimpleNamespace(
            fresh=lambda now: self.is_fresh,
            as_of=None,
            directory=SimpleNamespace(view="", size=0, node_by_origin=lambda _origin: None),
        )
        self.is_fresh = False
        self.maintenance = SimpleNamespace(notice=None)
        self.versions = SimpleNamespace(own=lambda: 1, peers=lambda: {"VN/GOV/G01": 1, "VN/GOV/H01/@n1": None})


def settings(**files):
    return SimpleNamespace(
        service=(SimpleNamespace(id=SERVICE),),
        keys=SimpleNamespace(member_certificate=files.get("member")),
        front=SimpleNamespace(certificate=None),
        broker=SimpleNamespace(ca=files.get("ca")),
    )


def test_readiness_names_everything_that_is_missing():
    parts = Parts()
    health = Health(parts)
    assert [(check.name, check.ok, check.code) for check in health.checks()] == [
        ("log", False, "log-unwritable"),
        ("directory", False, "directory-stale"),
        ("broker", False, "broker-unavailable"),
        ("serving", False, "starting"),
    ]
    health.log = SimpleNamespace(writable=True)
    parts.is_fresh, parts.connection.connected, health.serving_code = True, True, ""
    assert [check.code for check in health.checks() if not check.ok] == ["contracts-loading"]
    health.warmed()
    assert all(check.ok for check in health.checks())
    assert len(health.checks()) == 3
    health.log.writable = False
    assert [check.name for check in health.checks() if not check.ok] == ["log"]


def test_status_has_facts_and_no_secrets():
    parts = Parts()
    health = Health(parts)
    assert health.status(settings(), "https://x")["log"] is None
    health.log = SimpleNamespace(size=3, root=b"\xab" * 32)
    parts.memory.forked["bad/VN"] = (b"", b"")
    status = health.status(settings(), "https://x")
    assert status["log"] == {"size": 3, "root": "ab" * 32}
    assert (status["services"], status["peers_forked"]) == ([SERVICE], ["bad/VN"])


def test_gauges_are_brought_up_to_date(tmp_path):
    parts = Parts()
    health = Health(parts)
    health.refresh(settings())
    told = generate_latest(parts.metrics.registry).decode()
    assert "lienthong_directory_age_seconds +Inf" in told
    assert "lienthong_log_writable 0.0" in told
    health.log = SimpleNamespace(size=7, writable=True)
    parts.follower.as_of = parts.clock.now() - timedelta(seconds=30)
    end = parts.clock.now() + timedelta(days=10)
    authority = create_authority(
        "test", FileSigner.generate("p256"), not_before_at=datetime(2026, 1, 1, tzinfo=UTC), not_after_at=end
    )
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    health.refresh(settings(ca=tmp_path / "ca.pem"))
    told = generate_latest(parts.metrics.registry).decode()
    assert "lienthong_directory_age_seconds 30.0" in told
    assert "lienthong_broker_credential_seconds_left 3600.0" in told
    assert "lienthong_log_size 7.0" in told
    assert 'lienthong_certificate_days_left{name="broker-authority"} 10.0' in told
