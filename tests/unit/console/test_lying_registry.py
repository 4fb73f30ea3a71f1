"""What a registry answers is never signed again unread: commands of members against one that lies about documents."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from console_world import CONTRACT, INSTANCE, fails, run, run_json
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from office import Office

from bus.sealing.keys import SealingKeyPair
from console.homes import InstanceHome, MemberHome
from console.instance import load_authority
from console.membership import Speaker, call_registry
from console.operators import OperatorHome
from console.services import own_store
from console.views import local_directory
from evidence.header import encode_time
from evidence.identifiers import MemberId
from evidence.issue import issue_member, self_sign_member, to_pem
from evidence.signer import FileSigner, public_key_of_pem
from registry.client import NewestDocument, RegistryClient, RequestDetail
from registry.documents import (
    AnyDocument,
    Catalogue,
    LogKeyWindow,
    Member,
    Node,
    PinnedKey,
    Sealing,
    Service,
    decode,
    encode,
)
from registry.envelope import add_signature, read_envelope, sign_document
from registry.publickeys import key_id
from registry.requests import MemberRequest

Change = Callable[[AnyDocument], AnyDocument]
Lie = Callable[[str, Change], None]


def member(office: Office, code: str) -> Path:
    home = office.admit(code)
    run("subsystem", "add", "desk", "--home", home)
    return home


def node(office: Office, code: str) -> Path:
    home = member(office, code)
    run("node", "add", "n1", "--home", home)
    return home


@contextmanager
def lying(kind: str, change: Change, *, resigned: bool = False, bare: bool = False) -> Iterator[None]:
    """A registry whose newest document of a type is another one than was signed.

    Args:
        kind: type of document.
        change: what it says instead.
        resigned: signed by a key of the registry's choice, with a certificate that names the member.
        bare: as registries once answered, without the signed bytes.
    """
    honest = RegistryClient.newest

    async def newest(self: RegistryClient, type_: str, subject: str) -> NewestDocument | None:
        found = await honest(self, type_, subject)
        if type_ != kind or found is None:
            return found
        document = change(found.document)
        jws = "" if bare else _forged(found.jws, document, resigned=resigned)
        return msgspec.structs.replace(found, payload=encode(document).decode(), jws=jws)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RegistryClient, "newest", newest)
        yield


def _forged(signed: str, document: AnyDocument, *, resigned: bool) -> str:
    general = json.loads(signed)
    protected = general.get("protected") or general["signatures"][0]["protected"]
    header = json.loads(base64.urlsafe_b64decode(protected + "=="))
    if not resigned:
        general["payload"] = base64.urlsafe_b64encode(encode(document)).decode().rstrip("=")
        return json.dumps(general, separators=(",", ":"))
    signer, now, day = FileSigner.generate("p256"), datetime.now(UTC), timedelta(days=1)
    own = MemberId.parse("/".join(document.subject.partition("#")[0].split("/")[:3]))
    chain = [self_sign_member(signer, own, not_before_at=now - day, not_after_at=now + day)]
    return sign_document(document, signer, chain, header["genesis"]).decode()


def with_log_key(thief: FileSigner) -> Change:
    since = encode_time(datetime.now(UTC) - timedelta(days=1))
    window = LogKeyWindow(key=base64.b64encode(thief.public_bytes).decode(), from_=since)

    def change(document: AnyDocument) -> AnyDocument:
        assert isinstance(document, Node)
        log = msgspec.structs.replace(document.log, others=(*document.log.others, window))
        return msgspec.structs.replace(document, log=log)

    return change


NODE_COMMANDS = (("rotate", "broker"), ("rotate", "log", "--prepare"))


@pytest.mark.parametrize("how", [{}, {"resigned": True}, {"bare": True}], ids=["altered", "resigned", "unsigned"])
def test_a_foreign_log_key_is_not_signed(office: Office, how: dict[str, bool]) -> None:
    home, thief = node(office, f"L{len(how)}{'r' if 'resigned' in how else 'b'}"), FileSigner.generate("ed25519")
    with lying("node", with_log_key(thief), **how):
        for command in NODE_COMMANDS:
            assert fails("node", *command, "--home", home) == "predecessor-unproven"
    run("node", "rotate", "broker", "--home", home)
    office.registry.follow(home)
    with local_directory(MemberHome(home)) as directory:
        entry = directory.node(f"{INSTANCE}/GOV/{home.name}/@n1")
        assert entry is not None
        keys = {one.public for one in entry.keys_at(datetime.now(UTC))}
    assert keys == {FileSigner.load(home / "keys/log.pem").public_bytes}


def test_a_key_that_no_file_has_is_refused_until_it_is_revoked(office: Office) -> None:
    """The member's key was stolen once: the directory has a genuine statement with the thief's log key."""
    home, thief = node(office, "L4"), FileSigner.generate("ed25519")
    speaker = Speaker.member(MemberHome(home))
    before = call_registry(speaker.url, lambda client: client.newest("node", f"{INSTANCE}/GOV/L4/@n1"))
    assert before is not None
    stolen = msgspec.structs.replace(
        with_log_key(thief)(before.document), seq=1, prev=before.digest, issued=encode_time(datetime.now(UTC))
    )
    signed = sign_document(stolen, speaker.signer, speaker.chain, speaker.genesis)
    call_registry(speaker.url, lambda client: client.submit(signed))
    refused = run("node", "rotate", "broker", "--home", home, code=1).stderr
    foreign = key_id(thief.public_bytes)
    assert "error [key-not-own]" in refused
    assert f"lienthong key revoke {foreign}" in refused
    run("key", "revoke", foreign, "--reason", "not ours", "--home", home)
    run("node", "rotate", "broker", "--home", home)


def test_earlier_log_keys_of_the_home_are_named_again(office: Office) -> None:
    home = node(office, "L5")
    for _ in range(2):
        run("node", "rotate", "log", "--prepare", "--delay-s", "0", "--home", home)
        run("node", "rotate", "log", "--activate", "--home", home)
    run("node", "rotate", "broker", "--home", home)
    retired = list((home / "keys/retired").glob("log-*.pub"))
    assert len(retired) == 2
    public = public_key_of_pem(retired[0])
    retired[0].unlink()
    said = run("node", "rotate", "broker", "--home", home, code=1).stderr
    assert key_id(public) in said
    pem = said.partition("its PEM: ")[2].partition(")")[0]
    retired[0].write_text(f"-----BEGIN PUBLIC KEY-----\n{pem}\n-----END PUBLIC KEY-----\n")
    run("node", "rotate", "broker", "--home", home)


def test_a_foreign_sealing_key_is_not_signed(office: Office) -> None:
    home, spy = node(office, "S1"), SealingKeyPair.generate()

    def change(document: AnyDocument) -> AnyDocument:
        assert isinstance(document, Sealing)
        owner, public = document.owner, base64.b64encode(spy.public_key.public).decode()
        return msgspec.structs.replace(document, subject=f"{owner}#{spy.keyid}", public=public)

    for how in ({}, {"resigned": True}, {"bare": True}):
        with lying("sealing", change, **how):
            assert fails("node", "rotate", "sealing", "--days", "1", "--home", home) == "predecessor-unproven"
    run("node", "rotate", "sealing", "--days", "1", "--home", home)
    office.registry.follow(home)
    with local_directory(MemberHome(home)) as directory:
        assert directory.sealing_key_by_id(spy.keyid) is None


def test_a_genuine_document_of_another_chain_is_not_taken(office: Office) -> None:
    home = node(office, "S2")
    member_id, honest = f"{INSTANCE}/GOV/S2", RegistryClient.newest

    async def newest(self: RegistryClient, type_: str, subject: str) -> NewestDocument | None:
        [other] = (one for one in subjects if one != subject)
        return await honest(self, type_, other)

    files = [json.loads(path.read_text()) for path in sorted((home / "keys/sealing").iterdir())]
    pairs = [SealingKeyPair.load(one["kem"], base64.b64decode(one["private"])) for one in files]
    subjects = [f"{one['owner']}#{pair.keyid}" for one, pair in zip(files, pairs, strict=True)]
    assert {one.partition("#")[0] for one in subjects} == {member_id, f"{member_id}/@n1"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RegistryClient, "newest", newest)
        assert fails("node", "rotate", "sealing", "--days", "1", "--home", home) == "predecessor-unproven"


def provider(office: Office, code: str, folder: Path) -> Path:
    home = member(office, code)
    (folder / "c.json").write_text(CONTRACT)
    (folder / "s.toml").write_text('base_url = "http://127.0.0.1:9/"\n')
    publish(home, folder)
    return home


def publish(home: Path, folder: Path) -> None:
    given = ("--contract", folder / "c.json", "--kind", "http", "--settings", folder / "s.toml")
    run("service", "publish", "desk/citizens", "--home", home, *given)


def test_a_contract_without_its_marks_is_not_signed(office: Office, tmp_path: Path) -> None:
    home = provider(office, "P1", tmp_path)
    unmarked = CONTRACT.replace(', "x-lienthong-field": "religion"', "").encode()
    digest = hashlib.sha256(unmarked).hexdigest()
    call_registry(MemberHome(home).facts.registry, lambda client: client.put_contract(digest, unmarked))

    def change(document: AnyDocument) -> AnyDocument:
        assert isinstance(document, Service)
        return msgspec.structs.replace(document, contract=digest, fields=(), version="2.0")

    off = ("service", "disable", "desk/citizens", "--notice", "back soon", "--home", home)
    by_path = ("--operation", "GET /citizens/{number}")
    grant = ("access", "grant", f"{INSTANCE}/GOV/H37/x", "desk/citizens", "--any", *by_path, "--home", home)
    for how in ({}, {"resigned": True}, {"bare": True}):
        with lying("service", change, **how):
            assert fails(*off) == "predecessor-unproven"
            assert fails(*grant) == "predecessor-unproven"
    run(*off)
    run(*grant)
    store = own_store(MemberHome(home))
    entry = store.state.service(f"{INSTANCE}/GOV/P1/desk/citizens")
    store.close()
    assert entry is not None
    assert (entry.contract_sha256, entry.enabled) == (hashlib.sha256(CONTRACT.encode()).hexdigest(), False)


def test_a_genuine_document_that_the_own_store_does_not_have_is_not_continued(office: Office, tmp_path: Path) -> None:
    """Somebody signed it with the member's key elsewhere."""
    home = provider(office, "P2", tmp_path)
    speaker = Speaker.member(MemberHome(home))
    subject = f"{INSTANCE}/GOV/P2/desk/citizens"
    before = call_registry(speaker.url, lambda client: client.newest("service", subject))
    assert before is not None
    changed = msgspec.structs.replace(before.document, seq=1, prev=before.digest, issued=encode_time(datetime.now(UTC)))
    signed = sign_document(changed, speaker.signer, speaker.chain, speaker.genesis)
    call_registry(speaker.url, lambda client: client.submit(signed))
    assert fails("service", "disable", "desk/citizens", "--notice", "x", "--home", home) == "predecessor-unproven"


def test_a_catalogue_of_the_registrys_own_gives_no_words(office: Office, tmp_path: Path) -> None:
    home = provider(office, "P5", tmp_path)
    grant = ("access", "grant", f"{INSTANCE}/GOV/H37/x", "desk/citizens", "--ground", "decree", "--home", home)
    spying, honest = ("--purpose", "spying"), ("--purpose", "residence")

    def catalogue(*codes: str) -> None:
        words = "".join(f'{code} = {{ en = "{code}" }}\n' for code in codes)
        (tmp_path / "words.toml").write_text(f'[purposes]\n{words}[grounds]\ndecree = {{ en = "Decree" }}\n')
        run("purposes", "publish", tmp_path / "words.toml", "--home", office.home)

    def change(document: AnyDocument) -> AnyDocument:
        assert isinstance(document, Catalogue)
        [term, *_] = document.purposes
        return msgspec.structs.replace(document, purposes=(msgspec.structs.replace(term, code="spying"),))

    catalogue("spying", "residence")
    earlier = call_registry(Speaker.member(MemberHome(home)).url, lambda client: client.newest("catalogue", INSTANCE))
    catalogue("residence")
    for how in ({}, {"bare": True}):
        with lying("catalogue", change, **how):
            assert fails(*grant, *spying) == "predecessor-unproven"
    assert fails(*grant, *spying) == "home-invalid"
    office.registry.follow(home)
    genuine = RegistryClient.newest
    for shown in (earlier, None):

        async def newest(
            self: RegistryClient, type_: str, subject: str, shown: NewestDocument | None = shown
        ) -> NewestDocument | None:
            return shown if type_ == "catalogue" else await genuine(self, type_, subject)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RegistryClient, "newest", newest)
            assert fails(*grant, *spying) == "predecessor-unproven"
            assert fails(*grant, *honest) == "predecessor-unproven"
    run(*grant, *honest)
    with lying("catalogue", change, bare=True):
        run("access", "revoke", f"{INSTANCE}/GOV/H37/x", "desk/citizens", "--home", home)
    catalogue("residence", "audit")
    run(*grant, "--purpose", "audit")  # newer than the copy here
    (tmp_path / "words.toml").write_text("[purposes]\n[grounds]\n")
    run("purposes", "publish", tmp_path / "words.toml", "--home", office.home)


def test_a_member_that_lost_keys_and_store_publishes_again(office: Office, tmp_path: Path) -> None:
    """Nothing is copied from what it cannot prove: as if it were the first time."""
    home = provider(office, "P4", tmp_path)
    rotate_member(office, home)
    for path in (*(home / "keys/retired").iterdir(), *(home / "data").glob("own.db*")):
        path.unlink()
    off = ("service", "disable", "desk/citizens", "--notice", "x", "--home", home)
    assert fails(*off) == "predecessor-unproven"
    publish(home, tmp_path)
    run(*off)


def certify(office: Office, home: Path) -> None:
    run("member", "rotate", "--home", home)
    now = datetime.now(UTC)
    key = FileSigner.load(home / "keys/member.next.pem").private_key.public_key()
    chain = issue_member(
        load_authority(InstanceHome(office.home)), MemberId.parse(f"{INSTANCE}/GOV/{home.name}"), key,
        not_before_at=now - timedelta(minutes=5), not_after_at=now + timedelta(days=9),
    )  # fmt: skip
    (home / "keys/member.next.crt").write_bytes(to_pem([chain]))


def rotate_member(office: Office, home: Path) -> None:
    certify(office, home)
    change = Path(run_json("member", "rotate", "--home", home)["change"])
    signed = change.read_bytes()
    for number in ("1", "2"):
        folder = office.home / "operators" / number
        key = OperatorHome(folder).load()
        signed = add_signature(signed, key.signer, key.chain)
    call_registry(MemberHome(home).facts.registry, lambda client: client.submit(signed))
    assert run_json("member", "rotate", "--home", home)["step"] == "taken"


def test_what_an_earlier_key_signed_is_still_the_members_word(office: Office) -> None:
    home = node(office, "M1")
    rotate_member(office, home)
    run("node", "rotate", "broker", "--home", home)
    run("node", "rotate", "sealing", "--days", "1", "--home", home)


def test_a_recovery_key_of_somebody_else_is_not_signed(office: Office) -> None:
    home, evil = member(office, "M2"), FileSigner.generate("p256")
    pinned = PinnedKey(spki=base64.b64encode(evil.public_bytes).decode(), kind="recovery")

    def change(document: AnyDocument) -> AnyDocument:
        assert isinstance(document, Member)
        return msgspec.structs.replace(document, keys=(*document.keys, pinned))

    certify(office, home)
    for how in ({}, {"resigned": True}, {"bare": True}):
        with lying("member", change, **how):
            assert fails("member", "rotate", "--home", home) == "predecessor-unproven"
    assert not (home / "member-change.json").exists()


def test_a_recovery_key_from_the_operators_has_to_be_in_the_home_too(office: Office, tmp_path: Path) -> None:
    home, recovery = member(office, "M3"), FileSigner.generate("p256")
    subject = f"{INSTANCE}/GOV/M3"
    pinned = PinnedKey(spki=base64.b64encode(recovery.public_bytes).decode(), kind="recovery")
    operator, own = Speaker.operator(InstanceHome(office.home)), Speaker.member(MemberHome(home))
    before = call_registry(operator.url, lambda client: client.newest("member", subject))
    assert before is not None
    assert isinstance(before.document, Member)
    keys, names = (*before.document.keys, pinned), before.document.names
    signed = call_registry(
        operator.url,
        lambda client: operator.compose(client, Member, subject, status="active", names=names, keys=keys),
    )
    with_own = add_signature(signed, own.signer, own.chain)
    call_registry(operator.url, lambda client: client.submit(with_own))
    certify(office, home)
    assert fails("member", "rotate", "--home", home) == "key-not-own"
    public = recovery.private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (home / "keys/recovery.pub").write_bytes(public)
    run("member", "rotate", "--home", home)
    made = decode(read_envelope((home / "member-change.json").read_bytes(), genesis=own.genesis).payload)
    assert isinstance(made, Member)
    assert [key.kind for key in made.keys] == ["signing", "recovery"]


def test_a_registry_cannot_make_a_member_take_an_unconfirmed_key(office: Office) -> None:
    """The present key would be overwritten."""
    home = member(office, "M4")
    certify(office, home)
    run("member", "rotate", "--home", home)
    following = FileSigner.load(home / "keys/member.next.pem").public_bytes
    kept = (home / "keys/member.pem").read_bytes()

    def change(document: AnyDocument) -> AnyDocument:
        return msgspec.structs.replace(document, keys=(PinnedKey(spki=base64.b64encode(following).decode()),))

    with lying("member", change):
        assert fails("member", "rotate", "--home", home) == "predecessor-unproven"
    assert (home / "keys/member.pem").read_bytes() == kept


# --- requests -------------------------------------------------------------------------------------------------------


def rival_of(office: Office, code: str, folder: Path) -> str:
    """Somebody else's request under the same name; its id."""
    where = ("--registry", office.url, "--genesis", office.genesis, "--name", f"en={code}")
    made = run_json("join", "--member", f"{INSTANCE}/GOV/{code}", "--home", folder / "thief", *where)
    return str(made["request"])


@pytest.fixture
def decisions(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What operators sign and a registry would put into the directory, past its own checks."""
    kept: list[bytes] = []

    async def decide(self: RegistryClient, request_id: str, jws: bytes) -> MemberRequest:
        kept.append(jws)
        return (await self.request_detail(request_id)).request

    async def put_certificate(self: RegistryClient, request_id: str, pem: bytes) -> None:
        kept.append(pem)

    monkeypatch.setattr(RegistryClient, "decide", decide)
    monkeypatch.setattr(RegistryClient, "put_certificate", put_certificate)
    return kept


@pytest.mark.parametrize("named", ["id", "member"])
def test_operators_approve_no_other_keys_than_those_of_the_request_that_they_named(
    office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decisions: list[bytes], named: str
) -> None:
    code = f"Q{named[0].upper()}"
    asked, rival = str(office.ask(code)["request"]), rival_of(office, code, tmp_path)
    honest, listed = RegistryClient.request_detail, RegistryClient.requests

    async def substituted(self: RegistryClient, request_id: str) -> RequestDetail:
        other = await honest(self, rival)
        return msgspec.structs.replace(other, request=msgspec.structs.replace(other.request, id=request_id))

    async def without_rival(self: RegistryClient) -> list[MemberRequest]:
        return [one for one in await listed(self) if one.id != rival]

    monkeypatch.setattr(RegistryClient, "request_detail", substituted)
    monkeypatch.setattr(RegistryClient, "requests", without_rival)
    told = asked[:16] if named == "id" else f"{INSTANCE}/GOV/{code}"
    assert fails("member", "approve", told, "--home", office.home) == "not-a-request"
    assert decisions == [], "nothing is signed and no key is certified"


def test_a_request_that_was_carried_is_the_one_that_is_approved(
    office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decisions: list[bytes]
) -> None:
    carried = tmp_path / "request.json"
    office.ask("QC", "--out", carried)
    rival = rival_of(office, "QC", tmp_path)

    async def another(self: RegistryClient, jws: bytes) -> MemberRequest:
        return (await self.request_detail(rival)).request

    monkeypatch.setattr(RegistryClient, "request", another)
    assert fails("member", "approve", "--file", carried, "--home", office.home) == "not-a-request"
    assert decisions == []
