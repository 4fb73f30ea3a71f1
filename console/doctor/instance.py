"""The checks of an instance's home: what the operator answers for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bus.transport import nkeys
from console.brokercluster import folder_of
from console.doctor import files, guests, reaching
from console.doctor.findings import Check, Finding, State
from console.doctor.member import check_log_file
from console.doctor.servers import COPIES, SERVERS, check_copies, check_servers
from console.homes import InstanceHome
from console.instance import read_broker_identity
from console.membership import call_registry
from console.operators import OperatorHome, keys_at_hand
from evidence.signer import FileSigner
from registry.checkpoints import directory_origin
from registry.documents import Anchor
from registry.listaddresses import authorities_by_url

_KEYS_HELP = 'see "Keys, certificates and credentials" in docs/operations.md'


@dataclass(slots=True)
class InstanceContext:
    """An instance's home and what earlier checks saw.

    Attributes:
        home: The home.
        seen: What the registry answered; None while it was not asked or did not answer.
    """

    home: InstanceHome
    seen: reaching.RegistrySeen | None = None


def load_instance(path: Path) -> InstanceContext:
    """The context of a home.

    Raises:
        HomeInvalid: it is not an instance's.
    """
    _ = InstanceHome(path).facts
    return InstanceContext(InstanceHome(path))


def check_home(context: InstanceContext) -> Iterable[Finding]:
    """The home is an instance's."""
    facts = context.home.facts
    return [Finding("home", "ok", f"instance {facts.instance}, genesis sha256:{facts.genesis[:16]}…")]


def check_modes(context: InstanceContext) -> Iterable[Finding]:
    """Private keys are the owner's alone."""
    return files.check_modes("file-modes", context.home.path.rglob("*.pem"))


def check_disk(context: InstanceContext) -> Iterable[Finding]:
    """There is room for the directory and the broker's streams."""
    return files.check_disk("disk", context.home.path)


def check_certificates(context: InstanceContext) -> Iterable[Finding]:
    """Authority, broker, registry, operators."""
    home = context.home
    tls = f"lienthong operator tls --home {home.path}; then start broker and registry again"
    wanted = [
        ("authority of the instance", home.ca / "ca.crt", ""),
        ("TLS of the broker", home.broker / "tls.crt", tls),
    ]
    for server in home.facts.broker_servers:
        folder = folder_of(home, server.number)
        if (folder / "tls.crt").exists():  # what was carried away is not looked at here
            wanted += [
                (f"{what} of broker {server.number}", folder / name, tls)
                for what, name in (("TLS", "tls.crt"), ("route", "route.crt"))
            ]
    if home.facts.registry_scheme == "https":
        wanted.append(("TLS of the registry", home.registry / "tls.crt", tls))
    key = f"lienthong operator key FOLDER --home {home.path}; then operator anchor --add FOLDER --drop OLD"
    folders = sorted(home.operators.glob("*"))
    wanted += [(f"operator key {folder.name}", OperatorHome(folder).certificate, key) for folder in folders]
    for what, path, do in wanted:
        yield from files.check_certificate("certificates", what, path, do)


def check_ports(context: InstanceContext) -> Iterable[Finding]:
    """Each process listens where it should, or its port is free."""
    facts, home = context.home.facts, context.home
    listening = [("registry", home.registry, facts.registry_listen)]
    if not facts.broker_servers:  # the servers of a cluster listen on machines of their own
        listening.insert(0, ("broker", home.broker, facts.broker_listen))
    for role, folder, listen in listening:
        start = f"lienthong {role} --home {home.path}"
        free = reaching.is_free(listen)
        if reaching.listening_facts(folder) and not free:
            yield Finding("ports", "ok", f"the {role} listens at {listen}")
        elif free:
            yield Finding(role, "fail", f"the {role} does not run; {listen} is free", start)
        else:
            do = f"end what listens there (ss -ltnp), then {start}"
            yield Finding("ports", "fail", f"{listen} of the {role} is in use by another program", do)


def check_registry(context: InstanceContext) -> Iterable[Finding]:
    """The registry answers and proves itself; its clock; requests that wait."""
    facts = context.home.facts
    context.seen = seen = reaching.ask_registry(facts.registry_url, facts.genesis)
    yield Finding("registry", "ok", f"answers; the directory has {seen.checkpoint.size} entries")
    state: State = "ok" if abs(seen.ahead_s) < 2 else "fail"
    do = "" if state == "ok" else "set the clocks of this machine and of the registry's"
    yield Finding("clock", state, f"the registry's clock and ours differ by {abs(seen.ahead_s):.0f} s", do)
    requests = call_registry(facts.registry_url, lambda client: client.requests())
    pending = sum(request.state == "pending" for request in requests)
    if pending:
        do = f"lienthong member list --home {context.home.path}"
        yield Finding("requests", "warn", f"{pending} requests for membership wait", do)


def check_operators(context: InstanceContext) -> Iterable[Finding]:
    """Whether the keys that lie here suffice, and whether more lie here than should."""
    if context.seen is None:
        return
    anchor = context.seen.anchor
    known = {one.keyid for one in anchor.operators}
    here = [key for key in keys_at_hand(context.home) if key.keyid in known]
    seen = f"{len(here)} of {len(known)} operator keys lie here; {anchor.threshold} sign"
    if anchor.threshold > 1 and len(here) >= anchor.threshold:
        do = f"carry the folders below {context.home.operators} to their holders: who owns this machine is the operator"
        yield Finding("operator-keys", "warn", seen, do)
    else:
        yield Finding("operator-keys", "ok", seen)


def check_list_addresses(context: InstanceContext) -> Iterable[Finding]:
    """Every address of revocation lists says whose list it has to give."""
    if context.seen is None or not context.seen.anchor.revocation_lists:
        return
    named = context.seen.anchor.revocation_lists
    open_ = [url for url, expected in authorities_by_url(named).items() if not expected]
    if open_:
        seen = f"the anchor does not say whose list {', '.join(open_[:3])} has to give: another's there is not noticed"
        do = f"lienthong certificate lists {' '.join(open_[:3])} --authority FILE --home {context.home.path}"
        yield Finding("revocation-lists", "warn", seen, do)
    else:
        yield Finding("revocation-lists", "ok", f"{len(named)} addresses, each with its authority")


def check_log(context: InstanceContext) -> Iterable[Finding]:
    """The directory's log can be read, and its newest checkpoint verifies."""
    home, facts = context.home, context.home.facts
    path = home.registry / "directory.db"
    if not path.exists():
        return [Finding("log", "ok", "no directory yet; the registry begins it")]
    public = FileSigner.load(home.keys / "directory.pem").public_bytes
    return check_log_file("log", path, directory_origin(facts.genesis, facts.instance), public)


def _broker_urls(context: InstanceContext) -> tuple[str, ...]:
    facts = context.home.facts
    host, _, port = facts.broker_listen.rpartition(":")
    if host in {"0.0.0.0", "[::]", "::"}:  # noqa: S104 - asked, not bound
        return (f"tls://127.0.0.1:{port}",)
    return facts.broker_urls


def _try_broker(home: InstanceHome, urls: tuple[str, ...], anchor: tuple[str, Anchor] | None) -> reaching.BrokerSeen:
    identity = read_broker_identity(home)
    signer = FileSigner.load(home.broker / "registry.pem")
    return reaching.try_broker(
        urls, home.ca / "ca.crt", "doctor", lambda: identity.registry_user_jwt, signer.sign, "_I.registry.", anchor
    )


def check_broker_servers(context: InstanceContext) -> Iterable[Finding]:
    """Each server of a cluster takes the registry's credentials."""
    home = context.home
    do = f"start it: lienthong broker --home {home.path} --server N, or with the folder that was carried to its machine"
    return check_servers(_broker_urls(context), lambda url: _try_broker(home, (url,), None).connected, do)


def check_broker_copies(context: InstanceContext) -> Iterable[Finding]:
    """Each server of a cluster has caught up; before that no other one should be stopped."""
    home, urls = context.home, _broker_urls(context)
    if len(urls) < 2 or not (home.broker / "streams.pem").exists():
        return ()
    account = FileSigner.load(home.broker / "streams.pem")
    return check_copies(reaching.look_at_copies(urls, home.ca / "ca.crt", account))


def check_broker(context: InstanceContext) -> Iterable[Finding]:
    """The broker takes the registry's credentials and has the directory, freshly confirmed."""
    home, facts = context.home, context.home.facts
    signer = FileSigner.load(home.broker / "registry.pem")
    anchor = None if context.seen is None else (facts.genesis, context.seen.anchor)
    found = _try_broker(home, _broker_urls(context), anchor)
    if not found.connected:
        do = f"lienthong broker --home {home.path}; its log says why it ended or refused"
        yield Finding("broker", "fail", f"no connection to {facts.broker_listen} as the registry", do)
        return
    yield Finding("broker", "ok", f"connected as {nkeys.public_text('user', signer.public_bytes)[:12]}…")
    if anchor is None:
        return
    if found.cosigned_at is None:
        do = "is the registry connected? lienthong_registry_broker_connected in its metrics; start it again"
        yield Finding("directory-age", "fail", f"the broker has no directory: {found.problem}", do)
        return
    age_s = (datetime.now(UTC) - found.cosigned_at).total_seconds()
    state: State = "fail" if age_s > 10 * facts.heartbeat_s else "warn" if age_s > 3 * facts.heartbeat_s else "ok"
    do = (
        ""
        if state == "ok"
        else f"the registry does not publish: look at its log, start lienthong registry --home {home.path}"
    )
    yield Finding("directory-age", state, f"what gateways are told was confirmed {age_s:.0f} s ago", do)


_START = "lienthong registry --home INSTANCE; its last log line says why it ended"
INSTANCE_CHECKS: tuple[Check[InstanceContext], ...] = (
    Check("home", check_home, "make it with lienthong init instance"),
    Check("file-modes", check_modes, "make the files readable"),
    Check("disk", check_disk, "look at the disk"),
    Check("certificates", check_certificates, f"put it back or renew it: {_KEYS_HELP}"),
    Check("ports", check_ports, "correct the addresses"),
    Check("registry", check_registry, _START),
    Check("operator-keys", check_operators, "make the key files usable"),
    Check("revocation-lists", check_list_addresses, "lienthong certificate lists"),
    Check(
        guests.GUESTS,
        lambda context: guests.check_guests(context.home),
        "put broker/guests.json back from a backup, then start the registry again",
    ),
    Check(
        guests.STREAMS,
        lambda context: guests.check_streams_key(context.home),
        "put broker/streams.pem back from a backup; an instance without it: lienthong broker upgrade",
    ),
    Check("broker", check_broker, "make keys and identity of the broker readable"),
    Check(SERVERS, check_broker_servers, "make keys and identity of the broker readable"),
    Check(COPIES, check_broker_copies, "is a server of the broker up? lienthong broker --home INSTANCE --server N"),
    Check("log", check_log, "lienthong audit verify says what is wrong; keep the file, it is evidence"),
)
