import asyncio

import pytest
from multidict import CIMultiDict

from bus import errors
from bus.front import keyring as module
from bus.front.credentials import ClientSystem, Credentials, check_key, hash_key

KEY = "onedoor.s3cret"
HASH = hash_key(KEY, b"salt")
SYSTEM = ClientSystem("onedoor", frozenset({"VN/GOV/H37/onedoor"}), (HASH,))
DER = b"a certificate"
BOUND = ClientSystem(
    "tax",
    frozenset({"VN/GOV/H37/tax"}),
    certificates_sha256=("3ea1a1c1ebd1e56edcb4a0b18ebd4e6bcc84a4d2b27c1ab1b7e1fc5ec25dae69",),
)


class Transport:
    def __init__(self, certificate):
        self.certificate = certificate

    def get_extra_info(self, name):
        assert name == "ssl_object"
        return self if self.certificate is not False else None

    def getpeercert(self, binary_form):
        assert binary_form
        return self.certificate


class Request:
    def __init__(self, key=None, certificate=False, source="192.0.2.1"):
        self.headers = CIMultiDict({} if key is None else {"x-lienthong-key": key})
        self.transport = Transport(certificate)
        self.remote = source


@pytest.fixture
def credentials():
    made = Credentials(lambda size: b"k" * size)
    made.replace([SYSTEM])
    return made


@pytest.fixture
def checks(monkeypatch):
    """Every slow check that was made."""
    made = []

    def counting(key, key_hash):
        made.append(key)
        return check_key(key, key_hash)

    monkeypatch.setattr(module, "check_key", counting)
    return made


def test_the_hash_is_salted_and_slow_by_construction():
    assert HASH.startswith("scrypt$")
    assert hash_key(KEY, b"other") != HASH
    assert check_key(KEY, HASH)
    assert not check_key(KEY + "x", HASH)
    assert module._SCRYPT["n"] >= 2**14


async def test_a_good_key_is_hashed_once(credentials, checks):
    assert [await credentials.authenticate(Request(KEY)) for _ in range(3)] == [SYSTEM] * 3
    assert checks == [KEY]
    assert KEY.encode() not in b"".join(credentials._keys._remembered)


@pytest.mark.parametrize("key", ["", "onedoor", "onedoor.", "onedoor.wrong", "nobody.s3cret", "onedoor." + "x" * 200])
async def test_a_wrong_key_is_refused_and_never_remembered(credentials, key):
    for _ in range(2):
        with pytest.raises(errors.CredentialsInvalid):
            await credentials.authenticate(Request(key))
    assert not credentials._keys._remembered


async def test_a_key_of_bytes_that_are_no_text_is_refused(credentials):
    with pytest.raises(errors.CredentialsInvalid):
        await credentials.authenticate(Request("onedoor.\udcff"))


async def test_a_request_without_credentials_is_refused(credentials):
    for request in (Request(), Request(certificate=None)):
        with pytest.raises(errors.CredentialsMissing):
            await credentials.authenticate(request)
    request = Request()
    request.transport = None
    with pytest.raises(errors.CredentialsMissing):
        await credentials.authenticate(request)


async def test_new_settings_forget_every_key_that_is_not_in_them(credentials, checks):
    await credentials.authenticate(Request(KEY))
    credentials.replace([SYSTEM])
    await credentials.authenticate(Request(KEY))
    assert checks == [KEY]
    credentials.replace([ClientSystem("onedoor", SYSTEM.subsystems, (hash_key("onedoor.new", b"salt"),))])
    with pytest.raises(errors.CredentialsInvalid):
        await credentials.authenticate(Request(KEY))
    credentials.replace([])
    with pytest.raises(errors.CredentialsInvalid):
        await credentials.authenticate(Request("onedoor.new"))


async def test_a_key_that_is_withdrawn_while_it_is_checked_is_not_remembered(credentials, monkeypatch):
    loop, started = asyncio.get_running_loop(), asyncio.Event()
    go_on = asyncio.Event()

    def slow(key, key_hash):
        loop.call_soon_threadsafe(started.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(10)
        return True

    monkeypatch.setattr(module, "check_key", slow)
    asking = asyncio.ensure_future(credentials.authenticate(Request(KEY)))
    await started.wait()
    credentials.replace([])
    go_on.set()
    with pytest.raises(errors.CredentialsInvalid):
        await asking
    with pytest.raises(errors.CredentialsInvalid):
        await credentials.authenticate(Request(KEY))


async def test_a_key_that_is_exchanged_while_it_is_checked_is_refused(credentials, monkeypatch):
    exchanged = ClientSystem("onedoor", SYSTEM.subsystems, (hash_key("onedoor.another", b"salt" * 4),))

    def slow(key, key_hash):
        credentials.replace([exchanged])
        return True

    monkeypatch.setattr(module, "check_key", slow)
    with pytest.raises(errors.CredentialsInvalid):
        await credentials.authenticate(Request(KEY))


async def test_few_unknown_keys_are_checked_at_once(credentials):
    credentials._keys._slow_waiting = 32
    with pytest.raises(errors.TooManyInFlight):
        await credentials.authenticate(Request(KEY))


async def test_remembered_keys_are_bounded(credentials, monkeypatch):
    monkeypatch.setattr(module, "_REMEMBERED", 2)
    monkeypatch.setattr(module, "check_key", lambda key, key_hash: True)
    for at in range(4):
        await credentials.authenticate(Request(f"onedoor.{at}"))
    assert len(credentials._keys._remembered) == 2


async def test_a_certificate_is_bound_by_its_digest(credentials):
    import hashlib

    bound = ClientSystem("tax", BOUND.subsystems, certificates_sha256=(hashlib.sha256(DER).hexdigest(),))
    credentials.replace([SYSTEM, bound])
    assert await credentials.authenticate(Request(certificate=DER)) is bound
    with pytest.raises(errors.CredentialsInvalid):
        await credentials.authenticate(Request(certificate=DER + b"x"))
    # a system without a key has no key, whatever is sent
    with pytest.raises(errors.CredentialsInvalid):
        await credentials.authenticate(Request("tax.", certificate=DER))
