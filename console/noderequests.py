"""A further node of a member, on its own machine: keys and a request, then the bundle that the member's home made.

This home never has the member key, nor the store of what the member signed: it enforces what the directory has under
the member's signature (`registry.followed`). The genesis is told to this machine by people, as at joining; everything
in a bundle is checked against it. `furthernodes` is the other side.
"""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from bus.gateway.sealingkeys import load_keys, write_key
from bus.sealing.keys import SealingKeyPair
from bus.transport import nkeys
from console.furtherlogkey import exchange, make_next, next_log_key, take, was_exchanged
from console.homes import HomeInvalid, MemberFacts, MemberHome, read_facts, replace_file, write_new
from console.joining import Invitation
from console.membership import call_registry, parse_genesis
from console.nodebundle import (
    AnswerKey,
    BundleRefused,
    Contents,
    NodeRequest,
    PublicKey,
    SharedKey,
    now_text,
    open_bundle,
    read_request,
    request_id,
    sign_request,
)
from console.nodes import SEALING_DAYS, Place, finish, node_keys
from console.rotation import log_head, reload_gateway
from console.statements import Stated
from evidence.identifiers import MemberId, NodeId
from evidence.signer import FileSigner, generate_key_file
from registry.client import RegistryClient
from registry.documents import parse_time
from registry.errors import RegistryUnavailable

SIGNERS = "keys/member-signers.json"
_PART = re.compile(r"service-[A-Za-z0-9'()+,.=-]{1,200}\.toml")
_LEAD = timedelta(days=1)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """How far this home is; `node-request.json` in it.

    Attributes:
        request: The newest request, signed.
        settled: Whether a bundle answered it.
        bundle: When the newest bundle that was taken was issued; empty before the first.
        passphrase: File under whose passphrase log and broker key are.
    """

    request: str
    settled: bool = False
    bundle: str = ""
    passphrase: str = ""


def ask(home: MemberHome, member: str, genesis: str, code: str, passphrase: Path | None, out: Path) -> dict[str, Any]:
    """Makes the home of a further node with its keys, and its request.

    Done again before a bundle answered it, it writes the same request.

    Args:
        home: a new folder, or that of an earlier try.
        member: whose node.
        genesis: `sha256:…`, as people told.
        code: of the node.
        passphrase: file with the passphrase for log and broker key.
        out: where the request goes.

    Raises:
        HomeInvalid: the folder belongs to something else, or `out` exists.
    """
    node = NodeId(MemberId.parse(member), code)
    facts = MemberFacts(
        member=member, genesis=parse_genesis(genesis), instance=node.member.instance, registry="", node=code
    )
    if not (home.path / "member.json").exists():
        home.write_facts(facts)
    elif msgspec.structs.replace(home.facts, registry="") != facts:
        raise HomeInvalid(
            f"{home.path} belongs to something else than a further node {code} of {member}; choose another folder"
        )
    asked = _asked(home)
    if asked is None:
        now = datetime.now(UTC)
        windows = [(now - timedelta(minutes=1), now + timedelta(days=SEALING_DAYS))]
        asked = _compose(home, windows, "" if passphrase is None else str(passphrase.resolve()), "")
    elif asked.settled:
        raise HomeInvalid(
            f"{home.path} is a node already; further keys for answers: lienthong node request --home {home.path} "
            "--days 30 --out FILE"
        )
    return _write(home, asked, out)


def ask_again(
    home: MemberHome, days: int, out: Path, *, broker_key: bool = False, log_key: bool = False
) -> dict[str, Any]:
    """A request for the coming days: a further key for answers for each, beginning in a day.

    Args:
        home: of a further node.
        days: how many.
        out: where the request goes.
        broker_key: whether it names a new broker key; the next request does, too, until the bundle came.
        log_key: whether it names a next log key; the next request does, too, until that key signs.

    Raises:
        HomeInvalid: this is not the home of a further node, or `out` exists.
    """
    if not home.facts.node:
        raise HomeInvalid("this is the member's own home; here the command is lienthong node rotate sealing")
    asked = _asked(home)
    if asked is None:
        raise HomeInvalid(f"nothing was asked for from {home.path}; begin with lienthong node request CODE --member …")
    passphrase = Path(asked.passphrase) if asked.passphrase else None
    if broker_key and not _next_broker_key(home).exists():
        generate_key_file(_next_broker_key(home), "ed25519", passphrase_path=passphrase)
    if log_key:
        make_next(home, passphrase)
    if asked.settled or not _names_all(home, asked):
        start, day = datetime.now(UTC) + _LEAD, timedelta(days=1)
        windows = [(start + number * day, start + (number + 2) * day) for number in range(days)]
        asked = _compose(home, windows, asked.passphrase, asked.bundle)
    return _write(home, asked, out)


def _compose(home: MemberHome, windows: list[tuple[datetime, datetime]], passphrase: str, bundle: str) -> Asked:
    facts = home.facts
    home.keys.mkdir(mode=0o700, exist_ok=True)
    log, broker, *following = _keys(home, passphrase)
    owner, folder = f"{facts.member}/@{facts.node}", home.keys / "sealing"
    keys = []
    for begin, end in windows:
        pair = SealingKeyPair.generate()
        write_key(folder, owner, "answer", pair)
        keys.append(AnswerKey(key=PublicKey.of(pair), valid_from=now_text(begin), until=now_text(end)))
    request = NodeRequest(
        member=facts.member,
        node=facts.node,
        issued=now_text(datetime.now(UTC)),
        log=_b64(log.public_bytes),
        broker=_b64(broker.public_bytes),
        bundle=PublicKey.of(_bundle_key(home)),
        answers=tuple(keys),
        next_log=_b64(following[0].public_bytes) if following else "",
        head=log_head(home) if following or was_exchanged(home) else None,
    )
    signed = sign_request(request, facts.genesis, log, broker, *following)
    asked = Asked(request=signed.decode(), passphrase=passphrase, bundle=bundle)
    replace_file(home.path / "node-request.json", msgspec.json.encode(asked), 0o644)
    return asked


def _next_broker_key(home: MemberHome) -> Path:
    """Beside the present key, where the gateway finds it: it connects with whichever its credentials are for."""
    return home.keys / "broker.next.pem"


def _keys(home: MemberHome, passphrase: str) -> list[FileSigner]:
    """Log key, the broker key to be named (the next one, where there is one), and the next log key, if there is one."""
    path = Path(passphrase) if passphrase else None
    log, broker = node_keys(home, path)
    if _next_broker_key(home).exists():
        broker = FileSigner.load(_next_broker_key(home), passphrase_path=path)
    return [log, broker, *([make_next(home, path)] if next_log_key(home).exists() else [])]


def _names_all(home: MemberHome, asked: Asked) -> bool:
    """Whether the stored request names the keys that lie here now; an unanswered one may name those before."""
    facts = home.facts
    stored = read_request(asked.request.encode(), facts.genesis, facts.member)
    named = [stored.log, stored.broker, *([stored.next_log] if stored.next_log else [])]
    return named == [_b64(one.public_bytes) for one in _keys(home, asked.passphrase)]


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bundle_key(home: MemberHome) -> SealingKeyPair:
    path = home.keys / "bundle.json"
    if path.exists():
        return read_facts(path, SharedKey, "lienthong node request").load()
    pair = SealingKeyPair.generate()
    stored = SharedKey(kem=pair.public_key.kem, private=_b64(pair.private))
    write_new(path, msgspec.json.encode(stored))
    return pair


def _asked(home: MemberHome) -> Asked | None:
    path = home.path / "node-request.json"
    return read_facts(path, Asked, "lienthong node request") if path.exists() else None


def _write(home: MemberHome, asked: Asked, out: Path) -> dict[str, Any]:
    facts, data = home.facts, asked.request.encode()
    if not (out.exists() and out.read_bytes() == data):
        write_new(out, data, 0o644)
    return {"node": f"{facts.member}/@{facts.node}", "request": request_id(data), "out": out, "home": home.path}


# The bundle ---------------------------------------------------------------------------------------------------------


def install(home: MemberHome, bundle: Path, place: Place) -> dict[str, Any]:
    """Takes a bundle: the first one makes the node, a later one brings keys, rights' signers and back ends up to date.

    Done again after it broke off, it goes on; the settings come last.

    Raises:
        BundleRefused: it is not for this node, older than the one that was taken, or the node was revoked.
        HomeInvalid: nothing was asked for from here, or an address cannot be one.
    """
    facts, asked = home.facts, _asked(home)
    if not facts.node or asked is None:
        raise HomeInvalid(f"{home.path} is not the home of a further node; begin with lienthong node request")
    place.check()
    contents = open_bundle(
        bundle.read_bytes(),
        genesis=facts.genesis,
        member=facts.member,
        node=facts.node,
        pair=_bundle_key(home),
        at=datetime.now(UTC),
    )
    if asked.bundle and parse_time(contents.issued) < parse_time(asked.bundle):
        raise BundleRefused(
            f"the bundle is of {contents.issued}, older than the one of {asked.bundle} that this node has"
        )
    told = _refuse_revoked(home, contents)
    taken = _take(home, contents)
    made = not home.settings.exists()
    if made:
        _make(home, asked, contents, place)
    exchanged = _take_broker_key(home, asked)
    log = take(home, Path(asked.passphrase) if asked.passphrase else None, datetime.now(UTC))
    replace_file(
        home.path / "node-request.json",
        msgspec.json.encode(msgspec.structs.replace(asked, settled=True, bundle=contents.issued)),
        0o644,
    )
    return {
        "node": f"{facts.member}/@{facts.node}",
        "made": made,
        "sealing_keys": taken,
        "broker_key_exchanged": exchanged,
        "log_key_exchanged": log.exchanged,
        "log_key_waits": log.is_waiting,
        "log_key_usable_from": log.usable_from,
        "registry_asked": told,
        "settings": home.settings,
        "reloaded": not made and reload_gateway(home),
    }


def _refuse_revoked(home: MemberHome, contents: Contents) -> bool:
    """Whether the registry could be asked. Without it nothing is lost: a revoked node's gateway refuses every call."""
    facts = home.facts

    async def work(client: RegistryClient) -> list[str]:
        targets = (f"node:{facts.member}/@{facts.node}", f"member:{facts.member}")
        return [target for target in targets if await client.newest("revocation", target) is not None]

    try:
        revoked = call_registry(contents.registry, work)
    except RegistryUnavailable:
        return False
    if revoked:
        raise BundleRefused(
            f"trust in {revoked[0].partition(':')[2]} was withdrawn: its bundles count no more. A machine that is to "
            "serve again asks anew, in a new home and under another name: lienthong node request"
        )
    return True


def _take(home: MemberHome, contents: Contents) -> int:
    """Writes everything but the settings; how many sealing keys were new."""
    facts = home.facts
    replace_file(
        home.path / "member.json",
        msgspec.json.encode(msgspec.structs.replace(facts, registry=contents.registry)),
        0o644,
    )
    kept = Invitation(genesis=facts.genesis, anchors=list(contents.anchors))
    replace_file(home.anchors, msgspec.json.encode(kept), 0o644)
    replace_file(home.path / "ca.pem", contents.ca.encode(), 0o644)
    replace_file(home.certificate, contents.certificate.encode(), 0o644)
    replace_file(home.path / SIGNERS, msgspec.json.encode(sorted(contents.signers)), 0o644)
    folder, taken = home.keys / "sealing", 0
    for unfinished in folder.glob(".*.json.new"):
        unfinished.unlink(missing_ok=True)
    known = load_keys(folder)["query"]
    for pair in (shared.load() for shared in contents.sealing):
        if pair.keyid not in known:
            write_key(folder, facts.member, "query", pair)
            taken += 1
    home.settings_parts.mkdir(mode=0o755, exist_ok=True)
    for name, text in contents.services.items():
        if not _PART.fullmatch(name):
            raise BundleRefused(f"the bundle has settings of an impossible name: {name[:80]!r}")
        if not (home.settings_parts / name).exists():  # what was changed for this machine stays
            replace_file(home.settings_parts / name, text.encode(), 0o644)
    if home.settings.exists() and _is_no_older(contents.credentials, home.keys / "broker.jwt"):
        replace_file(home.keys / "broker.jwt", contents.credentials.encode())
    return taken


def _take_broker_key(home: MemberHome, asked: Asked) -> bool:
    """Whether the credentials that are here are for the next broker key: then it takes the present one's place."""
    following, credentials = _next_broker_key(home), home.keys / "broker.jwt"
    if not following.exists():
        return False
    broker = FileSigner.load(following, passphrase_path=Path(asked.passphrase) if asked.passphrase else None)
    try:
        holder = nkeys.decode_claims(credentials.read_text(encoding="ascii").strip()).get("sub")
    except (OSError, ValueError, IndexError, msgspec.MsgspecError):
        return False
    if holder != nkeys.public_text("user", broker.public_bytes):
        return False
    following.replace(home.keys / "broker.pem")
    return True


def exchange_log_key(home: MemberHome, *, wait: bool) -> dict[str, Any]:
    """Lets the next log key sign, as `furtherlogkey.exchange`.

    Raises:
        HomeInvalid: there is no next key, or it may not sign yet.
    """
    asked = _asked(home)
    passphrase = Path(asked.passphrase) if asked is not None and asked.passphrase else None
    return exchange(home, passphrase, wait=wait)


def _is_no_older(jwt: str, path: Path) -> bool:
    """Whether credentials were minted no earlier than those that are here: a running gateway renews its own."""
    try:
        there = nkeys.decode_claims(path.read_text(encoding="ascii").strip()).get("iat")
        return int(str(nkeys.decode_claims(jwt).get("iat"))) >= int(str(there))
    except (OSError, ValueError, IndexError, msgspec.MsgspecError):
        return True


def _make(home: MemberHome, asked: Asked, contents: Contents, place: Place) -> None:
    facts = home.facts
    passphrase = Path(asked.passphrase) if asked.passphrase else None
    log, broker = node_keys(home, passphrase)
    node = NodeId(MemberId.parse(facts.member), facts.node)
    finish(
        home,
        Stated(node, log.public_bytes, broker.public_bytes, ()),
        Place(place.front, place.admin, place.hosts, passphrase),
        contents.credentials,
        contents.broker_urls,
        f'member_signers = "{SIGNERS}"\n',
    )
