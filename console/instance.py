"""Making an instance: operator key, authority, directory keys, broker identity, first anchor."""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime, timedelta

import msgspec

from bus.transport import nkeys
from bus.transport.accounts import members_jwt, streams_jwt
from bus.transport.minting import AccountMinter
from console.addresses import check_listen, split_hosts
from console.homes import HomeInvalid, InstanceFacts, InstanceHome, read_facts, replace_file, write_new
from evidence.header import encode_time
from evidence.identifiers import MemberId, check_creatable
from evidence.issue import Authority, create_authority, issue_member, issue_tls, to_pem
from evidence.signer import FileSigner, generate_key_file
from registry.documents import Anchor, BrokerAddress, DirectoryKeys, Operator
from registry.envelope import genesis_of, sign_document
from registry.publickeys import key_id, spki_public

MEMBERS_ACCOUNT = "members.jwt"
_DAYS = 365
_COMMON_NAME_CHARS = 64  # RFC 5280 appendix A.1, ub-common-name


class BrokerIdentityFile(msgspec.Struct, frozen=True, kw_only=True):
    """What the embedded broker and the registry need of operator mode; no private key."""

    operator_jwt: str
    system_account: str
    accounts: dict[str, str]
    registry_user_jwt: str
    streams_account: str = ""

    @property
    def members_account(self) -> str:
        """Public key of the members' account, the first that was settled."""
        return next(iter(self.accounts))


def read_broker_identity(home: InstanceHome) -> BrokerIdentityFile:
    """What was settled for the broker, with the members' account as the registry wrote it last.

    Raises:
        HomeInvalid: it is not there or damaged, or it was made before streams had an account of their own.
    """
    identity = read_facts(home.broker / "identity.json", BrokerIdentityFile, "lienthong init instance")
    if not identity.streams_account:
        raise HomeInvalid(
            f"{home.broker} was made by an older version, whose members could reach the streams of others. Stop broker"
            " and registry, run `lienthong broker upgrade`, start the broker, then the registry"
        )
    newest = home.broker / MEMBERS_ACCOUNT
    if newest.exists():
        jwt = newest.read_text(encoding="ascii").strip()
        return msgspec.structs.replace(identity, accounts={**identity.accounts, identity.members_account: jwt})
    return identity


def upgrade_broker_identity(home: InstanceHome) -> bool:
    """Gives an older instance the account for its streams; False when it has one.

    The keys and credentials of members stay as they are. The directory's stream is made anew by the registry.

    Raises:
        HomeInvalid: there is no instance, or its files are damaged.
    """
    path = home.broker / "identity.json"
    identity = read_facts(path, BrokerIdentityFile, "lienthong init instance")
    if identity.streams_account:
        return False
    streams = home.broker / "streams.pem"
    if not streams.exists():
        generate_key_file(streams, "ed25519")
    made = _accounts(home, home.facts.instance)
    more = msgspec.structs.replace(
        identity,
        accounts={**identity.accounts, **made},
        streams_account=nkeys.public_text("account", FileSigner.load(streams).public_bytes),
    )
    replace_file(path, msgspec.json.encode(more))
    return True


def _accounts(home: InstanceHome, instance: str) -> dict[str, str]:
    """JWTs of the members' account and of the streams', by their public keys."""
    operator, account, streams = (
        FileSigner.load(home.broker / f"{name}.pem") for name in ("operator", "account", "streams")
    )
    now_s = int(time.time()) - 1
    args = (operator.public_bytes, operator.sign, now_s)
    return {
        nkeys.public_text("account", account.public_bytes): members_jwt(
            instance, account.public_bytes, streams.public_bytes, *args
        ),
        nkeys.public_text("account", streams.public_bytes): streams_jwt(streams.public_bytes, *args),
    }


def load_authority(home: InstanceHome) -> Authority:
    """The instance's own authority."""
    from evidence.x509 import load_pem_chain

    (der,) = load_pem_chain((home.ca / "ca.crt").read_bytes())
    return Authority(der, FileSigner.load(home.ca / "ca.pem"))


def create_instance(
    home: InstanceHome, instance: str, registry_listen: str, broker_listen: str, hosts: tuple[str, ...]
) -> InstanceFacts:
    """Makes everything; refuses a folder that has an instance already.

    Args:
        home: folder.
        instance: name, like VN-DEMO.
        registry_listen: host:port of the registry's HTTP.
        broker_listen: host:port of the broker.
        hosts: addresses for the TLS certificates.

    Raises:
        IdentifierInvalid: the name cannot be one; nothing was made.
        HomeInvalid: an address or host cannot be one; nothing was made.
        KeyUnusable: there is an instance already.
    """
    check_creatable(instance)
    check_listen(registry_listen, "--registry-listen")
    check_listen(broker_listen, "--broker-listen")
    names, addresses = split_hosts(hosts)
    now = datetime.now(UTC)
    since, until = now - timedelta(minutes=5), now + timedelta(days=_DAYS)
    for folder in (home.keys, home.ca, home.broker, home.registry):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority = create_authority(
        f"{instance} authority"[:_COMMON_NAME_CHARS],
        generate_key_file(home.ca / "ca.pem", "p256"),
        not_before_at=since,
        not_after_at=now + timedelta(days=10 * _DAYS),
    )
    write_new(home.ca / "ca.crt", authority.pem, 0o644)
    operator = generate_key_file(home.keys / "operator.pem", "p256")
    certificate = issue_member(
        authority,
        MemberId(instance, "OPERATOR", "operator"),
        operator.private_key.public_key(),
        not_before_at=since,
        not_after_at=until,
    )
    write_new(home.keys / "operator.crt", to_pem([certificate]), 0o644)
    _tls(home, authority, names, addresses, since, until)
    broker = _broker_identity(home, instance)
    directory = {name: generate_key_file(home.keys / f"{name}.pem", "ed25519") for name in ("directory", "cosigner")}
    anchor = Anchor(
        instance=instance,
        subject=instance,
        seq=0,
        issued=encode_time(now),
        threshold=1,
        operators=(Operator(keyid=key_id(spki_public(operator.public_bytes)), spki=_b64(operator.public_bytes)),),
        certification_authorities=(authority.pem.decode(),),
        directory=DirectoryKeys(
            log_key=_b64(directory["directory"].public_bytes), cosigner_key=_b64(directory["cosigner"].public_bytes)
        ),
        broker=BrokerAddress(
            urls=(f"tls://{broker_listen}",),
            ca=authority.pem.decode(),
            account=broker.members_account,
        ),
    )
    write_new(home.registry / "anchor.json", sign_document(anchor, operator, [certificate], None), 0o644)
    facts = InstanceFacts(
        instance=instance,
        genesis=genesis_of(anchor),
        registry_listen=registry_listen,
        broker_listen=broker_listen,
    )
    home.write_facts(facts)
    return facts


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _tls(
    home: InstanceHome,
    authority: Authority,
    names: list[str],
    addresses: list[str],
    since: datetime,
    until: datetime,
) -> None:
    key = generate_key_file(home.broker / "tls.pem", "p256")
    certificate = issue_tls(
        authority,
        "broker",
        key.private_key.public_key(),
        role="both",
        dns_names=names,
        ip_addresses=addresses,
        not_before_at=since,
        not_after_at=until,
    )
    write_new(home.broker / "tls.crt", to_pem([certificate]), 0o644)


def _broker_identity(home: InstanceHome, instance: str) -> BrokerIdentityFile:
    """Operator and accounts of operator mode: the members', the streams', the system's."""
    keys = {
        name: generate_key_file(home.broker / f"{name}.pem", "ed25519")
        for name in ("operator", "system", "account", "streams", "registry")
    }
    now_s = int(time.time()) - 1
    operator, system, account = keys["operator"], keys["system"], keys["account"]
    system_text = nkeys.public_text("account", system.public_bytes)
    args = (operator.public_bytes, operator.sign, now_s)
    minter = AccountMinter(account.public_bytes, account.sign, time.time)
    made = BrokerIdentityFile(
        operator_jwt=nkeys.operator_jwt(instance, operator.public_bytes, operator.sign, now_s, system.public_bytes),
        system_account=system_text,
        accounts={
            **_accounts(home, instance),
            system_text: nkeys.account_jwt("SYS", system.public_bytes, *args, jetstream=False),
        },
        registry_user_jwt=minter.mint_service_user("registry", keys["registry"].public_bytes),
        streams_account=nkeys.public_text("account", keys["streams"].public_bytes),
    )
    write_new(home.broker / "identity.json", msgspec.json.encode(made))
    return made
