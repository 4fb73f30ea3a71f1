"""A broker of several servers: what each needs lies in a folder of its own that can be carried to its machine.

`INSTANCE/broker/servers/N/`: `server.json` (who it is, where the others are, operator and accounts as signed words),
`tls.pem` and `tls.crt` for gateways, `route.pem` and `route.crt` for the other servers, `routes-ca.crt`. No key that
signs anything else is in it. The authority of the routes stays in `INSTANCE/broker/routes/`. Starts nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bus.transport.broker import BrokerFiles
from bus.transport.cluster import RouteFiles
from console.addresses import check_listen, own_host, split_hosts
from console.homes import BrokerServer, HomeInvalid, InstanceFacts, InstanceHome, read_facts, replace_file, write_new
from console.instance import load_authority, read_broker_identity
from evidence.issue import Authority, TlsRole, create_authority, issue_tls, to_pem
from evidence.signer import FileSigner, generate_key_file
from evidence.x509 import load_pem_chain

SERVER = "server.json"
REPLICAS = 3
_SIZES = (3, 5)
_ROUTES_ABOVE = 2_000
_DAYS, _AUTHORITY_DAYS = 365, 3_650
_MADE_BY = "lienthong broker cluster"


class ServerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a server of a cluster knows: nothing in it is secret.

    Attributes:
        instance: its name; that of the cluster follows from it.
        server: which one this is.
        peers: host:port of all listeners for routes.
        operator_jwt: of the broker's operator mode.
        system_account: public key.
        accounts: account to JWT; what the registry pushes later is newer and stays beside it.
    """

    instance: str
    server: BrokerServer
    peers: tuple[str, ...]
    operator_jwt: str
    system_account: str
    accounts: dict[str, str]


def plan_servers(addresses: Sequence[str], routes: Sequence[str] = ()) -> tuple[BrokerServer, ...]:
    """The servers of a cluster, from what an operator types.

    Args:
        addresses: host:port for gateways, one for each server.
        routes: host:port for the other servers, in the same order; none takes the port of `addresses` and 2000.

    Raises:
        HomeInvalid: a number of servers that no cluster has, or an address that cannot be one.
    """
    if len(addresses) not in _SIZES:
        raise HomeInvalid("--broker-cluster: name three servers (or five), HOST:PORT,HOST:PORT,HOST:PORT")
    if routes and len(routes) != len(addresses):
        raise HomeInvalid("--broker-routes: as many as --broker-cluster names, in the same order")
    for address in addresses:
        _check(address, "--broker-cluster")
    routes = routes or [_route_of(address) for address in addresses]
    for address in routes:
        _check(address, "--broker-routes")
    if len({*addresses, *routes}) < 2 * len(addresses):
        raise HomeInvalid("--broker-cluster: each server needs addresses of its own, for gateways and for the others")
    return tuple(
        BrokerServer(number=number, listen=listen, routes=others)
        for number, (listen, others) in enumerate(zip(addresses, routes, strict=True), 1)
    )


def _check(address: str, option: str) -> None:
    check_listen(address, option)
    if not own_host(address) or address.endswith(":0"):
        raise HomeInvalid(f"{option}: {address} cannot be reached from another machine; name host and port")


def _route_of(address: str) -> str:
    host, _, port = address.rpartition(":")
    if int(port) + _ROUTES_ABOVE > 65_535:
        raise HomeInvalid(f"--broker-routes: there is no port {_ROUTES_ABOVE} above {port}; name the routes' addresses")
    return f"{host}:{int(port) + _ROUTES_ABOVE}"


def folder_of(home: InstanceHome, number: int) -> Path:
    """Where what a server needs is made."""
    return home.broker / "servers" / str(number)


def make_cluster(home: InstanceHome, servers: Sequence[BrokerServer], hosts: Sequence[str]) -> InstanceFacts:
    """Makes the folders of the servers and settles them in the instance's facts.

    A store that a single broker had stays where it is, unused: the registry makes the streams anew in the cluster, and
    gateways repeat what has no receipt.

    Args:
        home: of an instance whose broker is none yet; broker and registry are stopped.
        servers: see `plan_servers`.
        hosts: further names and addresses for the certificates of all servers.

    Raises:
        HomeInvalid: it is a cluster already, or a name cannot be one; nothing was made.
        KeyUnusable: the authority's key is not here.
    """
    facts = home.facts
    if facts.broker_servers:
        raise HomeInvalid(f"the broker of {home.path} is a cluster of {len(facts.broker_servers)} already")
    for server in servers:
        split_hosts((*own_host(server.listen), *own_host(server.routes), *hosts))
    (home.broker / "routes").mkdir(mode=0o700, exist_ok=True)
    now = datetime.now(UTC)
    routes = create_authority(
        "broker routes",
        generate_key_file(home.broker / "routes" / "ca.pem", "p256"),
        not_before_at=now - timedelta(minutes=5),
        not_after_at=now + timedelta(days=_AUTHORITY_DAYS),
    )
    write_new(home.broker / "routes" / "ca.crt", routes.pem, 0o644)
    facts = msgspec.structs.replace(
        facts, broker_servers=tuple(servers), broker_listen=servers[0].listen, stream_replicas=REPLICAS
    )
    _certify(home, facts, hosts, routes)
    replace_file(home.path / "instance.json", msgspec.json.encode(facts), 0o644)
    refresh(home)
    return facts


def refresh(home: InstanceHome) -> list[Path]:
    """Writes each server's `server.json` as of now: with the newest account, for a server that is set up anew.

    Returns:
        The folders.

    Raises:
        HomeInvalid: the broker is not a cluster.
    """
    facts, identity = home.facts, read_broker_identity(home)
    if not facts.broker_servers:
        raise HomeInvalid(f"the broker of {home.path} is one server; make it a cluster with --servers")
    peers = tuple(server.routes for server in facts.broker_servers)
    for server in facts.broker_servers:
        told = ServerFacts(
            instance=facts.instance,
            server=server,
            peers=peers,
            operator_jwt=identity.operator_jwt,
            system_account=identity.system_account,
            accounts=identity.accounts,
        )
        replace_file(folder_of(home, server.number) / SERVER, msgspec.json.encode(told), 0o644)
    return [folder_of(home, server.number) for server in facts.broker_servers]


def renew_certificates(home: InstanceHome, hosts: Sequence[str]) -> list[Path]:
    """New keys and certificates for all servers, in place of the old ones; none where the broker is one server.

    Raises:
        KeyUnusable: the key of an authority is not here.
    """
    facts = home.facts
    if not facts.broker_servers:
        return []
    (der,) = load_pem_chain((home.broker / "routes" / "ca.crt").read_bytes())
    return _certify(home, facts, hosts, Authority(der, FileSigner.load(home.broker / "routes" / "ca.pem")))


def _certify(home: InstanceHome, facts: InstanceFacts, hosts: Sequence[str], routes: Authority) -> list[Path]:
    authority, made = load_authority(home), []
    for server in facts.broker_servers:
        folder = folder_of(home, server.number)
        name = f"broker {server.number}"
        _issue(folder / "tls", authority, name, "server", (*own_host(server.listen), *hosts))
        _issue(folder / "route", routes, name, "both", (*own_host(server.routes), *hosts))
        replace_file(folder / "routes-ca.crt", routes.pem, 0o644)
        made += [folder / "tls.crt", folder / "route.crt"]
    return made


def _issue(stem: Path, authority: Authority, name: str, role: TlsRole, hosts: Sequence[str]) -> None:
    now, key = datetime.now(UTC), FileSigner.generate("p256")
    names, addresses = split_hosts(hosts)
    certificate = issue_tls(
        authority,
        name,
        key.private_key.public_key(),
        role=role,
        dns_names=names,
        ip_addresses=addresses,
        not_before_at=now - timedelta(minutes=5),
        not_after_at=now + timedelta(days=_DAYS),
    )
    pem = key.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    replace_file(stem.with_suffix(".pem"), pem)
    replace_file(stem.with_suffix(".crt"), to_pem([certificate]), 0o644)


def server_files(folder: Path, accounts: dict[str, str] | None = None) -> BrokerFiles:
    """What a server runs with.

    Args:
        folder: as `make_cluster` made it, here or carried.
        accounts: newer ones than those in it, if they are at hand.

    Raises:
        HomeInvalid: it is not such a folder.
    """
    told, home = read_facts(folder / SERVER, ServerFacts, _MADE_BY), folder.resolve()
    return BrokerFiles(
        home=home,
        operator_jwt=told.operator_jwt,
        system_account=told.system_account,
        accounts=accounts or told.accounts,
        tls_cert=home / "tls.crt",
        tls_key=home / "tls.pem",
        listen=told.server.listen,
        leaf_listen=told.server.leaf_listen,
        name=f"{told.instance}-{told.server.number}",
        routes=RouteFiles(
            cluster=f"lienthong-{told.instance}",
            listen=told.server.routes,
            peers=told.peers,
            tls_cert=home / "route.crt",
            tls_key=home / "route.pem",
            ca=home / "routes-ca.crt",
        ),
    )
