"""A broker of three servers: what is planned, made, carried and refused."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID

from bus.transport import leaf, nkeys
from bus.transport.broker import find_binary, render_config
from console import brokercluster
from console.brokercluster import folder_of, make_cluster, plan_servers, refresh, renew_certificates, server_files
from console.homes import HomeInvalid, InstanceHome
from console.instance import InstancePlan, create_instance
from console.leaves import LeafFact, write_leaf_configuration
from console.processes.broker import files_of, write_configuration

ADDRESSES = ("10.0.0.1:4222", "10.0.0.2:4222", "broker3.example.vn:4222")


@pytest.fixture
def home(tmp_path):
    made = InstanceHome(tmp_path / "instance")
    create_instance(made, InstancePlan("VN-TEST", "127.0.0.1:1", ADDRESSES[0], ("127.0.0.1",)))
    return made


@pytest.fixture
def cluster(home):
    make_cluster(home, plan_servers(ADDRESSES), ("127.0.0.1",))
    return home


def test_the_servers_meet_two_thousand_ports_above_where_gateways_come(home):
    servers = plan_servers(ADDRESSES)
    assert [one.number for one in servers] == [1, 2, 3]
    assert [one.routes for one in servers] == ["10.0.0.1:6222", "10.0.0.2:6222", "broker3.example.vn:6222"]
    named = plan_servers(ADDRESSES, ("10.1.0.1:1", "10.1.0.2:1", "10.1.0.3:1"))
    assert named[2].routes == "10.1.0.3:1"


@pytest.mark.parametrize(
    ("addresses", "routes", "said"),
    [
        (ADDRESSES[:2], (), "name three servers"),
        ((*ADDRESSES, "10.0.0.4:1"), (), "name three servers"),
        (ADDRESSES, ("10.0.0.1:1",), "as many as"),
        (("10.0.0.1:1", "10.0.0.1:1", "10.0.0.1:2"), (), "addresses of its own"),
        (("10.0.0.1:2001", "10.0.0.1:1", "10.0.0.1:2"), (), "addresses of its own"),
        (("0.0.0.0:4222", *ADDRESSES[1:]), (), "cannot be reached"),
        (("10.0.0.1:0", *ADDRESSES[1:]), (), "cannot be reached"),
        (("10.0.0.1", *ADDRESSES[1:]), (), "write host:port"),
        (("10.0.0.1:65000", *ADDRESSES[1:]), (), "no port 2000 above"),
    ],
)
def test_what_is_no_cluster_is_refused(addresses, routes, said):
    with pytest.raises(HomeInvalid, match=said):
        plan_servers(addresses, routes)


def test_each_server_has_a_name_of_its_own_routes_to_all_and_mutual_tls(cluster):
    texts = [render_config(files_of(cluster.path, number)) for number in (1, 2, 3)]
    for number, text in enumerate(texts, 1):
        assert f'server_name: "lienthong-VN-TEST-{number}"' in text
        assert f'listen: "{ADDRESSES[number - 1]}"' in text
        assert 'routes: ["tls://10.0.0.1:6222", "tls://10.0.0.2:6222", "tls://broker3.example.vn:6222"]' in text
        assert 'name: "lienthong-VN-TEST"' in text
        assert "verify: true" in text
        assert "no_advertise: true" in text
        assert "sync_interval: always" in text
        assert "type: full" in text
        assert str(folder_of(cluster, number).resolve() / "route.pem") in text


def test_the_servers_program_takes_the_configuration(cluster):
    for number in (1, 2):
        path = write_configuration(cluster.path, number)
        done = subprocess.run([find_binary(), "-t", "-c", str(path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_three_copies_and_all_addresses_follow_from_the_cluster(cluster):
    facts = cluster.facts
    assert facts.stream_replicas == 3
    assert facts.broker_urls == tuple(f"tls://{address}" for address in ADDRESSES)
    assert facts.broker_listen == ADDRESSES[0]


def test_the_folder_of_a_server_can_be_carried_and_has_no_key_that_signs_for_others(cluster, tmp_path):
    carried = folder_of(cluster, 2).rename(tmp_path / "carried")
    files = files_of(carried)
    assert (files.home, files.name) == (carried.resolve(), "VN-TEST-2")
    assert files_of(carried, 2) == files
    with pytest.raises(HomeInvalid, match="another server"):
        files_of(carried, 1)
    keys = sorted(carried.glob("*.pem"))
    assert [key.name for key in keys] == ["route.pem", "tls.pem"]
    assert all(stat.S_IMODE(key.stat().st_mode) == 0o600 for key in keys)
    assert "PRIVATE" not in (carried / "server.json").read_text()


def test_routes_have_an_authority_of_their_own_that_certifies_nothing_else(cluster):
    instance = x509.load_pem_x509_certificate((cluster.ca / "ca.crt").read_bytes())
    routes = x509.load_pem_x509_certificate((cluster.broker / "routes" / "ca.crt").read_bytes())
    for number in (1, 2, 3):
        folder = folder_of(cluster, number)
        assert (folder / "routes-ca.crt").read_bytes() == (cluster.broker / "routes" / "ca.crt").read_bytes()
        route = x509.load_pem_x509_certificate((folder / "route.crt").read_bytes())
        tls = x509.load_pem_x509_certificate((folder / "tls.crt").read_bytes())
        route.verify_directly_issued_by(routes)
        tls.verify_directly_issued_by(instance)
        with pytest.raises(ValueError, match="Issuer"):
            route.verify_directly_issued_by(instance)
        usages = tls.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(usages) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_it_must_be_said_which_server_and_only_of_a_cluster(cluster, tmp_path):
    for server in (None, 0, 4):
        with pytest.raises(HomeInvalid, match="say which server"):
            files_of(cluster.path, server)
    single = InstanceHome(tmp_path / "single")
    create_instance(single, InstancePlan("VN-ONE", "127.0.0.1:1", "127.0.0.1:2", ("127.0.0.1",)))
    assert files_of(single.path).routes is None
    with pytest.raises(HomeInvalid, match="single server"):
        files_of(single.path, 1)
    with pytest.raises(HomeInvalid, match="is one server"):
        refresh(single)
    assert renew_certificates(single, ()) == []


def test_a_cluster_is_made_once(cluster):
    before = (cluster.path / "instance.json").read_bytes()
    with pytest.raises(HomeInvalid, match="already"):
        make_cluster(cluster, plan_servers(ADDRESSES), ())
    assert (cluster.path / "instance.json").read_bytes() == before


def test_a_cluster_whose_route_keys_are_in_other_hands_is_made_anew(cluster):
    before = (cluster.broker / "routes" / "ca.crt").read_bytes()
    for folder in ("routes", "servers"):
        shutil.rmtree(cluster.broker / folder)
    facts = msgspec.structs.replace(cluster.facts, broker_servers=())
    (cluster.path / "instance.json").write_bytes(msgspec.json.encode(facts))
    make_cluster(cluster, plan_servers(ADDRESSES), ("127.0.0.1",))
    assert (folder_of(cluster, 1) / "routes-ca.crt").read_bytes() != before


def test_the_newest_account_goes_into_the_folders_and_to_servers_beside_the_registry(cluster):
    account = next(iter(server_files(folder_of(cluster, 1)).accounts))
    (cluster.broker / "members.jwt").write_text("newer.jwt.x")
    assert files_of(cluster.path, 1).accounts[account] == "newer.jwt.x"
    assert server_files(folder_of(cluster, 1)).accounts[account] != "newer.jwt.x"
    assert refresh(cluster) == [folder_of(cluster, number) for number in (1, 2, 3)]
    assert server_files(folder_of(cluster, 1)).accounts[account] == "newer.jwt.x"


def test_certificates_are_renewed_by_the_same_authorities(cluster):
    before = [(folder_of(cluster, number) / "route.crt").read_bytes() for number in (1, 2, 3)]
    made = renew_certificates(cluster, ("127.0.0.1",))
    assert len(made) == 6
    after = [(folder_of(cluster, number) / "route.crt").read_bytes() for number in (1, 2, 3)]
    assert not set(before) & set(after)
    routes = x509.load_pem_x509_certificate((cluster.broker / "routes" / "ca.crt").read_bytes())
    x509.load_pem_x509_certificate(after[0]).verify_directly_issued_by(routes)


def test_what_is_in_a_damaged_folder_is_told(cluster):
    (folder_of(cluster, 1) / brokercluster.SERVER).write_text("{}")
    with pytest.raises(HomeInvalid, match="lienthong broker cluster"):
        files_of(folder_of(cluster, 1))


def test_a_leaf_broker_is_told_every_server_that_takes_leafs(cluster, tmp_path):
    servers = tuple(
        msgspec.structs.replace(one, leaf_listen=f"10.0.0.{one.number}:7422") for one in cluster.facts.broker_servers
    )
    facts = msgspec.structs.replace(cluster.facts, broker_servers=servers)
    (cluster.path / "instance.json").write_bytes(msgspec.json.encode(facts))
    refresh(cluster)
    assert 'listen: "10.0.0.2:7422"' in render_config(files_of(cluster.path, 2))
    folder = tmp_path / "leaf"
    folder.mkdir()
    keys = {
        name: _credentials(folder / name, byte) for name, byte in (("leaf.creds", b"1"), ("leaf-system.creds", b"2"))
    }
    noted = cluster.broker / "leaves" / f"{keys['leaf.creds']}.json"
    noted.parent.mkdir(exist_ok=True)
    noted.write_bytes(msgspec.json.encode(LeafFact("VN-X/GOV/H37")))
    text = write_leaf_configuration(cluster, folder, "", "127.0.0.1:4222").read_text()
    urls = ", ".join(f'"tls://10.0.0.{number}:7422"' for number in (1, 2, 3))
    assert text.count(f"urls: [{urls}]") == 2
    named = write_leaf_configuration(cluster, folder, "tls://hub:1", "127.0.0.1:4222").read_text()
    assert named.count('urls: ["tls://hub:1"]') == 2
    fact = msgspec.json.decode(noted.read_bytes(), type=LeafFact)
    assert fact.listeners == (keys["leaf-system.creds"],), "of a second line that an earlier version made, too"
    (folder / "leaf.creds").write_text("a")
    with pytest.raises(HomeInvalid, match="damaged"):
        write_leaf_configuration(cluster, folder, "", "127.0.0.1:4222")


def _credentials(path: Path, byte: bytes) -> str:
    """Writes credentials; the key that they are for."""
    key = Ed25519PrivateKey.from_private_bytes(byte * 32)
    public = key.public_key().public_bytes_raw()
    jwt = nkeys.user_jwt("x", public, public, key.sign, 1, expires_at_s=None, publish=[], subscribe=[])
    path.write_text(leaf.credentials_text(jwt, nkeys.seed_text(byte * 32)))
    return nkeys.public_text("user", public)
