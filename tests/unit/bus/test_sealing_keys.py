import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from bus.sealing.keys import HYBRID, KEMS, P256, X25519, SealingKeyInvalid, SealingKeyPair, SealingPublicKey, keyid_of

FORMS = {HYBRID: (1216, 96), X25519: (32, 32), P256: (65, 32)}
PAIRS = {kem: SealingKeyPair.generate(kem) for kem in KEMS}


@pytest.mark.parametrize("kem", KEMS)
def test_forms_have_the_documented_lengths(kem):
    pair = PAIRS[kem]
    assert (len(pair.public_key.public), len(pair.private)) == FORMS[kem]
    assert pair.keyid == keyid_of(pair.public_key.public)
    assert pair.public_key.kem == kem


@pytest.mark.parametrize("kem", KEMS)
def test_a_pair_survives_its_private_form(kem):
    again = SealingKeyPair.load(kem, PAIRS[kem].private)
    assert again.public_key.public == PAIRS[kem].public_key.public
    wrapped = SealingPublicKey.load(kem, again.public_key.public).wrap(b"s" * 32, b"info")
    assert again.unwrap(wrapped, b"info") == b"s" * 32


def test_the_default_is_the_hybrid():
    assert SealingKeyPair.generate().public_key.kem == HYBRID


@pytest.mark.parametrize("kem", KEMS)
@pytest.mark.parametrize("change", [-1, 1])
def test_a_form_of_another_length_is_refused(kem, change):
    public, private = FORMS[kem]
    with pytest.raises(SealingKeyInvalid):
        SealingPublicKey.load(kem, bytes(public + change))
    with pytest.raises(SealingKeyInvalid):
        SealingKeyPair.load(kem, b"\x01" * (private + change))


@pytest.mark.parametrize("kem", KEMS)
@given(data=st.binary(max_size=100))
def test_no_bytes_are_mistaken_for_a_key_of_another_length(kem, data):
    if len(data) != FORMS[kem][0]:
        with pytest.raises(SealingKeyInvalid):
            SealingPublicKey.load(kem, data)
    if len(data) != FORMS[kem][1]:
        with pytest.raises(SealingKeyInvalid):
            SealingKeyPair.load(kem, data)


def test_an_unknown_kem_is_refused():
    with pytest.raises(SealingKeyInvalid):
        SealingPublicKey.load("X448", bytes(32))
    with pytest.raises(SealingKeyInvalid):
        SealingKeyPair.load("X448", bytes(32))


def test_a_point_off_the_curve_and_a_compressed_point_are_refused():
    good = PAIRS[P256].public_key.public
    with pytest.raises(SealingKeyInvalid):
        SealingPublicKey.load(P256, good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(SealingKeyInvalid):
        SealingPublicKey.load(P256, b"\x02" + good[1:33])
    with pytest.raises(SealingKeyInvalid):
        SealingKeyPair.load(P256, bytes(32))


def test_a_small_p256_key_keeps_its_length():
    key = ec.derive_private_key(5, ec.SECP256R1())
    assert SealingKeyPair.load(P256, (5).to_bytes(32)).private == bytes(31) + b"\x05"
    assert key.private_numbers().private_value == 5
