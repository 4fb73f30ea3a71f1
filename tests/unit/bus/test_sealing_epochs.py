import hmac

import pytest
from bus_world import GENESIS, Clock
from hypothesis import given
from hypothesis import strategies as st

from bus.sealing import epoch as epochs
from bus.sealing.epoch import LABEL, MessageKeys, Opener, SealBroken, Sealer, message_aad, sealdigest
from bus.sealing.keys import HYBRID, KEMS, P256, X25519, SealingKeyPair

ORIGIN, RECEIVER = f"{GENESIS}/VN/GOV/H37/@n1/1", "VN/GOV/G01"
PAIR = SealingKeyPair.load(X25519, b"\x07" * 32)
AAD = message_aad(GENESIS, "VN/GOV/H37/@n1", "VN/GOV/G01/a/b", "some-id", PAIR.keyid)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32), st.binary(max_size=300))
def test_message_keys_are_the_standard_hmac(secret, nonce, aad):
    assert MessageKeys(secret).derive(nonce, aad) == hmac.digest(secret, LABEL + nonce + aad, "sha512")[:32]


def test_a_message_key_leaves_the_next_one_alone():
    keys = MessageKeys(b"k" * 32)
    assert keys.derive(b"n", b"a") == keys.derive(b"n", b"a") != keys.derive(b"m", b"a")


parts = st.text("ab/", max_size=4)


@given(st.tuples(parts, parts, parts, parts, parts), st.tuples(parts, parts, parts, parts, parts))
def test_additional_data_of_different_headers_differ(one, other):
    assert (message_aad(*one) == message_aad(*other)) == (one == other)


@given(st.tuples(*[st.binary(max_size=3)] * 3), st.tuples(*[st.binary(max_size=3)] * 3))
def test_digests_of_different_seals_differ(one, other):
    assert (sealdigest(*one) == sealdigest(*other)) == (one == other)


def sealer(clock=None, **more) -> Sealer:
    clock = clock or Clock()
    return Sealer(GENESIS, ORIGIN, clock.random, clock.monotonic, **more)


def seal(made: Sealer, plain=b"secret", pair=PAIR, use="query", aad=AAD, receiver=RECEIVER):
    return made.seal(plain, receiver=receiver, key=pair.public_key, use=use, aad=aad)


def unseal(opener: Opener, sealed, **changes):
    wrapped, nonce, ciphertext = sealed
    values = {
        "origin": ORIGIN,
        "receiver": RECEIVER,
        "pair": PAIR,
        "use": "query",
        "wrapped": wrapped,
        "nonce": nonce,
        "ciphertext": ciphertext,
        "aad": AAD,
    }
    return opener.open(**(values | changes))


@pytest.mark.parametrize("kem", KEMS)
def test_what_was_sealed_opens(kem):
    pair = SealingKeyPair.generate(kem)
    made, opener = sealer(), Opener(GENESIS)
    for plain in (b"", b"one", b"x" * 70_000):
        assert unseal(opener, seal(made, plain, pair), pair=pair) == plain
    assert 1_100 < len(seal(made, b"", pair)[0]) < 1_300 if kem == HYBRID else True


OTHER = SealingKeyPair.generate(P256)


@pytest.mark.parametrize(
    "changes",
    [
        {"origin": ORIGIN[:-1] + "2"},
        {"receiver": "VN/GOV/G02"},
        {"pair": SealingKeyPair.load(X25519, b"\x08" * 32)},
        {"pair": OTHER},
        {"use": "answer"},
        {"aad": AAD + b"x"},
        {"nonce": bytes(32)},
        {"nonce": b""},
        {"wrapped": b""},
        {"wrapped": b"\0" * 8},
        {"ciphertext": b""},
        {"ciphertext": b"\0" * 16},
    ],
)
def test_it_opens_only_as_it_was_sealed(changes):
    with pytest.raises(SealBroken):
        unseal(Opener(GENESIS), seal(sealer()), **changes)


def test_it_does_not_open_in_another_instance():
    with pytest.raises(SealBroken):
        unseal(Opener("f" * 64), seal(sealer()))


SEALED = seal(sealer())


@pytest.mark.parametrize("at", range(len(SEALED[0])))
def test_an_altered_wrapped_key_does_not_open(at):
    wrapped = bytearray(SEALED[0])
    wrapped[at] ^= 0x01
    with pytest.raises(SealBroken):
        unseal(Opener(GENESIS), (bytes(wrapped), *SEALED[1:]))


@pytest.mark.parametrize("part", [1, 2])
@given(at=st.integers(0), bit=st.integers(0, 7))
def test_an_altered_nonce_or_ciphertext_does_not_open(part, at, bit):
    sealed = [bytearray(item) for item in SEALED]
    sealed[part][at % len(sealed[part])] ^= 1 << bit
    with pytest.raises(SealBroken):
        unseal(Opener(GENESIS), [bytes(item) for item in sealed])


def test_a_genuine_message_opens_after_an_altered_one():
    opener = Opener(GENESIS)
    wrapped, nonce, ciphertext = SEALED
    for altered in ((wrapped[:-1] + b"\0", nonce, ciphertext), (wrapped, bytes(32), ciphertext)):
        with pytest.raises(SealBroken):
            unseal(opener, altered)
    assert unseal(opener, SEALED) == b"secret"


def test_a_wrapped_key_of_another_length_is_refused():
    number = b"e" * 8
    info = epochs._info(GENESIS, ORIGIN, RECEIVER, PAIR.keyid, "query", number)
    wrapped = number + PAIR.public_key.wrap(b"short", info)
    with pytest.raises(SealBroken, match="length"):
        unseal(Opener(GENESIS), (wrapped, bytes(32), bytes(16)))


def test_one_wrapped_key_serves_until_its_time_is_over():
    clock = Clock()
    made = sealer(clock, lifetime_s=60)
    first = seal(made)
    clock.pass_time(59)
    second = seal(made)
    clock.pass_time(1)
    third = seal(made)
    assert first[0] == second[0] != third[0]
    assert first[1] != second[1]
    opener = Opener(GENESIS)
    assert [unseal(opener, item) for item in (first, second, third)] == [b"secret"] * 3


def test_one_wrapped_key_serves_a_limited_number_of_messages(monkeypatch):
    monkeypatch.setattr(epochs, "MAX_MESSAGES", 2)
    made = sealer()
    assert len({seal(made)[0] for _ in range(5)}) == 3


def test_each_receiver_key_and_use_has_its_own_epoch():
    made = sealer()
    keys = {seal(made)[0], seal(made, use="answer")[0], seal(made, receiver="VN/GOV/G02")[0], seal(made, pair=OTHER)[0]}
    assert len(keys) == 4


def test_the_sending_half_remembers_a_bounded_number_of_epochs():
    made = sealer()
    made._epochs.update({("x", str(at), "query"): None for at in range(4096)})
    seal(made)
    assert len(made._epochs) == 4096
    assert next(iter(made._epochs)) == ("x", "1", "query")


def test_opened_keys_are_remembered_up_to_a_bound_per_sender():
    opener = Opener(GENESIS, per_sender=3)
    for _ in range(6):
        unseal(opener, seal(sealer(Clock(seed=_))))
    assert {origin: len(kept) for origin, kept in opener._opened.items()} == {ORIGIN: 3}


def test_an_opened_key_is_not_opened_again():
    made, opener = sealer(), Opener(GENESIS)
    unseal(opener, seal(made))
    unwraps = []

    class Counting:
        keyid = PAIR.keyid

        def unwrap(self, *args):
            unwraps.append(args)

    assert unseal(opener, seal(made), pair=Counting()) == b"secret"
    assert unwraps == []
