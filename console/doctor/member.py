"""The checks of a member's home, in the order in which things depend on each other."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bus.gateway.sealingkeys import days_left, load_keys
from bus.settings import GatewaySettings, load_settings
from bus.transport import nkeys, subjects
from console.doctor import files, gateway, reaching, revocation, wire
from console.doctor.findings import Check, Finding, State
from console.doctor.servers import SERVERS, check_servers
from console.furtherlogkey import next_log_key, usable_from
from console.homes import MemberHome
from console.membership import call_registry
from console.views import local_follower
from evidence.checkpoint import key_name
from evidence.checkpoint import verify as verify_note
from evidence.identifiers import NodeId, log_origin
from evidence.log import LogReader
from evidence.note import VerifierKey
from evidence.signer import FileSigner
from registry.client import RegistryClient
from registry.documents import Node, parse_time
from registry.fold import Directory
from registry.publickeys import decode_base64, key_id
from registry.view import RevocationKind

_KEYS_HELP = 'see "Keys, certificates and credentials" in docs/operations.md'
_CLOCK_WARN_S = 2.0
_SHORT_DAYS = 3.0
"""For what lives for weeks: credentials and sealing keys."""


@dataclass(slots=True)
class MemberContext:
    """A member's home and what earlier checks saw.

    Attributes:
        home: The home.
        call: The test call that was asked for, if any.
        seen: What the registry answered; None while it was not asked or did not answer.
    """

    home: MemberHome
    call: gateway.TestCall | None = None
    seen: reaching.RegistrySeen | None = None
    _settings: list[GatewaySettings] = field(default_factory=list)

    @property
    def settings(self) -> GatewaySettings:
        """The node's settings.

        Raises:
            SettingsInvalid: they cannot be used.
        """
        if not self._settings:
            self._settings.append(load_settings(self.home.settings))
        return self._settings[0]


def check_settings(context: MemberContext) -> Iterable[Finding]:
    """The settings can be used and are this member's."""
    facts, settings = context.home.facts, context.settings
    node = NodeId.parse(settings.node)
    if str(node.member) != facts.member or settings.genesis != facts.genesis:
        return [
            Finding("settings", "fail", f"gateway.toml is of {settings.node}, the home of {facts.member}", _SETTINGS)
        ]
    return [Finding("settings", "ok", f"node {settings.node}")]


_SETTINGS = "lienthong config check --home HOME says line and key; lienthong node add makes the file"


def check_modes(context: MemberContext) -> Iterable[Finding]:
    """Private keys and credentials are the owner's alone."""
    home = context.home
    secrets = [*home.keys.rglob("*.pem"), *home.keys.rglob("*.jwt"), *home.keys.rglob("*.hash")]
    secrets += [*(home.keys / "sealing").glob("*"), *home.keys.glob("bundle.json"), home.path / "tls" / "front.pem"]
    return files.check_modes("file-modes", secrets)


def check_member_certificate(context: MemberContext) -> Iterable[Finding]:
    """The chain leads to the anchor, by the registry's newest or the one that was kept at joining."""
    home = context.home
    if not home.certificate.exists():
        do = f"lienthong join --status --home {home.path}"
        return [Finding("member-certificate", "fail", f"there is no {home.certificate}", do)]
    if context.seen is None:
        return files.check_certificate("member-certificate", "member certificate", home.certificate)
    authorities = context.seen.anchor.certification_authorities
    return files.check_chain("member-certificate", home.certificate, authorities, home.facts.member)


def check_front_certificate(context: MemberContext) -> Iterable[Finding]:
    """The front's TLS certificate."""
    path = context.settings.front.certificate
    if path is None:
        return [Finding("front-certificate", "ok", "the front speaks plain HTTP, as configured")]
    do = f"lienthong node rotate tls --home {context.home.path}; or your own files and kill -HUP the gateway"
    return files.check_certificate("front-certificate", "TLS certificate of the front", path, do)


def check_credentials(context: MemberContext) -> Iterable[Finding]:
    """The broker's user JWT is this node's and lives for a while."""
    settings = context.settings
    claims = nkeys.decode_claims(settings.broker.credentials.read_text(encoding="ascii").strip())
    signer = FileSigner.load(settings.keys.broker, passphrase_path=settings.keys.passphrase)
    if claims.get("sub") != nkeys.public_text("user", signer.public_bytes):
        return [Finding("broker-credentials", "fail", f"{settings.broker.credentials} is for another key", _RENEW)]
    until_s = claims.get("exp")
    if not isinstance(until_s, int):
        return [Finding("broker-credentials", "ok", "broker credentials of this node, without an end")]
    until_at = datetime.fromtimestamp(until_s, UTC)
    found = [files.lifetime("broker-credentials", "broker credentials", until_at, _RENEW, _SHORT_DAYS)]
    if not settings.registry.url:
        do = "set [registry] url in gateway.toml: the gateway then gets new ones even when the broker refuses the old"
        found.append(Finding("broker-credentials", "warn", "[registry] url is not set", do))
    return found


_RENEW = (
    "the running gateway renews them by itself, with [registry] url in gateway.toml also when the broker refuses the"
    " old ones; otherwise lienthong node rotate broker --home HOME"
)


def check_registry(context: MemberContext) -> Iterable[Finding]:
    """The registry answers, proves itself, and its anchors follow from the genesis."""
    facts = context.home.facts
    context.seen = reaching.ask_registry(facts.registry, facts.genesis)
    size = context.seen.checkpoint.size
    return [Finding("registry", "ok", f"{facts.registry.partition('#')[0]} answers; the directory has {size} entries")]


def check_clock(context: MemberContext) -> Iterable[Finding]:
    """Our clock against the registry's signed time, and against peers as the gateway measured them."""
    limit_s = context.settings.limits.clock_skew_s
    do = "set this machine's clock (chronyc tracking, timedatectl); records of a wrong clock are dropped"
    if context.seen is None:
        yield Finding("clock", "warn", "the registry did not answer, so there is nothing to compare with", do)
    else:
        yield _clock("the registry", context.seen.ahead_s, limit_s, do)
    for peer, ahead_s in gateway.peer_clocks(context.home).items():
        yield _clock(peer, ahead_s, limit_s, do)


def _clock(whose: str, ahead_s: float, limit_s: float, do: str) -> Finding:
    state: State = "fail" if abs(ahead_s) > limit_s else "warn" if abs(ahead_s) > _CLOCK_WARN_S else "ok"
    if abs(ahead_s) < 1:
        return Finding("clock", state, f"agrees with {whose} within a second")
    return Finding("clock", state, f"{abs(ahead_s):.0f} s {'behind' if ahead_s > 0 else 'ahead of'} {whose}", do)


def check_directory_age(context: MemberContext) -> Iterable[Finding]:
    """The gateway's own copy of the directory is fresh and never contradicted itself."""
    name, limit_s = "directory-age", context.settings.directory.max_age_s
    path = context.home.data / "directory.db"
    if not path.exists():
        do = f"lienthong gateway --home {context.home.path}"
        yield Finding(name, "warn", "there is no copy of the directory: the gateway never ran here", do)
        return
    with local_follower(context.home) as follower:
        age_s = float("inf") if follower.as_of is None else (datetime.now(UTC) - follower.as_of).total_seconds()
        alarms = follower.alarms()
    state: State = "fail" if age_s > limit_s else "warn" if age_s > limit_s / 2 else "ok"
    do = "" if state == "ok" else "calls are refused when it is too old: start the gateway, look at broker and registry"
    yield Finding(name, state, f"confirmed {age_s:.0f} s ago; the limit is {limit_s:.0f} s", do)
    for alarm in alarms:
        do = "somebody showed another history: keep the files, ask the operator and other members which one they have"
        yield Finding(name, "fail", f"{alarm.kind} was seen", do)


def check_node(context: MemberContext) -> Iterable[Finding]:
    """The directory's statement about this node names the keys that lie here."""
    name, settings = "node-statement", context.settings
    log = FileSigner.load(settings.keys.log, passphrase_path=settings.keys.passphrase).public_bytes
    broker = FileSigner.load(settings.keys.broker, passphrase_path=settings.keys.passphrase).public_bytes
    stated = _stated_node(context)
    if stated is None:
        return [Finding(name, "fail", f"the directory has no statement about {settings.node}", _NODE)]
    origin = log_origin(settings.genesis, NodeId.parse(settings.node), settings.incarnation)
    wrong = [
        what
        for what, same in (
            ("log key", log in stated[0]),
            ("broker key", stated[1] == broker),
            ("log origin", stated[2] == origin),
        )
        if not same
    ]
    if wrong:
        return [Finding(name, "fail", f"the directory names another {' and '.join(wrong)} than this home has", _NODE)]
    named = Finding(name, "ok", "the directory names the log and broker keys of this home")
    return [named, *_next_log_key(context), *wire.check_wire(context.home, settings, stated[3])]


_NODE = "put back the keys of this node, or make a new node: lienthong node add CODE in a new home of the same member"


def _next_log_key(context: MemberContext) -> Iterator[Finding]:
    """At a further node: a next log key that may sign, and does not yet."""
    path, home = next_log_key(context.home), context.home
    if home.facts.node and path.exists():
        key = FileSigner.load(path, passphrase_path=context.settings.keys.passphrase).public_bytes
        since = usable_from(home, key)
        if since is not None and since <= datetime.now(UTC):
            seen = f"the next log key may sign since {since:%Y-%m-%d %H:%M}Z, and is not in use"
            yield Finding("node-statement", "warn", seen, f"lienthong node rotate log --home {home.path}")


def _stated_node(context: MemberContext) -> tuple[frozenset[bytes], bytes, str, int] | None:
    """Log keys that may sign, broker key, origin and announced wire.

    By the registry where it answers, otherwise by the own copy. The log keys are the one in first place and what has
    come to follow it; a key that is about to end is none of them.
    """
    node = context.settings.node
    if context.seen is not None:

        async def work(client: RegistryClient) -> Node | None:
            newest = await client.newest("node", node)
            document = None if newest is None else newest.document
            return document if isinstance(document, Node) else None

        found = call_registry(context.home.facts.registry, work)
        if found is None:
            return None
        now = datetime.now(UTC)
        begun = (one.key for one in found.log.others if one.until is None and parse_time(one.from_) <= now)
        keys = frozenset(decode_base64(key) for key in (found.log.key, *begun))
        return keys, decode_base64(found.broker_key), found.log.origin, found.wire
    with local_follower(context.home) as follower:
        entry = follower.directory.node(node)
        if entry is None:
            return None
        come = [one.key.public for one in entry.other_keys if one.until_at is None and one.usable(datetime.now(UTC))]
        return frozenset((entry.log_key.public, *come)), entry.broker_key, entry.origin, entry.wire


def check_trust(context: MemberContext) -> Iterable[Finding]:
    """Neither member, node nor keys were revoked, as far as the own copy of the directory knows."""
    if not (context.home.data / "directory.db").exists():
        return
    facts, settings = context.home.facts, context.settings
    own = key_id(FileSigner.load(settings.keys.log, passphrase_path=settings.keys.passphrase).public_bytes)
    with local_follower(context.home) as follower:
        directory = follower.directory
        ours: tuple[tuple[RevocationKind, str], ...] = (("member", facts.member), ("node", settings.node), ("key", own))
        for kind, target in ours:
            entry = directory.revocation(kind, target)
            if entry is not None:
                seen = f"{kind} revoked since {entry.since_at:%Y-%m-%d %H:%M}Z by {entry.author}"
                yield Finding("revoked", "fail", seen, "nobody accepts its records any more: ask the author why")
        yield from _sealing(context, directory)


def _sealing(context: MemberContext, directory: Directory) -> Iterable[Finding]:
    """Others have keys of ours to seal to, for a while yet, and we can open what they seal."""
    facts, settings, now = context.home.facts, context.settings, datetime.now(UTC)
    pairs = load_keys(settings.keys.sealing)
    for owner, use in ((facts.member, "query"), (settings.node, "answer")):
        entry = directory.sealing_key(owner, use, now)
        if entry is None:
            do = _renew_sealing(context, use)
            yield Finding("sealing-keys", "fail", f"the directory has no sealing key of {owner} for {use}", do)
        elif entry.keyid not in pairs[use]:
            do = f"put back its file into {settings.keys.sealing}, or {_renew_sealing(context, use)}"
            yield Finding("sealing-keys", "fail", f"the sealing key that others use for {use} is not here", do)
        else:
            yield _sealing_days(context, use, days_left(pairs[use], directory, now))


def _renew_sealing(context: MemberContext, use: str) -> str:
    """Where the member key lies elsewhere, its home makes what all nodes share; a node's own keys begin at the node."""
    home = context.home
    if not home.facts.node:
        return f"lienthong node rotate sealing --home {home.path}"
    if use == "answer":
        return f"lienthong node request --home {home.path} --days 30 --out FILE, for the member's home"
    home_does = f"lienthong node add {home.facts.node} --request FILE --bundle FILE"
    return f"in the member's home: {home_does}; here: lienthong node join"


def _sealing_days(context: MemberContext, use: str, days: float) -> Finding:
    """All keys of the coming days together: one follows the other."""
    if days == float("inf"):
        return Finding("sealing-keys", "ok", f"sealing keys for {use}, without an end")
    do = _renew_sealing(context, use)
    until_at = datetime.now(UTC) + timedelta(days=days)
    return files.lifetime("sealing-keys", f"sealing keys for {use}", until_at, do, _SHORT_DAYS)


def check_broker(context: MemberContext) -> Iterable[Finding]:
    """The broker takes the credentials and lets the node do what its role needs."""
    settings = context.settings
    signer = FileSigner.load(settings.keys.broker, passphrase_path=settings.keys.passphrase)
    anchor = None if context.seen is None else (context.home.facts.genesis, context.seen.anchor)
    found = reaching.try_broker(
        settings.broker.urls,
        settings.broker.ca,
        settings.node,
        lambda: settings.broker.credentials.read_text(encoding="ascii").strip(),
        signer.sign,
        subjects.inbox(settings.node),
        anchor,
    )
    urls = ", ".join(settings.broker.urls)
    if not found.connected:
        do = "is it running and reachable from here, and are the credentials this node's and current? ask the operator"
        return [Finding("broker", "fail", f"no connection to {urls}", do)]
    if found.denied or not found.own_inbox or found.problem:
        seen = "the broker denies what a node needs" if found.denied or not found.own_inbox else found.problem
        return [Finding("broker-permissions", "fail", seen, _RENEW)]
    age = "" if found.cosigned_at is None else f", directory of {found.cosigned_at:%H:%M:%S}Z"
    return [
        Finding("broker", "ok", f"connected to {urls}{age}"),
        Finding("broker-permissions", "ok", "own inbox and directory can be used"),
    ]


def check_broker_servers(context: MemberContext) -> Iterable[Finding]:
    """Each server of the broker takes the node's credentials."""
    settings = context.settings
    signer = FileSigner.load(settings.keys.broker, passphrase_path=settings.keys.passphrase)

    def reaches(url: str) -> bool:
        return reaching.try_broker(
            (url,),
            settings.broker.ca,
            settings.node,
            lambda: settings.broker.credentials.read_text(encoding="ascii").strip(),
            signer.sign,
            subjects.inbox(settings.node),
            None,
        ).connected

    do = "ask the operator whether it runs; if it does, let this machine reach it"
    return check_servers(settings.broker.urls, reaches, do)


def check_log(context: MemberContext) -> Iterable[Finding]:
    """The log can be read, and its newest checkpoint is signed by this node over the tree that is stored."""
    settings, path = context.settings, context.settings.data / "log.db"
    if not path.exists():
        return [Finding("log", "ok", "no log yet; the gateway begins it")]
    public = FileSigner.load(settings.keys.log, passphrase_path=settings.keys.passphrase).public_bytes
    origin = log_origin(settings.genesis, NodeId.parse(settings.node), settings.incarnation)
    return check_log_file("log", path, origin, public)


def check_log_file(name: str, path: Path, origin: str, public: bytes) -> list[Finding]:
    """A log's newest checkpoint verifies and is that of the stored tree; the last leaf is in it."""
    do = f"lienthong audit verify {path} says which leaf; keep the file, it is evidence"
    with LogReader(path) as reader:
        head, note = reader.head(), reader.note()
        found = verify_note(note, [VerifierKey(key_name(origin), public)])
        if (found.origin, found.size, found.root) != (origin, head.size, head.root):
            return [Finding(name, "fail", "the newest checkpoint is not that of the stored tree", do)]
        if head.size:
            reader.prove(head.size - 1)
    size_mb = path.stat().st_size / 1e6
    return [Finding(name, "ok", f"{head.size} records, {size_mb:.1f} MB, newest checkpoint verifies")]


def load_member(path: Path, call: gateway.TestCall | None) -> MemberContext:
    """The context of a home.

    Raises:
        HomeInvalid: it is not a member's.
    """
    _ = MemberHome(path).facts
    return MemberContext(MemberHome(path), call)


def check_home(context: MemberContext) -> Iterable[Finding]:
    """The home is a member's, and how far it is."""
    facts = context.home.facts
    state = context.home.path / "joining.json"
    said = json.loads(state.read_bytes()).get("state", "") if state.exists() else "approved"
    if said != "approved":
        do = f"lienthong join --status --home {context.home.path}"
        return [Finding("home", "warn", f"{facts.member}: the request for membership is {said}", do)]
    return [Finding("home", "ok", f"{facts.member} in {facts.instance}, genesis sha256:{facts.genesis[:16]}…")]


def check_disk(context: MemberContext) -> Iterable[Finding]:
    """There is room for the log."""
    return files.check_disk("disk", context.home.path)


def check_revocation_lists(context: MemberContext) -> Iterable[Finding]:
    """The lists that the anchor names."""
    if context.seen is None:
        return []
    settings = context.settings
    cache = None
    if reaching.listening_facts(settings.data):  # what the running gateway has is what decides
        cache = revocation.Cache(settings.data / "crl", settings.revocation)
    return revocation.check_lists(context.seen.anchor, context.home.certificate, cache)


def check_gateway(context: MemberContext) -> Iterable[Finding]:
    """Ports, readiness, and the test call."""
    return gateway.check_gateway(context.home, context.settings, context.call)


_REGISTRY = "gateways go on without it for a while: ask the operator; is the address in member.json right?"
MEMBER_CHECKS: tuple[Check[MemberContext], ...] = (
    Check("home", check_home, "make it with lienthong join"),
    Check("settings", check_settings, _SETTINGS),
    Check("file-modes", check_modes, "make the files readable"),
    Check("disk", check_disk, "look at the disk"),
    Check("registry", check_registry, _REGISTRY),
    Check("clock", check_clock, "make the settings usable first"),
    Check(
        "member-certificate",
        check_member_certificate,
        "lienthong join --status gets it; another key: lienthong member rotate",
    ),
    Check("revocation-lists", check_revocation_lists, "make the member certificate readable first"),
    Check("front-certificate", check_front_certificate, "lienthong node rotate tls --home HOME"),
    Check("node-statement", check_node, _NODE),
    Check("broker-credentials", check_credentials, _RENEW),
    Check("broker", check_broker, "make keys, credentials and the authority of the broker readable"),
    Check(SERVERS, check_broker_servers, "make keys, credentials and the authority of the broker readable"),
    Check(
        "directory-age", check_directory_age, "remove data/directory.db with the gateway stopped: it is fetched again"
    ),
    Check("sealing-keys", check_trust, f"make the key files usable: {_KEYS_HELP}"),
    Check("log", check_log, "lienthong audit verify says what is wrong; keep the file, it is evidence"),
    Check("gateway", check_gateway, "make the settings usable first"),
)
