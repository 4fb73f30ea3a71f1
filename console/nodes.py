"""Making a node in the member's own home: keys, statement, sealing keys, broker credentials, TLS, settings.

A node in a home of its own, on another machine, is made by `noderequests` and `furthernodes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bus.gateway.sealingkeys import load_keys, write_key
from bus.sealing.keys import SealingKeyPair
from console.addresses import check_listen, split_hosts
from console.frontcertificates import make_front
from console.homes import HomeInvalid, MemberHome, replace_file, write_new
from console.membership import MemberSpeaker, Speaker, call_registry
from console.statements import Stated, StatedKey, carry, read_answer
from evidence.header import encode_time
from evidence.identifiers import MemberId, NodeId, check_creatable, log_origin
from evidence.signer import FileSigner, generate_key_file
from registry.client import RegistryClient

SEALING_DAYS = 30

_SETTINGS = """# Written by `lienthong node {made_by}`. Every key is explained in config/gateway.toml.
node = "{node}"
genesis = "{genesis}"
incarnation = 1
data = "data"

[keys]
log = "keys/log.pem"
broker = "keys/broker.pem"
sealing = "keys/sealing"
member_certificate = "keys/member.crt"
{more}
[broker]
urls = {urls}
ca = "ca.pem"
credentials = "keys/broker.jwt"

[registry]
url = "{registry}"

[front]
listen = "{front}"
certificate = "tls/front.crt"
key = "tls/front.pem"

[admin]
listen = "{admin}"
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node listens.

    Attributes:
        front: host:port.
        admin: host:port.
        hosts: for the front's certificate.
        passphrase: file with the passphrase under which log and broker key are encrypted.
    """

    front: str
    admin: str
    hosts: tuple[str, ...]
    passphrase: Path | None = None

    def check(self) -> None:
        """Refuses what cannot be an address.

        Raises:
            HomeInvalid: naming the option.
        """
        check_listen(self.front, "--front")
        check_listen(self.admin, "--admin")
        split_hosts(self.hosts)


def add_node(home: MemberHome, code: str, place: Place) -> dict[str, Any]:
    """Makes a node and writes its settings. Done again after it broke off, it goes on with the same keys.

    Args:
        home: of the member.
        code: of the node.
        place: where it listens.

    Raises:
        HomeInvalid: there is a node already, or an address cannot be one.
        RegistryError: the registry refused a document.
    """
    speaker, stated = _prepare(home, code, place)

    async def publish(client: RegistryClient) -> tuple[str, tuple[str, ...]]:
        for type_, subject, fields in stated.documents(speaker.genesis):
            await speaker.say(client, type_, subject, **fields)
        credentials = await client.credentials(str(stated.node))
        return credentials.jwt, tuple(credentials.broker.urls)

    jwt, urls = call_registry(speaker.url, publish)
    return finish(home, stated, place, jwt, urls)


def state_node(home: MemberHome, code: str, place: Place, out: Path) -> dict[str, Any]:
    """Makes a node's keys, and the signed statements in a file that is carried to the registry.

    Raises:
        HomeInvalid: as `add_node`, or the file exists.
    """
    speaker, stated = _prepare(home, code, place)
    carry(speaker, stated, out)
    return {"node": str(stated.node), "out": out}


def accept_node(home: MemberHome, code: str, place: Place, answer: Path) -> dict[str, Any]:
    """Takes the registry's answer that was carried back, and writes the settings.

    Raises:
        HomeInvalid: as `add_node`, or the answer is for another node.
    """
    speaker, stated = _prepare(home, code, place)
    given = read_answer(answer, stated, speaker.genesis)
    return finish(home, stated, place, given.credentials, given.broker_urls)


def _prepare(home: MemberHome, code: str, place: Place) -> tuple[MemberSpeaker, Stated]:
    """The keys, made or found, and what is to be said about them."""
    facts, speaker = home.facts, Speaker.member(home)
    check_creatable(code)
    if home.settings.exists():
        raise HomeInvalid(
            f"{home.path} has a node already ({home.settings}); a further node of this member gets a home of its own, "
            'see "A second node" in docs/operations.md'
        )
    place.check()
    node = NodeId(MemberId.parse(facts.member), code)
    now = datetime.now(UTC)
    log, broker = node_keys(home, place.passphrase)
    sealing = home.keys / "sealing"
    stated = []
    for owner, use, uses in ((facts.member, "query", ("query", "command")), (str(node), "answer", ("answer",))):
        if not (sealing.exists() and load_keys(sealing)[use]):
            write_key(sealing, owner, use, SealingKeyPair.generate())
        begin, end = encode_time(now - timedelta(minutes=1)), encode_time(now + timedelta(days=SEALING_DAYS))
        stated += [StatedKey(owner, pair.public_key, uses, begin, end) for pair in load_keys(sealing)[use].values()]
    return speaker, Stated(node, log.public_bytes, broker.public_bytes, tuple(stated))


def node_keys(home: MemberHome, passphrase: Path | None) -> tuple[FileSigner, FileSigner]:
    """Log and broker key of a node: those that an earlier try made, or new ones."""

    def found_or_made(path: Path) -> FileSigner:
        if path.exists():
            return FileSigner.load(path, passphrase_path=passphrase)
        return generate_key_file(path, "ed25519", passphrase_path=passphrase)

    return found_or_made(home.keys / "log.pem"), found_or_made(home.keys / "broker.pem")


def finish(
    home: MemberHome, stated: Stated, place: Place, jwt: str, urls: tuple[str, ...], more: str = ""
) -> dict[str, Any]:
    """Credentials, TLS of the front, and at last the settings: where they lie, the node is made.

    Args:
        home: where.
        stated: the node.
        place: where it listens.
        jwt: broker credentials.
        urls: servers of the broker.
        more: further lines of the table `[keys]`; they say that it is a node of a home of its own.
    """
    facts, node = home.facts, stated.node
    names, addresses = split_hosts(place.hosts)
    replace_file(home.keys / "broker.jwt", jwt.encode())
    if not (home.path / "tls" / "front.crt").exists():
        for half_made in ("ca.pem", "ca.crt", "front.pem"):
            (home.path / "tls" / half_made).unlink(missing_ok=True)
        make_front(home.path / "tls", names, addresses)
    home.data.mkdir(mode=0o700, exist_ok=True)
    home.settings_parts.mkdir(mode=0o755, exist_ok=True)
    if place.passphrase is not None:
        more += f'passphrase = "{place.passphrase.resolve()}"\n'
    text = _SETTINGS.format(
        made_by="join" if facts.node else "add",
        node=node,
        genesis=facts.genesis,
        registry=facts.registry,
        urls=str(list(urls)).replace("'", '"'),
        front=place.front,
        admin=place.admin,
        more=more,
    )
    write_new(home.settings, text.encode(), 0o644)
    origin = log_origin(facts.genesis, node, 1)
    return {"node": str(node), "origin": origin, "settings": home.settings, "front_ca": home.path / "tls" / "ca.crt"}
