"""Making an instance: operator keys, authority, directory keys, broker identity, registry TLS, first anchor."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from bus.transport import nkeys
from bus.transport.accounts import members_jwt, streams_jwt, system_jwt
from bus.transport.minting import AccountMinter
from console.addresses import check_listen, is_loopback, own_host, split_hosts
from console.homes import HomeInvalid, InstanceFacts, InstanceHome, read_facts, replace_file, write_new
from console.operators import OperatorKey, make_operator_key, settle, sign_further
from console.registrytls import make_registry_tls
from evidence.header import encode_time
from evidence.identifiers import check_creatable
from evidence.issue import Authority, create_authority, issue_tls, to_pem
from evidence.signer import FileSigner, generate_key_file, read_passphrase
from evidence.x509 import load_pem_chain
from registry.documents import Anchor, BrokerAddress, DirectoryKeys, Operator
from registry.envelope import genesis_of, sign_document

MEMBERS_ACCOUNT, SYSTEM_ACCOUNT = "members.jwt", "system.jwt"
"""Accounts as the registry wrote them last, with who is refused."""
_DAYS = 365
_MAX_OPERATORS = 16
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
    """What was settled for the broker, with the accounts as the registry wrote them last.

    Raises:
        HomeInvalid: it is not there or damaged, or it was made before streams had an account of their own.
    """
    identity = read_facts(home.broker / "identity.json", BrokerIdentityFile, "lienthong init instance")
    if not identity.streams_account:
        raise HomeInvalid(
            f"{home.broker} was made by an older version, whose members could reach the streams of others. Stop broker"
            " and registry, run `lienthong broker upgrade`, start the broker, then the registry"
        )
    newest = {
        account: (home.broker / name).read_text(encoding="ascii").strip()
        for name, account in ((MEMBERS_ACCOUNT, identity.members_account), (SYSTEM_ACCOUNT, identity.system_account))
        if (home.broker / name).exists()
    }
    return msgspec.structs.replace(identity, accounts={**identity.accounts, **newest})


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
    """The instance's own authority.

    Raises:
        KeyUnusable: its key is not here.
        OSError: its certificate is not here.
    """
    (der,) = load_pem_chain((home.ca / "ca.crt").read_bytes())
    return Authority(der, FileSigner.load(home.ca / "ca.pem"))


@dataclass(frozen=True, slots=True)
class InstancePlan:
    """What an instance is made with.

    Attributes:
        instance: Name, like VN-DEMO.
        registry_listen: host:port of the registry.
        broker_listen: host:port of the broker.
        broker_urls: All addresses of the broker for the first anchor; empty means `broker_listen`.
        hosts: Names and addresses for the TLS certificates.
        operators: How many operator keys to make.
        threshold: How many of them make the operator's word.
        plain_http: The registry without TLS; on a loopback address only.
        passphrases: Files with the passphrases of the operator keys: none, one for all, or one for each.
    """

    instance: str
    registry_listen: str
    broker_listen: str
    hosts: tuple[str, ...]
    operators: int = 1
    threshold: int = 1
    plain_http: bool = False
    passphrases: tuple[Path, ...] = ()
    broker_urls: tuple[str, ...] = ()

    def passphrase(self, number: int) -> Path | None:
        """That of an operator key, counted from 0."""
        return self.passphrases[number if len(self.passphrases) > 1 else 0] if self.passphrases else None

    def check(self) -> None:
        """Refuses what cannot be made.

        Raises:
            IdentifierInvalid: the name cannot be one.
            HomeInvalid: an address, host or number cannot be one.
            KeyUnusable: a passphrase file cannot be used.
        """
        check_creatable(self.instance)
        check_listen(self.registry_listen, "--registry-listen")
        check_listen(self.broker_listen, "--broker-listen")
        split_hosts(self.hosts)
        if not 1 <= self.threshold <= self.operators <= _MAX_OPERATORS:
            raise HomeInvalid(f"--threshold: between 1 and the number of operators, which is at most {_MAX_OPERATORS}")
        if len(self.passphrases) not in {0, 1, self.operators}:
            raise HomeInvalid("--passphrase-file: name one for all operator keys, or one for each")
        for path in self.passphrases:
            read_passphrase(path)
        if self.plain_http and not is_loopback(self.registry_listen):
            raise HomeInvalid("--plain-http: only for a registry on a loopback address; leave it out, HTTPS is ready")


def create_instance(home: InstanceHome, plan: InstancePlan) -> InstanceFacts:
    """Makes everything; refuses a folder that has an instance already.

    Raises:
        IdentifierInvalid: the name cannot be one; nothing was made.
        HomeInvalid: an address, host or number cannot be one; nothing was made.
        KeyUnusable: there is an instance already, or a passphrase file cannot be used.
    """
    plan.check()
    names, addresses = split_hosts((*plan.hosts, *own_host(plan.registry_listen)))
    now = datetime.now(UTC)
    since, until = now - timedelta(minutes=5), now + timedelta(days=_DAYS)
    for folder in (home.keys, home.ca, home.broker, home.registry, home.operators):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority = create_authority(
        f"{plan.instance} authority"[:_COMMON_NAME_CHARS],
        generate_key_file(home.ca / "ca.pem", "p256"),
        not_before_at=since,
        not_after_at=now + timedelta(days=10 * _DAYS),
    )
    write_new(home.ca / "ca.crt", authority.pem, 0o644)
    folders = [home.operators / str(number) for number in range(1, plan.operators + 1)]
    keys = [
        make_operator_key(
            folder,
            plan.instance,
            authority,
            not_before_at=since,
            not_after_at=until,
            passphrase=plan.passphrase(number),
        )
        for number, folder in enumerate(folders)
    ]
    _tls(home, authority, names, addresses, since, until)
    if not plan.plain_http:
        make_registry_tls(home, authority, names, addresses, not_before_at=since, not_after_at=until)
    anchor = _first_anchor(home, plan, authority, keys, now)
    jws = sign_document(anchor, keys[0].signer, keys[0].chain, None)
    write_new(home.registry / "anchor.json", sign_further(jws, keys[1 : plan.threshold]), 0o644)
    facts = InstanceFacts(
        instance=plan.instance,
        genesis=genesis_of(anchor),
        registry_listen=plan.registry_listen,
        broker_listen=plan.broker_listen,
        registry_scheme="http" if plan.plain_http else "https",
    )
    for number, (folder, key) in enumerate(zip(folders, keys, strict=True)):
        settle(folder, plan.instance, facts.genesis, key.keyid, plan.passphrase(number))
    home.write_facts(facts)
    return facts


def _first_anchor(
    home: InstanceHome, plan: InstancePlan, authority: Authority, keys: list[OperatorKey], now: datetime
) -> Anchor:
    broker = _broker_identity(home, plan.instance)
    directory = {name: generate_key_file(home.keys / f"{name}.pem", "ed25519") for name in ("directory", "cosigner")}
    return Anchor(
        instance=plan.instance,
        subject=plan.instance,
        seq=0,
        issued=encode_time(now),
        threshold=plan.threshold,
        operators=tuple(Operator(keyid=key.keyid, spki=_b64(key.signer.public_bytes)) for key in keys),
        certification_authorities=(authority.pem.decode(),),
        directory=DirectoryKeys(
            log_key=_b64(directory["directory"].public_bytes), cosigner_key=_b64(directory["cosigner"].public_bytes)
        ),
        broker=BrokerAddress(
            urls=plan.broker_urls or (f"tls://{plan.broker_listen}",),
            ca=authority.pem.decode(),
            account=broker.members_account,
        ),
    )


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
            system_text: system_jwt(system.public_bytes, *args),
        },
        registry_user_jwt=minter.mint_service_user("registry", keys["registry"].public_bytes),
        streams_account=nkeys.public_text("account", keys["streams"].public_bytes),
    )
    write_new(home.broker / "identity.json", msgspec.json.encode(made))
    return made
