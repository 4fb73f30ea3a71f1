import contextlib
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509 as cx509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from evidence import issue, x509
from evidence.errors import CertificateInvalid, KeyUnusable
from evidence.identifiers import MemberId
from evidence.signer import FileSigner, public_key_of_pem

NOW = datetime(2026, 11, 23, tzinfo=UTC)
SPAN = {"not_before_at": NOW - timedelta(days=1), "not_after_at": NOW + timedelta(days=30)}
MEMBER = MemberId.parse("VN/GOV/H37")
CA_KEY = FileSigner.generate("p256")
CA = issue.create_authority("Demo authority", CA_KEY, **SPAN)
KEYS = {kind: FileSigner.generate(kind) for kind in ("p256", "p384", "rsa2048")}
LEAF_KEY = KEYS["p256"].private_key.public_key()


def member_certificate(**span):
    return issue.issue_member(CA, MEMBER, LEAF_KEY, **(SPAN | span))


def verify(chain, *, anchors=(CA.certificate,), at=NOW, usage="member"):
    return x509.verify_chain(chain, list(anchors), at, usage=usage)


def reason(chain, **how):
    with pytest.raises(CertificateInvalid) as caught:
        verify(chain, **how)
    return caught.value.reason


def name(text):
    return cx509.Name([cx509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(
    subject="leaf",
    key=None,
    issuer="Demo authority",
    signer=CA_KEY.private_key,
    extensions=(),
    algorithm=None,
):
    """A certificate with exactly these extensions, `(extension, critical)`."""
    builder = (
        cx509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key or LEAF_KEY)
        .serial_number(7)
        .not_valid_before(SPAN["not_before_at"])
        .not_valid_after(SPAN["not_after_at"])
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(signer, algorithm or hashes.SHA256()).public_bytes(Encoding.DER)


def usage(**bits):
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    names += ("key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return cx509.KeyUsage(**{name: bits.get(name, False) for name in names}), True


SIGNS = usage(digital_signature=True)
ISSUES = usage(key_cert_sign=True)


def authority(path_length=None):
    return cx509.BasicConstraints(ca=True, path_length=path_length), True


@pytest.mark.parametrize("kind", KEYS)
def test_a_member_s_certificate_verifies(kind):
    key = KEYS[kind]
    der = issue.issue_member(CA, MEMBER, key.private_key.public_key(), **SPAN)
    found = verify([der])
    assert found.member == MEMBER
    assert found.public_bytes == key.public_bytes
    assert (found.not_before_at, found.not_after_at) == (SPAN["not_before_at"], SPAN["not_after_at"])
    assert found == x509.describe(der)
    assert verify([der, CA.certificate]) == found


def test_an_authority_with_a_p384_key_issues_too():
    other = issue.create_authority("Other authority", KEYS["p384"], **SPAN)
    der = issue.issue_member(other, MEMBER, LEAF_KEY, **SPAN)
    assert verify([der], anchors=[CA.certificate, other.certificate]).member == MEMBER


def test_a_tls_certificate_verifies_for_its_role_only():
    for role, good, bad in [("server", "tls-server", "tls-client"), ("client", "tls-client", "tls-server")]:
        der = issue.issue_tls(
            CA, "n1", LEAF_KEY, role=role, dns_names=["n1.example"], ip_addresses=["127.0.0.1", "::1"], **SPAN
        )
        found = verify([der], usage=good)
        assert (found.dns_names, found.ip_addresses) == (("n1.example",), ("127.0.0.1", "::1"))
        assert found.member is None
        assert reason([der], usage=bad) == "extended-key-usage"
    both = issue.issue_tls(CA, "n1", LEAF_KEY, role="both", **SPAN)
    assert verify([both], usage="tls-server").dns_names == verify([both], usage="tls-client").dns_names == ()


def test_a_member_s_certificate_is_not_for_tls():
    assert reason([member_certificate()], usage="tls-server") == "extended-key-usage"


def test_a_chain_over_an_intermediate_authority_verifies():
    middle = KEYS["p384"].private_key
    between = certificate("middle", middle.public_key(), extensions=[authority(), ISSUES])
    root = certificate("Demo authority", CA_KEY.private_key.public_key(), extensions=[authority(1), ISSUES])
    leaf = certificate(issuer="middle", signer=middle, extensions=[SIGNS])
    assert verify([leaf, between], anchors=[root]).member is None
    assert reason([leaf, between]) == "path-length"
    assert reason([leaf], anchors=[root]) == "no-anchor"
    assert reason([between, leaf], anchors=[root]) == "no-anchor"


def test_certificates_outside_their_time_are_refused():
    assert reason([member_certificate()], at=NOW + timedelta(days=31)) == "expired"
    assert reason([member_certificate()], at=NOW - timedelta(days=2)) == "not-yet-valid"
    longer = member_certificate(not_after_at=NOW + timedelta(days=90))
    assert reason([longer], at=NOW + timedelta(days=60)) == "expired"


def test_a_stranger_with_the_authority_s_name_is_refused():
    stranger = issue.create_authority("Demo authority", FileSigner.generate("p256"), **SPAN)
    der = issue.issue_member(stranger, MEMBER, LEAF_KEY, **SPAN)
    assert reason([der]) == "signature"
    assert reason([der], anchors=[]) == "no-anchor"
    assert verify([der], anchors=[CA.certificate, stranger.certificate])


def test_a_leaf_cannot_act_as_an_authority():
    leaf = certificate("leaf", extensions=[SIGNS])
    forged = certificate("victim", issuer="leaf", signer=KEYS["p256"].private_key, extensions=[SIGNS])
    assert reason([forged, leaf]) == "not-an-authority"
    no_signing = certificate("leaf", extensions=[authority(), SIGNS])
    root = certificate("Demo authority", CA_KEY.private_key.public_key(), extensions=[authority(5), ISSUES])
    assert reason([forged, no_signing], anchors=[root]) == "key-usage"


def test_an_authority_without_key_usage_is_accepted():
    root = certificate("Demo authority", CA_KEY.private_key.public_key(), extensions=[authority()])
    assert verify([certificate(extensions=[SIGNS])], anchors=[root])


def test_an_authority_s_certificate_does_not_speak_for_a_member():
    root = certificate("Demo authority", CA_KEY.private_key.public_key(), extensions=[authority(), ISSUES])
    assert reason([certificate("x", extensions=[authority(), SIGNS])], anchors=[root]) == "is-authority"


def test_a_member_s_certificate_must_be_for_signatures():
    assert reason([certificate()]) == "key-usage"
    assert reason([certificate(extensions=[usage(key_agreement=True)])]) == "key-usage"
    assert verify([certificate(extensions=[usage(content_commitment=True)])])


def test_a_tls_certificate_must_be_for_signatures_if_it_says_anything():
    server = cx509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False
    assert verify([certificate(extensions=[server])], usage="tls-server")
    assert reason([certificate(extensions=[server, usage(key_agreement=True)])], usage="tls-server") == "key-usage"


def test_weak_keys_and_hashes_are_refused():
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()
    assert reason([certificate(key=weak, extensions=[SIGNS])]) == "weak-key"
    wide = ec.generate_private_key(ec.SECP521R1()).public_key()
    assert reason([certificate(key=wide, extensions=[SIGNS])]) == "weak-key"
    edwards = ed25519.Ed25519PrivateKey.generate().public_key()
    assert reason([certificate(key=edwards, extensions=[SIGNS])]) == "weak-key"
    short = certificate(extensions=[SIGNS], algorithm=hashes.SHA224())
    assert reason([short]) == "weak-hash"


def test_a_key_of_unknown_kind_is_refused():
    der = member_certificate()
    edited = der.replace(bytes.fromhex("06072a8648ce3d0201"), bytes.fromhex("06072a8648ce3d0209"))
    assert edited != der
    with pytest.raises(CertificateInvalid) as caught:
        x509.describe(edited)
    assert caught.value.reason == "weak-key"


def test_critical_extensions_that_are_not_understood_are_refused():
    unknown = cx509.UnrecognizedExtension(cx509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    assert reason([certificate(extensions=[SIGNS, (unknown, True)])]) == "critical-extension"
    assert verify([certificate(extensions=[SIGNS, (unknown, False)])])


def test_name_constraints_are_refused_rather_than_ignored():
    constraints = cx509.NameConstraints(permitted_subtrees=[cx509.DNSName("example")], excluded_subtrees=None)
    root = certificate(
        "Demo authority", CA_KEY.private_key.public_key(), extensions=[authority(), ISSUES, (constraints, False)]
    )
    assert reason([certificate(extensions=[SIGNS])], anchors=[root]) == "names"


def san(*uris):
    return cx509.SubjectAlternativeName([cx509.UniformResourceIdentifier(uri) for uri in uris]), False


def test_the_member_is_read_from_one_uri_only():
    assert verify([certificate(extensions=[SIGNS, san("https://example.vn")])]).member is None
    assert verify([certificate(extensions=[SIGNS, san("https://a", "lienthong:VN/GOV/H37")])]).member == MEMBER
    assert reason([certificate(extensions=[SIGNS, san("lienthong:VN/GOV/H37", "lienthong:VN/GOV/G01")])]) == "member"
    assert reason([certificate(extensions=[SIGNS, san("lienthong:VN/GOV")])]) == "member"


def test_chains_of_impossible_length_are_refused():
    assert reason([]) == "length"
    assert reason([CA.certificate] * 7) == "length"


def test_what_is_no_certificate_is_refused():
    assert reason([b"x"]) == "malformed"
    assert reason([b"x" * 70_000]) == "malformed"
    for contents in (b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        with pytest.raises(CertificateInvalid):
            x509.load_pem_chain(contents)


def test_a_certificate_of_an_unknown_version_is_refused(tmp_path):
    der = member_certificate().replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05", 1)
    assert reason([der]) == "malformed"
    pem = ssl.DER_cert_to_PEM_cert(der)
    with pytest.raises(CertificateInvalid):
        x509.load_pem_chain(pem.encode())
    (tmp_path / "c.pem").write_text(pem)
    with pytest.raises(KeyUnusable):
        public_key_of_pem(tmp_path / "c.pem")


def test_a_changed_byte_is_noticed():
    der = member_certificate()
    assert reason([der[:-1] + bytes([der[-1] ^ 1])]) in {"signature", "malformed"}


@pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")
@pytest.mark.parametrize("change", [1, 2, 0x12, 0x80, 0xFF])
def test_no_changed_byte_is_more_than_a_refusal(change):
    """A name that cannot be read, for one, is noticed only when it is looked at."""
    good = member_certificate()
    for at in range(len(good)):
        altered = bytearray(good)
        altered[at] ^= change
        with contextlib.suppress(CertificateInvalid):
            verify([bytes(altered)])


def test_a_pem_file_keeps_its_order():
    chain = [member_certificate(), CA.certificate]
    assert x509.load_pem_chain(issue.to_pem(chain)) == chain
    assert x509.load_pem_chain(CA.pem) == [CA.certificate]


def test_only_elliptic_curve_keys_issue():
    with pytest.raises(KeyUnusable):
        issue.create_authority("x", FileSigner.generate("ed25519"), **SPAN)
