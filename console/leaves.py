"""Leaf brokers of members: made and withdrawn by the operator, noted in `INSTANCE/broker/leaves`.

A file for each key of a leaf, `<public key>.json`. Who the leaf's member is decides what it may do; the registry
refuses the key as soon as the file says that it is withdrawn, or the directory that its member is.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bus.transport import leaf, nkeys
from bus.transport.minting import AccountMinter, mint_leaf_listener
from console.addresses import check_listen, split_hosts
from console.homes import HomeInvalid, InstanceHome, read_facts, replace_file, write_new
from console.instance import load_authority, read_broker_identity
from evidence.issue import issue_tls, to_pem
from evidence.signer import FileSigner, generate_key_file
from registry.fold import Directory
from registry.localcopy import LocalCopy

_TLS_DAYS = 365
_SYSTEM = "leaf-system.creds"
_CREDENTIALS, _CA, _CERTIFICATE, _KEY, _CONFIG = "leaf.creds", "ca.pem", "tls.crt", "tls.pem", "nats-server.conf"


class LeafFact(msgspec.Struct, frozen=True):
    """Whose leaf a key belongs to.

    Attributes:
        member: `INSTANCE/CLASS/MEMBER`.
        withdrawn: refused for good; the file stays, so that the registry hears of it whenever it looks.
        listeners: keys of its second line, in the system account: they are refused when the leaf is.
    """

    member: str
    withdrawn: bool = False
    listeners: tuple[str, ...] = ()


def leaf_keys(home: InstanceHome) -> dict[str, str]:
    """All keys of leaf brokers, of both lines, to their members; to nobody when they are withdrawn."""
    return {
        key: "" if fact.withdrawn else fact.member
        for path, fact in _facts(home)
        for key in (path.stem, *fact.listeners)
    }


def listener_keys(home: InstanceHome) -> frozenset[str]:
    """The keys among them that connect to the system account."""
    return frozenset(key for _, fact in _facts(home) for key in fact.listeners)


def _facts(home: InstanceHome) -> list[tuple[Path, LeafFact]]:
    folder = home.broker / "leaves"
    paths = sorted(folder.glob("U*.json")) if folder.exists() else []
    return [(path, read_facts(path, LeafFact, "lienthong broker leaf")) for path in paths]


def make_leaf(home: InstanceHome, member: str, folder: Path, hosts: tuple[str, ...]) -> dict[str, Any]:
    """Makes everything that a member's leaf broker needs but its configuration.

    Args:
        home: of the instance, with its registry beside it.
        member: `INSTANCE/CLASS/MEMBER`.
        folder: new; to be handed to the member on a safe way.
        hosts: names and addresses under which gateways reach the leaf.

    Raises:
        HomeInvalid: no such member, it is not active, or it has no node; or the folder is in use.
    """
    names, addresses = split_hosts(hosts)
    nodes = _nodes_of(home, member)
    now = datetime.now(UTC)
    account = FileSigner.load(home.broker / "account.pem")
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    jwt = AccountMinter(account.public_bytes, account.sign, time.time).mint_leaf(member, nodes, public)
    user = nkeys.public_text("user", public)
    authority = load_authority(home)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    tls = generate_key_file(folder / _KEY, "p256")
    certificate = issue_tls(
        authority,
        "leaf broker",
        tls.private_key.public_key(),
        role="server",
        dns_names=names,
        ip_addresses=addresses,
        not_before_at=now - timedelta(minutes=5),
        not_after_at=now + timedelta(days=_TLS_DAYS),
    )
    write_new(folder / _CERTIFICATE, to_pem([certificate]), 0o644)
    write_new(folder / _CA, authority.pem, 0o644)
    # Known to the registry before anybody can use it: see the guest book.
    write_new(home.broker / "leaves" / f"{user}.json", msgspec.json.encode(LeafFact(member)))
    seed = nkeys.seed_text(key.private_bytes_raw())
    write_new(folder / _CREDENTIALS, leaf.credentials_text(jwt, seed).encode())
    return {"member": member, "key": user, "nodes": list(nodes), "folder": folder}


def withdraw_leaves(home: InstanceHome, member: str) -> dict[str, bool]:
    """Withdraws all leaf brokers of a member; the registry refuses them within seconds.

    Returns:
        Their keys, each with whether the key of its second line is known, too.
    """
    found = [(path, fact) for path, fact in _facts(home) if fact.member == member and not fact.withdrawn]
    for path, fact in found:
        replace_file(path, msgspec.json.encode(msgspec.structs.replace(fact, withdrawn=True)))
    return {path.stem: bool(fact.listeners) for path, fact in found}


def write_leaf_configuration(home: InstanceHome, folder: Path, hub: str, listen: str) -> Path:
    """Writes the leaf's nats-server configuration beside what `make_leaf` made; returns its path.

    Raises:
        HomeInvalid: an address cannot be one, or the folder was not made by `lienthong broker leaf`.
    """
    check_listen(listen, "--listen")
    if not (folder / _CREDENTIALS).exists():
        raise HomeInvalid(f"there is no {folder / _CREDENTIALS}; make it with `lienthong broker leaf`")
    identity, facts = read_broker_identity(home), home.facts
    listening = [server.leaf_listen for server in facts.broker_servers] or [facts.broker_leaf_listen]
    hubs = tuple(hub.split(",")) if hub else tuple(f"tls://{listen}" for listen in listening if listen)
    if not hubs:
        raise HomeInvalid(
            "the instance's broker takes no leaf brokers: set broker_leaf_listen in instance.json (of a cluster:"
            " leaf_listen of its servers) and restart it, or name the hub with --hub"
        )
    absolute = folder.resolve()
    path = absolute / _CONFIG
    _second_line(home, absolute)
    text = leaf.render_leaf_config(
        leaf.LeafFiles(
            home=absolute,
            hubs=hubs,
            credentials=absolute / _CREDENTIALS,
            system_credentials=absolute / _SYSTEM,
            ca=absolute / _CA,
            operator_jwt=identity.operator_jwt,
            system_account=identity.system_account,
            account=identity.members_account,
            accounts=identity.accounts,
            tls_cert=absolute / _CERTIFICATE,
            tls_key=absolute / _KEY,
            listen=listen,
        )
    )
    path.write_text(text, encoding="utf-8")
    return path


def _second_line(home: InstanceHome, folder: Path) -> None:
    """Credentials with which a leaf hears who is refused, made once; their key is noted before they can be used."""
    user = _holder(folder / _CREDENTIALS)
    path = home.broker / "leaves" / f"{user}.json"
    fact = read_facts(path, LeafFact, "lienthong broker leaf")
    if fact.withdrawn:
        raise HomeInvalid(f"the leaf broker in {folder} was withdrawn: make another one with `lienthong broker leaf`")
    if (folder / _SYSTEM).exists():  # an earlier version made it and noted nothing
        key, text = _holder(folder / _SYSTEM), ""
    else:
        key, text = _listener(home, folder.name)
    if key not in fact.listeners:
        replace_file(path, msgspec.json.encode(msgspec.structs.replace(fact, listeners=(*fact.listeners, key))))
    if text:
        write_new(folder / _SYSTEM, text.encode())


def _holder(credentials: Path) -> str:
    """Public key of a credentials file."""
    try:
        return str(nkeys.decode_claims(leaf.credentials_jwt(credentials.read_text(encoding="ascii")))["sub"])
    except (IndexError, KeyError, ValueError, msgspec.MsgspecError) as error:
        raise HomeInvalid(f"{credentials} is damaged: make another one with `lienthong broker leaf`") from error


def _listener(home: InstanceHome, name: str) -> tuple[str, str]:
    """A key of the second line and its credentials."""
    system, key = FileSigner.load(home.broker / "system.pem"), Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    jwt = mint_leaf_listener(name, public, system.public_bytes, system.sign, time.time())
    return nkeys.public_text("user", public), leaf.credentials_text(jwt, nkeys.seed_text(key.private_bytes_raw()))


def _nodes_of(home: InstanceHome, member: str) -> list[str]:
    directory = registry_directory(home)
    entry = directory.member(member)
    if entry is None or entry.status != "active" or directory.is_revoked("member", member):
        raise HomeInvalid(f"{member} is no active member of this instance")
    nodes = [node.node for node in directory.nodes_of(member) if node.status == "active"]
    if not nodes:
        raise HomeInvalid(f"{member} has no active node yet: `lienthong node add` comes first")
    return nodes


def registry_directory(home: InstanceHome) -> Directory:
    """The directory as the registry folded it, read beside the running registry."""
    path = home.registry / "copy.db"
    if not path.exists():
        raise HomeInvalid(f"there is no {path}; it comes when the registry runs")
    copy, directory = LocalCopy(path, home.facts.genesis), Directory(home.facts.genesis)
    try:
        directory.reach(datetime.now(UTC))
        for document in copy.documents():
            directory.restore(document.index, document.digest, document.author, document.payload)
    finally:
        copy.close()
    return directory
