"""A small certification authority: enough for a demonstration, a test or a pilot instance.

Production members bring certificates of a licensed authority; brokers and gateways may use these TLS certificates
inside one operator's walls. Keys are P-256. Revocation lists are complete ones, made on demand.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from evidence.errors import KeyUnusable
from evidence.identifiers import MemberId
from evidence.signer import FileSigner, PublicKey
from evidence.x509 import MEMBER_URI_PREFIX

_PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=hashes.SHA256.digest_size)
TlsRole = Literal["server", "client", "both"]


@dataclass(frozen=True, slots=True)
class Authority:
    """A certification authority in memory.

    Attributes:
        certificate: DER, self-signed.
        signer: Its key.
    """

    certificate: bytes
    signer: FileSigner

    @property
    def pem(self) -> bytes:
        """The certificate as PEM."""
        return to_pem([self.certificate])


def to_pem(chain: Sequence[bytes]) -> bytes:
    """Write DER certificates as one PEM file, in order."""
    return b"".join(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in chain)


def _signing_key(signer: FileSigner) -> ec.EllipticCurvePrivateKey:
    if not isinstance(signer.private_key, ec.EllipticCurvePrivateKey):
        raise KeyUnusable("an issuing authority needs a P-256 or P-384 key")
    return signer.private_key


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(*, authority: bool, commitment: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=commitment,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PublicKey, not_before_at: datetime, not_after_at: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before_at)
        .not_valid_after(not_after_at)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _hash_for(key: ec.EllipticCurvePrivateKey) -> hashes.SHA256 | hashes.SHA384:
    return hashes.SHA384() if key.key_size == 384 else hashes.SHA256()


def _issue(authority: Authority, builder: x509.CertificateBuilder) -> bytes:
    key = _signing_key(authority.signer)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
    ).add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    return builder.sign(key, _hash_for(key)).public_bytes(Encoding.DER)


def create_authority(
    common_name: str, signer: FileSigner, *, not_before_at: datetime, not_after_at: datetime
) -> Authority:
    """Make a self-signed authority that issues leaf certificates only.

    Args:
        common_name: Subject name, at most 64 characters.
        signer: A P-256 or P-384 key.
        not_before_at: Aware instant.
        not_after_at: Aware instant.

    Raises:
        KeyUnusable: The key is not an elliptic curve key.
    """
    key = _signing_key(signer)
    name = _name(common_name)
    builder = (
        _builder(name, name, key.public_key(), not_before_at, not_after_at)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
    )
    return Authority(builder.sign(key, _hash_for(key)).public_bytes(Encoding.DER), signer)


def issue_member(
    authority: Authority, member: MemberId, public_key: PublicKey, *, not_before_at: datetime, not_after_at: datetime
) -> bytes:
    """Issue a member's signing certificate; the member is in a SAN URI `lienthong:VN/GOV/H37`.

    Returns:
        DER.
    """
    builder = (
        _builder(
            _name(str(member)[:64]),
            x509.load_der_x509_certificate(authority.certificate).subject,
            public_key,
            not_before_at,
            not_after_at,
        )
        .add_extension(_key_usage(authority=False, commitment=True), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"{MEMBER_URI_PREFIX}{member}")]),
            critical=False,
        )
    )
    return _issue(authority, builder)


def self_sign_member(signer: FileSigner, member: MemberId, *, not_before_at: datetime, not_after_at: datetime) -> bytes:
    """A certificate by the key itself, for a first request before any authority knows the key.

    Returns:
        DER.

    Raises:
        KeyUnusable: A key of a kind that members do not use.
    """
    key = signer.private_key
    if isinstance(key, ed25519.Ed25519PrivateKey):
        raise KeyUnusable("a member's key is P-256, P-384 or RSA: make another key")
    name = _name(str(member)[:64])
    builder = (
        _builder(name, name, key.public_key(), not_before_at, not_after_at)
        .add_extension(_key_usage(authority=False, commitment=True), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"{MEMBER_URI_PREFIX}{member}")]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    if isinstance(key, rsa.RSAPrivateKey):
        certificate = builder.sign(key, hashes.SHA256(), rsa_padding=_PSS)
    else:
        certificate = builder.sign(key, _hash_for(key))
    return certificate.public_bytes(Encoding.DER)


def issue_crl(
    authority: Authority,
    revoked: Sequence[tuple[int, datetime]],
    *,
    number: int,
    this_update_at: datetime,
    next_update_at: datetime,
) -> bytes:
    """Issue a complete revocation list (RFC 5280 section 5).

    Args:
        authority: The issuer.
        revoked: Serial numbers with the instant from which each is not to be trusted.
        number: One more than that of the list before.
        this_update_at: Aware instant.
        next_update_at: By when the next one is issued at the latest.

    Returns:
        DER.
    """
    key = _signing_key(authority.signer)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(x509.load_der_x509_certificate(authority.certificate).subject)
        .last_update(this_update_at)
        .next_update(next_update_at)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    for serial, revoked_at in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(revoked_at).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(key, _hash_for(key)).public_bytes(Encoding.DER)


def issue_tls(
    authority: Authority,
    common_name: str,
    public_key: PublicKey,
    *,
    role: TlsRole,
    dns_names: Sequence[str] = (),
    ip_addresses: Sequence[str] = (),
    not_before_at: datetime,
    not_after_at: datetime,
) -> bytes:
    """Issue a TLS certificate.

    Args:
        authority: The issuer.
        common_name: Subject name, at most 64 characters; no client looks at it.
        public_key: A P-256, P-384 or RSA key.
        role: "server", "client", or "both" (a cluster's brokers).
        dns_names: SAN DNS names.
        ip_addresses: SAN addresses, as text.
        not_before_at: Aware instant.
        not_after_at: Aware instant.

    Returns:
        DER.
    """
    extended = {
        "server": [ExtendedKeyUsageOID.SERVER_AUTH],
        "client": [ExtendedKeyUsageOID.CLIENT_AUTH],
        "both": [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
    }[role]
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in dns_names]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in ip_addresses]
    builder = (
        _builder(
            _name(common_name),
            x509.load_der_x509_certificate(authority.certificate).subject,
            public_key,
            not_before_at,
            not_after_at,
        )
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(extended), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return _issue(authority, builder)
