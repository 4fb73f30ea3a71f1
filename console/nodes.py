"""Making a node: keys, statement, sealing keys, broker credentials, TLS of the front, settings."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bus.gateway.sealingkeys import load_keys, write_key
from bus.sealing.keys import SealingKeyPair
from console.addresses import check_listen, split_hosts
from console.frontcertificates import make_front
from console.homes import HomeInvalid, MemberHome, replace_file, write_new
from console.membership import Speaker, call_registry
from evidence.header import encode_time
from evidence.identifiers import MemberId, NodeId, check_creatable, log_origin
from evidence.signer import generate_key_file
from registry.client import RegistryClient
from registry.documents import Node, NodeLog, Sealing

_SEALING_DAYS = 30

_SETTINGS = """# Written by `lienthong node add`. Every key is explained in config/gateway.toml.
node = "{node}"
genesis = "{genesis}"
incarnation = 1
data = "data"

[keys]
log = "keys/log.pem"
broker = "keys/broker.pem"
sealing = "keys/sealing"
member_certificate = "keys/member.crt"
{passphrase}
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


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def add_node(
    home: MemberHome, code: str, front: str, admin: str, hosts: tuple[str, ...], passphrase: Path | None = None
) -> dict[str, Any]:
    """Makes a node and writes its settings.

    Args:
        home: of the member.
        code: of the node.
        front: host:port.
        admin: host:port.
        hosts: for the front's certificate.
        passphrase: file with the passphrase under which log and broker key are encrypted.

    Raises:
        HomeInvalid: there is a node already, or an address cannot be one.
        RegistryError: the registry refused a document.
    """
    facts, speaker = home.facts, Speaker.member(home)
    check_creatable(code)
    if home.settings.exists():
        raise HomeInvalid(
            f"{home.path} has a node already ({home.settings}); a further node of this member gets a home of its own, "
            'see "A second node" in docs/operations.md'
        )
    check_listen(front, "--front")
    check_listen(admin, "--admin")
    names, addresses = split_hosts(hosts)
    node = NodeId(MemberId.parse(facts.member), code)
    now = datetime.now(UTC)
    log = generate_key_file(home.keys / "log.pem", "ed25519", passphrase_path=passphrase)
    broker = generate_key_file(home.keys / "broker.pem", "ed25519", passphrase_path=passphrase)
    sealing = home.keys / "sealing"
    for owner, use in ((facts.member, "query"), (str(node), "answer")):
        if not (sealing.exists() and load_keys(sealing)[use]):
            write_key(sealing, owner, use, SealingKeyPair.generate())
    origin = log_origin(facts.genesis, node, 1)

    async def publish(client: RegistryClient) -> tuple[str, list[str]]:
        await speaker.say(
            client,
            Node,
            str(node),
            log=NodeLog(key=_b64(log.public_bytes), origin=origin),
            broker_key=_b64(broker.public_bytes),
            valid_from=encode_time(now - timedelta(minutes=1)),
        )
        pairs = load_keys(sealing)
        for owner, use, uses in ((facts.member, "query", ("query", "command")), (str(node), "answer", ("answer",))):
            for pair in pairs[use].values():
                await _publish_sealing(client, speaker, owner, pair, uses, now)
        credentials = await client.credentials(str(node))
        return credentials.jwt, list(credentials.broker.urls)

    jwt, urls = call_registry(facts.registry, publish)
    replace_file(home.keys / "broker.jwt", jwt.encode())
    make_front(home.path / "tls", names, addresses)
    home.data.mkdir(mode=0o700, exist_ok=True)
    home.settings_parts.mkdir(mode=0o755, exist_ok=True)
    text = _SETTINGS.format(
        node=node,
        genesis=facts.genesis,
        registry=facts.registry,
        urls=str(urls).replace("'", '"'),
        front=front,
        admin=admin,
        passphrase="" if passphrase is None else f'passphrase = "{passphrase.resolve()}"\n',
    )
    write_new(home.settings, text.encode(), 0o644)
    return {"node": str(node), "origin": origin, "settings": home.settings, "front_ca": home.path / "tls" / "ca.crt"}


async def _publish_sealing(
    client: RegistryClient, speaker: Speaker, owner: str, pair: SealingKeyPair, uses: tuple[str, ...], now: datetime
) -> None:
    await speaker.say(
        client,
        Sealing,
        f"{owner}#{pair.keyid}",
        kem=pair.public_key.kem,
        public=_b64(pair.public_key.public),
        use=uses,
        valid_from=encode_time(now - timedelta(minutes=1)),
        until=encode_time(now + timedelta(days=_SEALING_DAYS)),
    )
