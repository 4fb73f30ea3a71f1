"""A node's credentials: what is accepted as new ones, when they are asked for, and from whom."""

from __future__ import annotations

import asyncio
import stat
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bus.errors import BrokerUnavailable
from bus.gateway import background, brokeruser
from bus.gateway.brokeruser import BrokerUser, CredentialsRefused, read_credentials, registry_fetch
from bus.transport import nkeys

NODE = "VN/GOV/H37/@n1"
NOW_S = 1_000_000
ACCOUNT, OWN, OTHER = (Ed25519PrivateKey.from_private_bytes(letter * 32) for letter in (b"a", b"o", b"x"))


def public(key):
    return key.public_key().public_bytes_raw()


def jwt(issued_s=NOW_S, expires_s=NOW_S + 60, holder=OWN, account=ACCOUNT):
    return nkeys.user_jwt(
        NODE, public(holder), public(account), account.sign, issued_s, expires_at_s=expires_s, publish=[], subscribe=[]
    )


class Line:
    """A connection that gives prepared answers."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked: list[str] = []
        self.renewed = 0
        self.done = asyncio.Event()

    async def exchange(self, subject, payload, deadline_s):
        self.asked.append(subject)
        answer = self.answers.pop(0) if self.answers else BrokerUnavailable()
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(data=msgspec.msgpack.encode([1, answer, "" if answer else "not-found"]))

    async def renew(self):
        self.renewed += 1
        self.done.set()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "broker.jwt"


ACCOUNT_TEXT = nkeys.public_text("account", public(ACCOUNT))


class Files:
    """Key and credentials of the node."""

    def __init__(self, path):
        self.path = path

    def jwt(self):
        return self.path.read_text(encoding="ascii").strip()

    def holds(self, key):
        return key == nkeys.public_text("user", public(OWN))


def user(path, fetch=None, account=ACCOUNT_TEXT, now_s=NOW_S):
    clock = SimpleNamespace(now=lambda: datetime.fromtimestamp(now_s, UTC))
    return BrokerUser(node=NODE, files=Files(path), path=path, account=lambda: account, clock=clock, fetch=fetch)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(brokeruser, "_RETRY_MIN_S", 0.001)
    monkeypatch.setattr(brokeruser, "_RETRY_MAX_S", 0.002)


async def test_a_defect_while_renewing_does_not_end_the_renewing(path, monkeypatch):
    monkeypatch.setattr(background, "_PAUSE_S", 0.001)
    path.write_text(jwt(NOW_S - 50, NOW_S + 20))
    line = Line(RecursionError("something that nobody thought of"), jwt())
    async with running(user(path), line), asyncio.timeout(5):
        await line.done.wait()
    assert len(line.asked) == 2


@asynccontextmanager
async def running(made, line):
    task = asyncio.create_task(made.run(line))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_new_credentials_are_asked_for_after_two_thirds_and_stored_for_nobody_else(path):
    path.write_text(jwt(NOW_S - 50, NOW_S + 20))
    line = Line(jwt())
    made = user(path)
    async with running(made, line), asyncio.timeout(5):
        await line.done.wait()
    assert line.asked == ["lt.k.registry.GOV~H37~n1"]
    assert made.jwt() == jwt()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert made.seconds_left() == 60


async def test_fresh_credentials_are_left_alone_until_the_broker_refuses_them(path):
    path.write_text(jwt())
    fetched = jwt(NOW_S + 1)

    async def fetch(node):
        assert node == NODE
        return fetched

    line, made = Line(), user(path, fetch)
    async with running(made, line), asyncio.timeout(5):
        await asyncio.sleep(0)
        assert not line.asked
        made.refused()
        await line.done.wait()
    assert made.jwt() == fetched
    assert not line.asked


async def test_another_way_is_taken_when_the_broker_does_not_answer(path):
    path.write_text(jwt(NOW_S - 50, NOW_S + 20))

    async def fetch(node):
        return jwt()

    line = Line(BrokerUnavailable())
    async with running(user(path, fetch), line), asyncio.timeout(5):
        await line.done.wait()
    assert path.read_text() == jwt()


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "nonsense",
        jwt(holder=OTHER),
        jwt(account=OTHER),
        jwt(expires_s=NOW_S),
        jwt(issued_s=NOW_S - 51),
        nkeys.account_jwt("x", public(OWN), public(ACCOUNT), ACCOUNT.sign, NOW_S, jetstream=False),
    ],
    ids=["none", "no jwt", "another node's", "another account's", "ended", "older", "an account's"],
)
async def test_what_is_not_ones_own_and_new_is_not_stored(path, answer):
    held = jwt(NOW_S - 50, NOW_S + 20)
    path.write_text(held)
    line = Line(answer, answer, jwt())
    async with running(user(path), line), asyncio.timeout(5):
        await line.done.wait()
    assert len(line.asked) == 3
    assert path.read_text() == jwt()


async def test_without_a_directory_the_account_of_the_credentials_at_hand_counts(path):
    path.write_text(jwt(NOW_S - 50, NOW_S + 20))
    line = Line(jwt(account=OTHER), jwt())
    async with running(user(path, account=""), line), asyncio.timeout(5):
        await line.done.wait()
    assert path.read_text() == jwt()


async def test_without_another_way_a_refusal_says_what_to_do(path):
    path.write_text(jwt())
    made, line = user(path), Line()
    with pytest.raises(CredentialsRefused, match=r"registry\.url"):
        await made._renew(line, True)
    assert line.renewed == 0


@pytest.mark.parametrize("content", ["", "x", "a.b.c"])
def test_credentials_that_cannot_be_read_have_no_time_left(path, content):
    path.write_text(content)
    assert user(path).seconds_left() == 0
    path.unlink()
    assert user(path).seconds_left() == 0


def test_open_credentials_never_end(path):
    path.write_text(jwt(expires_s=None))
    assert user(path).seconds_left() == float("inf")
    assert read_credentials(path.read_text()).renew_at_s is None


async def test_a_registry_that_does_not_answer_is_told():
    with pytest.raises(CredentialsRefused, match=r"registry\.url"):
        await registry_fetch("http://127.0.0.1:1")(NODE)
