"""Who has credentials, who is refused, and since when: the book and the account that the broker gets."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from bus_world import NODE_H37, member_entry, node_entry
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from bus.errors import BrokerUnavailable
from bus.transport import accounts, leaf, nkeys, withdrawal
from bus.transport.broker import BrokerFiles, render_config
from bus.transport.guestbook import GuestBook, GuestBookUnreadable
from bus.transport.minting import AccountMinter
from bus.transport.renewal import CredentialDesk, Minted, read_answer
from bus.transport.withdrawal import MembersAccount, WithdrawalUnconfirmed
from registry.errors import DocumentRefused, NotFound
from registry.publickeys import key_id

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = KEY.public_key().public_bytes_raw()
MEMBER = NODE_H37.rpartition("/")[0]
NOW_S = 1_000


class Directory:
    """One member with one node."""

    def __init__(self) -> None:
        self.entry = member_entry(MEMBER)
        self.node_entry = node_entry(NODE_H37, broker_key=b"b" * 32)
        self.revoked: set[tuple[str, str]] = set()

    def member(self, id):
        return self.entry if id == MEMBER else None

    def node(self, id):
        return self.node_entry if id == NODE_H37 else None

    def members(self):
        return (self.entry,)

    def nodes_of(self, member):
        return (self.node_entry,)

    def is_revoked(self, kind, id):
        return (kind, id) in self.revoked

    def set(self, **changes):
        self.node_entry = msgspec.structs.replace(self.node_entry, **changes)


def replace(path, data):
    path.write_bytes(data)


@pytest.fixture
def book(tmp_path):
    return GuestBook(tmp_path / "guests.json", replace)


NODE_KEY = nkeys.public_text("user", b"b" * 32)


def test_a_node_that_is_withdrawn_is_refused_once_and_stays_so_in_the_file(book, tmp_path):
    directory = Directory()
    assert not book.settle(directory, {}, NOW_S)
    assert book.revocations() == {}
    directory.set(status="revoked")
    assert book.settle(directory, {}, NOW_S)
    assert not book.settle(directory, {}, NOW_S + 50)
    assert book.revocations() == {NODE_KEY: NOW_S + 1}
    assert GuestBook(tmp_path / "guests.json", replace).revocations() == {NODE_KEY: NOW_S + 1}


def test_a_key_that_another_replaced_is_refused_after_the_overlap_and_the_new_one_is_not(book, tmp_path):
    directory = Directory()
    book.settle(directory, {}, NOW_S)
    directory.set(broker_key=b"c" * 32)
    assert not book.settle(directory, {}, NOW_S)
    again = GuestBook(tmp_path / "guests.json", replace)  # the registry was restarted meanwhile
    assert not again.settle(directory, {}, NOW_S + 59)
    assert again.revocations() == {}
    assert again.settle(directory, {}, NOW_S + 60)
    assert again.revocations() == {NODE_KEY: NOW_S + 61}


def test_a_replaced_key_that_is_revoked_has_no_overlap(book):
    directory = Directory()
    book.settle(directory, {}, NOW_S)
    directory.set(broker_key=b"c" * 32)
    directory.revoked.add(("key", key_id(b"b" * 32)))
    assert book.settle(directory, {}, NOW_S)
    assert book.revocations() == {NODE_KEY: NOW_S + 1}


@given(steps=st.lists(st.tuples(st.sampled_from(["active", "suspended"]), st.integers(0, 2)), max_size=12))
async def test_credentials_minted_before_a_refusal_never_count_and_those_after_a_readmission_do(
    steps, tmp_path_factory
):
    """However fast one follows the other: within the very second, too."""
    directory, now = Directory(), [NOW_S]
    book = GuestBook(tmp_path_factory.mktemp("book") / "guests.json", replace)
    minter = AccountMinter(PUBLIC, KEY.sign, lambda: now[0], 60, book)
    book.settle(directory, {}, now[0])
    issued: list[int] = []
    for status, later_s in steps:
        now[0] += later_s
        directory.set(status=status)
        book.settle(directory, {}, now[0])
        limit_s = book.revocations().get(NODE_KEY, 0)
        if status == "active":
            claims = nkeys.decode_claims(await minter.mint(directory.node_entry, directory.entry))
            issued.append(claims["iat"])
            assert claims["iat"] > limit_s
        else:
            assert all(issued_s <= limit_s for issued_s in issued)


def test_a_leaf_is_refused_with_its_member_and_when_it_is_withdrawn(book):
    directory, key = Directory(), nkeys.public_text("user", b"l" * 32)
    assert not book.settle(directory, {key: MEMBER}, NOW_S)
    directory.revoked.add(("member", MEMBER))
    assert book.settle(directory, {key: MEMBER}, NOW_S)
    assert key in book.revocations()
    directory.revoked.clear()
    assert book.settle(directory, {key: MEMBER}, NOW_S)
    assert book.settle(directory, {key: ""}, NOW_S + 5)
    assert book.revocations()[key] == NOW_S + 6
    never_seen = nkeys.public_text("user", b"m" * 32)
    assert book.settle(directory, {key: "", never_seen: ""}, NOW_S + 7)
    assert book.revocations()[never_seen] == NOW_S + 8


@pytest.mark.parametrize("content", [b"", b"[]", b'{"x":1}', b"\xff", b'{"U":{"kind":"other","holder":"x"}}'])
def test_a_damaged_book_stops_the_registry(tmp_path, content):
    (tmp_path / "guests.json").write_bytes(content)
    with pytest.raises(GuestBookUnreadable, match="backup"):
        GuestBook(tmp_path / "guests.json", replace)


# --- minting --------------------------------------------------------------------------------------------------------


async def test_credentials_end_with_the_nodes_statement(book):
    directory = Directory()
    minter = AccountMinter(PUBLIC, KEY.sign, lambda: NOW_S, 60, book)
    directory.set(until_at=datetime.fromtimestamp(NOW_S + 20, UTC))
    assert nkeys.decode_claims(await minter.mint(directory.node_entry, directory.entry))["exp"] == NOW_S + 20
    directory.set(until_at=datetime.fromtimestamp(NOW_S, UTC))
    with pytest.raises(NotFound, match="ended"):
        await minter.mint(directory.node_entry, directory.entry)


async def test_a_leafs_key_is_no_nodes_and_is_refused_with_a_node_that_had_it(book):
    directory, leaf_key = Directory(), nkeys.public_text("user", b"l" * 32)
    book.settle(directory, {leaf_key: MEMBER}, NOW_S)
    directory.set(broker_key=b"l" * 32)
    book.settle(directory, {leaf_key: MEMBER}, NOW_S)
    minter = AccountMinter(PUBLIC, KEY.sign, lambda: NOW_S, 60, book)
    with pytest.raises(DocumentRefused) as refused:
        await minter.mint(directory.node_entry, directory.entry)
    assert refused.value.code == "key-reused"
    assert leaf_key not in book.revocations()
    directory.set(status="revoked")
    assert book.settle(directory, {leaf_key: MEMBER}, NOW_S)
    assert leaf_key in book.revocations()


def test_a_leafs_key_that_its_member_revoked_is_refused(book):
    directory, leaf_key = Directory(), nkeys.public_text("user", b"l" * 32)
    book.settle(directory, {leaf_key: MEMBER}, NOW_S)
    directory.revoked.add(("key", key_id(b"l" * 32)))
    assert book.settle(directory, {leaf_key: MEMBER}, NOW_S)
    assert book.revocations() == {leaf_key: NOW_S + 1}


def test_a_leaf_may_only_be_a_leaf():
    claims = nkeys.decode_claims(
        AccountMinter(PUBLIC, KEY.sign, lambda: NOW_S).mint_leaf(MEMBER, [NODE_H37], b"l" * 32)
    )
    assert claims["nats"]["allowed_connection_types"] == ["LEAFNODE"]
    assert claims["nats"]["sub"]["allow"]
    assert claims["nats"]["pub"]["allow"]


def test_a_seed_is_written_as_nats_documents_it():
    # 32 zero bytes: prefix S, then U of the kind of key
    text = nkeys.seed_text(bytes(32))
    assert text[:2] == "SU"
    assert len(text) == 58


@pytest.mark.parametrize("jwt", ["", "a.b", "a.b.c", "é.é.é", "e30.e30.AA"])
def test_what_is_no_jwt_is_not_verified(jwt):
    with pytest.raises(ValueError):
        nkeys.verify_jwt(jwt)


def test_a_jwt_with_another_body_is_not_verified():
    made = AccountMinter(PUBLIC, KEY.sign, lambda: NOW_S).mint_service_user("x", b"r" * 32)
    assert nkeys.verify_jwt(made)["name"] == "x"
    other = AccountMinter(PUBLIC, KEY.sign, lambda: NOW_S).mint_service_user("y", b"r" * 32)
    head, _, signature = made.split(".")
    with pytest.raises(ValueError, match="not a NATS JWT"):
        nkeys.verify_jwt(f"{head}.{other.split('.')[1]}.{signature}")


# --- accounts -------------------------------------------------------------------------------------------------------


def test_members_have_no_streams_and_import_nothing_that_changes_one():
    claims = nkeys.decode_claims(accounts.members_jwt("VN", b"a" * 32, b"s" * 32, PUBLIC, KEY.sign, 5))["nats"]
    assert {claims["limits"][name] for name in ("disk_storage", "mem_storage", "streams", "consumer")} == {0}
    subjects = {item["subject"] for item in claims["imports"]}
    verbs = {subject.removeprefix("$JS.API.") for subject in subjects if subject.startswith("$JS.API.")}
    assert verbs == {"CONSUMER.MSG.NEXT.>", "DIRECT.GET.*", "DIRECT.GET.LT_DIR.>"}
    exported = nkeys.decode_claims(accounts.streams_jwt(b"s" * 32, PUBLIC, KEY.sign, 5))["nats"]
    assert {item["subject"] for item in exported["exports"]} == subjects
    assert exported["limits"]["disk_storage"] == -1


def account(tmp_path, connection, now=NOW_S, servers=1):
    return MembersAccount(
        name="VN", public=b"a" * 32, streams=b"s" * 32, operator=PUBLIC, sign=KEY.sign, path=tmp_path / "members.jwt",
        replace=replace, connection=connection, inbox="_I.r.", servers=servers, unix_time_s=lambda: now,
    )  # fmt: skip


class System:
    """A connection in the system account; each of `answers` comes at once to every push."""

    def __init__(self, *answers: bytes | Exception) -> None:
        self.answers = answers
        self.late = False

    def subscribe(self, subject, handler):
        assert subject == "_I.r.account.*"
        self.handler = handler

    async def send(self, subject, payload, reply):
        assert subject == "$SYS.REQ.CLAIMS.UPDATE"
        for answer in self.answers:
            if isinstance(answer, Exception):
                raise answer
            await self.handler("_I.r.account.1" if self.late else reply, "", answer)


def took(server: str) -> bytes:
    return b'{"server":{"name":"%s"},"data":{"code":200}}' % server.encode()


def test_the_account_is_written_anew_only_when_something_changed_and_always_newer(tmp_path):
    path = tmp_path / "members.jwt"
    made = account(tmp_path, System())
    made.keep({})
    first = path.read_bytes()
    made.keep({})
    account(tmp_path, System(), NOW_S + 9).keep({})
    assert path.read_bytes() == first
    made.keep({NODE_KEY: 7})
    claims = nkeys.decode_claims(path.read_text())
    assert claims["nats"]["revocations"] == {NODE_KEY: 7}
    assert claims["iat"] == NOW_S + 1
    account(tmp_path, System(), NOW_S - 500).keep({})
    assert nkeys.decode_claims(path.read_text())["iat"] == NOW_S + 2


@pytest.mark.parametrize(
    "answer",
    [b"", b"[]", b"\xff", b"{}", b'{"data":{"code":500}}', b'{"error":{"code":500}}', BrokerUnavailable()],
)
async def test_a_push_that_is_not_confirmed_is_told(tmp_path, answer, monkeypatch):
    monkeypatch.setattr(withdrawal, "_DEADLINE_S", 0.05)
    made = account(tmp_path, System(answer))
    made.keep({})
    with pytest.raises(WithdrawalUnconfirmed):
        await made.push()


async def test_a_push_is_confirmed_when_every_server_has_taken_it(tmp_path, monkeypatch):
    monkeypatch.setattr(withdrawal, "_DEADLINE_S", 0.05)
    system = System(took("one"), took("two"))
    made = account(tmp_path, system, servers=3)
    made.keep({})
    with pytest.raises(WithdrawalUnconfirmed, match="2 of 3 servers"):
        await made.push()
    system.answers = (took("one"), took("one"), took("two"))
    with pytest.raises(WithdrawalUnconfirmed, match="2 of 3 servers"):
        await made.push()
    system.answers = (took("one"), took("two"), took("three"))
    await made.push()
    system.answers = (took("one"), b'{"server":{"name":"two"},"error":{"code":500}}', took("three"))
    with pytest.raises(WithdrawalUnconfirmed, match="refused"):
        await made.push()


async def test_a_late_answer_to_an_earlier_push_confirms_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(withdrawal, "_DEADLINE_S", 0.05)
    system = System(took("one"))
    made = account(tmp_path, system)
    made.keep({})
    await made.push()
    system.late = True
    with pytest.raises(WithdrawalUnconfirmed):
        await made.push()


# --- the registry's end of a renewal --------------------------------------------------------------------------------


class Outbox:
    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.up = True

    async def send(self, subject, payload):
        if not self.up:
            raise BrokerUnavailable
        self.sent.append((subject, payload))


async def mint(node):
    if node != NODE_H37:
        raise NotFound("unknown")
    return "a.jwt"


async def test_a_node_gets_its_credentials_into_its_own_inbox():
    out = Outbox()
    desk = CredentialDesk("VN", mint, out)
    await desk.on_question("lt.k.registry.GOV~H37~n1", "_I.GOV~H37~n1.x", b"")
    await desk.on_question("lt.k.registry.GOV~H99~n1", "_I.GOV~H99~n1.x", b"")
    assert [(subject, read_answer(data)) for subject, data in out.sent] == [
        ("_I.GOV~H37~n1.x", Minted(1, jwt="a.jwt")),
        ("_I.GOV~H99~n1.x", Minted(1, code="not-found")),
    ]
    out.up = False
    await desk.on_question("lt.k.registry.GOV~H37~n1", "_I.GOV~H37~n1.x", b"")


@pytest.mark.parametrize(
    "reply", ["", "_I.GOV~G01~n1.x", "$JS.API.STREAM.PURGE.X", "_I.GOV~H37~n1.*", "_I.GOV~H37~n1.>"]
)
async def test_nothing_is_sent_anywhere_else(reply):
    out = Outbox()
    await CredentialDesk("VN", mint, out).on_question("lt.k.registry.GOV~H37~n1", reply, b"")
    await CredentialDesk("VN", mint, out).on_question("lt.k.registry.nobody", "_I.nobody.x", b"")
    assert out.sent == []


@given(st.binary(max_size=60))
def test_any_answer_is_read_or_refused(data):
    try:
        assert isinstance(read_answer(data), Minted)
    except ValueError:
        return


# --- configurations -------------------------------------------------------------------------------------------------


def test_leafs_are_taken_only_where_it_is_said(tmp_path):
    files = BrokerFiles(tmp_path, "op.jwt", "SYS", {"A": "a.jwt"}, tmp_path / "c", tmp_path / "k")
    assert "leafnodes" not in render_config(files)
    text = render_config(
        BrokerFiles(tmp_path, "op", "S", {}, tmp_path / "c", tmp_path / "k", leaf_listen="0.0.0.0:7422")
    )
    assert 'listen: "0.0.0.0:7422"' in text
    assert "no_advertise: true" in text


def test_the_text_of_credentials_is_what_nats_server_reads():
    text = leaf.credentials_text("a.b.c", "SUxx")
    assert "-----BEGIN NATS USER JWT-----\na.b.c\n------END NATS USER JWT------\n" in text
    assert "-----BEGIN USER NKEY SEED-----\nSUxx\n------END USER NKEY SEED------\n" in text
