import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence import jws
from evidence.errors import JwsMalformed, SignatureInvalid
from evidence.signer import FileSigner

SIGNERS = {kind: FileSigner.generate(kind) for kind in ("ed25519", "p256", "p384", "rsa2048")}
MEMBER = SIGNERS["p256"]
DOCUMENT = jws.sign_flattened(b"payload", {"typ": "lienthong-member", "x5c": ["AA=="]}, MEMBER)
GENERAL = jws.add_signature(DOCUMENT, {"typ": "lienthong-member"}, SIGNERS["ed25519"])


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.mark.parametrize("kind", SIGNERS)
def test_every_algorithm_signs_and_verifies(kind):
    signer = SIGNERS[kind]
    read = jws.parse(jws.sign_flattened(b"payload", {"typ": "t"}, signer))
    (signature,) = read.signatures
    assert read.payload == b"payload"
    assert signature.protected == {"alg": signer.algorithm, "typ": "t"}
    jws.verify(signature, signer.public_bytes)
    jws.verify(signature, signer.private_key.public_key())
    for other in SIGNERS.values():
        if other is not signer:
            with pytest.raises(SignatureInvalid):
                jws.verify(signature, other.public_bytes)


@pytest.mark.parametrize("kind", SIGNERS)
def test_a_changed_signature_or_payload_is_refused(kind):
    signer = SIGNERS[kind]
    (signature,) = jws.parse(jws.sign_flattened(b"payload", {}, signer)).signatures
    cut = signature.signature[:-1]
    changed = bytes([signature.signature[0] ^ 1]) + signature.signature[1:]
    for forged, data in [
        (cut, signature.signing_input),
        (changed, signature.signing_input),
        (signature.signature, b"x"),
    ]:
        with pytest.raises(SignatureInvalid):
            jws.verify(jws.JwsSignature(signature.protected, forged, data), signer.public_bytes)


def test_the_example_of_rfc_7515_appendix_a3_verifies():
    from cryptography.hazmat.primitives.asymmetric import ec

    def number(text):
        return int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))

    key = ec.EllipticCurvePublicNumbers(
        number("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"),
        number("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"),
        ec.SECP256R1(),
    ).public_key()
    document = {
        "payload": "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ",
        "protected": "eyJhbGciOiJFUzI1NiJ9",
        "signature": "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
    }
    (signature,) = jws.parse(json.dumps(document, separators=(",", ":")).encode()).signatures
    jws.verify(signature, key)


def test_a_second_signature_makes_the_general_form():
    read = jws.parse(GENERAL)
    assert read.payload == b"payload"
    jws.verify(read.signatures[0], MEMBER.public_bytes)
    jws.verify(read.signatures[1], SIGNERS["ed25519"].public_bytes)
    assert len(jws.parse(jws.add_signature(GENERAL, {}, MEMBER)).signatures) == 3


@given(st.binary(max_size=200), st.dictionaries(st.text("abc", min_size=1), st.text() | st.integers(-9, 9), max_size=4))
def test_every_document_is_read_back(payload, protected):
    read = jws.parse(jws.sign_flattened(payload, protected, SIGNERS["ed25519"]))
    assert read.payload == payload
    assert dict(read.signatures[0].protected) == {"alg": "EdDSA", **protected}


@given(st.binary(max_size=200))
def test_no_bytes_make_the_parser_fail_otherwise(data):
    with pytest.raises(JwsMalformed):
        jws.parse(data)


def forge(protected=b'{"alg":"ES256"}', payload="AA", signature="AA", **more):
    document = {"payload": payload, "protected": b64(protected), "signature": signature, **more}
    return json.dumps(document, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "document",
    [
        DOCUMENT + b" ",
        DOCUMENT.replace(b'"payload"', b'"payload" '),
        DOCUMENT.replace(b'{"payload"', b'{"payload":"AA","payload"'),
        forge(header={"kid": "1"}),
        forge(b'{"alg":"none"}'),
        forge(b'{"alg":"HS256"}'),
        forge(b'{"alg":"RS256"}'),
        forge(b'{"alg":["ES256"]}'),
        forge(b"{}"),
        forge(b"[]"),
        forge(b"\xff"),
        forge(b"["),
        forge(b"[" * 60_000),
        forge(b'{"alg":"none","alg":"ES256"}'),
        forge(b'{"alg": "ES256"}'),
        forge(b'{"alg":"ES256","crit":["b64"],"b64":false}'),
        forge(b'{"alg":"ES256","x":"' + b"x" * 70_000 + b'"}'),
        forge(payload="A"),
        forge(payload="AB"),
        forge(payload="AA=="),
        forge(payload="A+"),
        forge(signature="é"),
        b'{"payload":"AA","signatures":[]}',
        b'{"payload":"AA","signatures":[' + b",".join([b'{"protected":"AA","signature":"AA"}'] * 33) + b"]}",
        b"x" * (jws.MAX_JWS_BYTES + 1),
        b"",
    ],
)
def test_another_form_of_a_document_is_refused(document):
    with pytest.raises(JwsMalformed):
        jws.parse(document)


def test_a_signer_does_not_sign_for_another_algorithm_or_an_unknown_extension():
    for protected in ({"alg": "none"}, {"alg": "EdDSA"}, {"crit": ["x"]}):
        with pytest.raises(JwsMalformed):
            jws.sign_flattened(b"", protected, MEMBER)
    assert jws.sign_flattened(b"", {"alg": "ES256"}, MEMBER)


def test_the_limits_hold_for_what_is_made_too():
    with pytest.raises(JwsMalformed):
        jws.sign_flattened(bytes(jws.MAX_JWS_BYTES), {}, MEMBER)
    document = DOCUMENT
    for _ in range(jws.MAX_SIGNATURES - 1):
        document = jws.add_signature(document, {}, SIGNERS["ed25519"])
    with pytest.raises(JwsMalformed):
        jws.add_signature(document, {}, SIGNERS["ed25519"])


def test_keys_of_other_kinds_are_refused():
    from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()
    (signature,) = jws.parse(DOCUMENT).signatures
    for key in (weak, ec.generate_private_key(ec.SECP521R1()).public_key()):
        with pytest.raises(SignatureInvalid):
            jws.verify(signature, key)
    other = x25519.X25519PrivateKey.generate().public_key()
    for data in (b"", b"x" * 40, other.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)):
        with pytest.raises(SignatureInvalid):
            jws.load_public_key(data)
