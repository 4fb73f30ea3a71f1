"""Certificate chains of members and of TLS peers (RFC 5280, own path rules).

The rules, in order: a bounded chain, leaf first; each certificate issued and signed by the next; the last one issued by
an anchor; all valid at the given instant; keys P-256, P-384 or RSA of at least 2048 bits; signatures with SHA-256 or
better; authorities are marked as such, may sign certificates and keep their path length; no critical extension that is
not understood; no name constraints (refused rather than ignored). The leaf is no authority and may be used as asked.

Own rules, because members' certificates come from public authorities whose profile is not the web's. Revocation is not
checked here: it needs lists and a notion of *when*.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from itertools import pairwise
from typing import Literal, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from evidence.errors import CertificateInvalid, IdentifierInvalid, KeyUnusable
from evidence.identifiers import MemberId
from evidence.signer import PublicKey, algorithm_of, public_bytes_of

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)

Usage = Literal["member", "tls-server", "tls-client"]

MAX_CHAIN = 6
MAX_CERTIFICATE_BYTES = 65_536
MEMBER_URI_PREFIX = "lienthong:"

_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_UNDERSTOOD = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.CERTIFICATE_POLICIES,
    }
)
_EXTENDED = {"tls-server": ExtendedKeyUsageOID.SERVER_AUTH, "tls-client": ExtendedKeyUsageOID.CLIENT_AUTH}


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a verified leaf certificate says.

    Attributes:
        member: From a SAN URI `lienthong:<member>`; None if the certificate names none.
        public_key: The key object.
        public_bytes: SubjectPublicKeyInfo in DER: what the directory pins.
        serial: Serial number.
        not_before_at: Start of validity.
        not_after_at: End of validity.
        dns_names: SAN DNS names.
        ip_addresses: SAN addresses, as text.
        fingerprint: SHA-256 over the certificate, 64 hex digits.
        der: The certificate.
    """

    member: MemberId | None
    public_key: PublicKey
    public_bytes: bytes
    serial: int
    not_before_at: datetime
    not_after_at: datetime
    dns_names: tuple[str, ...]
    ip_addresses: tuple[str, ...]
    fingerprint: str
    der: bytes


def load_pem_chain(data: bytes) -> list[bytes]:
    """Read the certificates of a PEM file, in order, as DER.

    Raises:
        CertificateInvalid: None, or one that cannot be read.
    """
    try:
        return [public_der(certificate) for certificate in x509.load_pem_x509_certificates(data)]
    except (ValueError, x509.InvalidVersion):
        raise CertificateInvalid("a PEM file contains no readable certificate", reason="malformed") from None


def public_der(certificate: x509.Certificate) -> bytes:
    """The DER bytes of a certificate object."""
    return certificate.public_bytes(Encoding.DER)


def _load(der: bytes) -> x509.Certificate:
    if len(der) > MAX_CERTIFICATE_BYTES:
        raise CertificateInvalid(f"a certificate of {len(der)} bytes is too large", reason="malformed")
    try:
        certificate = x509.load_der_x509_certificate(der)
        _ = certificate.subject, certificate.issuer  # names are parsed when they are first read
        for extension in certificate.extensions:
            if extension.critical and extension.oid not in _UNDERSTOOD:
                raise CertificateInvalid(
                    f"a certificate has the critical extension {extension.oid.dotted_string}, which is not understood",
                    reason="critical-extension",
                )
            if extension.oid == ExtensionOID.NAME_CONSTRAINTS:
                raise CertificateInvalid("a certificate has name constraints, which are not supported", reason="names")
    except (
        ValueError,
        x509.InvalidVersion,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
        UnsupportedAlgorithm,
    ):
        raise CertificateInvalid("a certificate cannot be read", reason="malformed") from None
    return certificate


def _check_key(certificate: x509.Certificate) -> PublicKey:
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateInvalid("a certificate has an unreadable key", reason="weak-key") from None
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise CertificateInvalid("a certificate's key is neither ECDSA nor RSA", reason="weak-key")
    try:
        algorithm_of(key)
    except KeyUnusable:
        raise CertificateInvalid(
            "a certificate's key is not P-256, P-384 or RSA of 2048 bits", reason="weak-key"
        ) from None
    return key


def _check_signature(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    try:
        algorithm = certificate.signature_hash_algorithm
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        raise CertificateInvalid(
            "a certificate was not issued by the next one in the chain", reason="signature"
        ) from None
    if not isinstance(algorithm, _HASHES):
        raise CertificateInvalid("a certificate is signed with a weak or unknown hash", reason="weak-hash")


def _check_validity(certificate: x509.Certificate, at: datetime) -> None:
    if at < certificate.not_valid_before_utc:
        raise CertificateInvalid("a certificate was not yet valid at that instant", reason="not-yet-valid")
    if at > certificate.not_valid_after_utc:
        raise CertificateInvalid("a certificate had expired at that instant: renew it", reason="expired")


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _check_authority(certificate: x509.Certificate, below: int) -> None:
    """Check that a certificate may issue, with `below` intermediate authorities beneath it."""
    constraints = _extension(certificate, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        raise CertificateInvalid("a certificate in the chain is not an authority's", reason="not-an-authority")
    if constraints.path_length is not None and below > constraints.path_length:
        raise CertificateInvalid("the chain is longer than an authority allows", reason="path-length")
    usage = _extension(certificate, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        raise CertificateInvalid("an authority's key may not sign certificates", reason="key-usage")


def _check_leaf(certificate: x509.Certificate, usage: Usage) -> None:
    constraints = _extension(certificate, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        raise CertificateInvalid(
            "an authority's certificate cannot speak for a member or server", reason="is-authority"
        )
    key_usage = _extension(certificate, x509.KeyUsage)
    if usage == "member":
        if key_usage is None or not (key_usage.digital_signature or key_usage.content_commitment):
            raise CertificateInvalid("a member's certificate must be for signatures", reason="key-usage")
        return
    if key_usage is not None and not key_usage.digital_signature:
        raise CertificateInvalid("a TLS certificate's key may not sign", reason="key-usage")
    extended = _extension(certificate, x509.ExtendedKeyUsage)
    if extended is None or _EXTENDED[usage] not in extended:
        raise CertificateInvalid(f"a certificate is not meant for {usage}", reason="extended-key-usage")


def _member(names: x509.SubjectAlternativeName | None) -> MemberId | None:
    uris = [] if names is None else names.get_values_for_type(x509.UniformResourceIdentifier)
    found = [uri.removeprefix(MEMBER_URI_PREFIX) for uri in uris if uri.startswith(MEMBER_URI_PREFIX)]
    if not found:
        return None
    if len(found) > 1:
        raise CertificateInvalid("a certificate names more than one member", reason="member")
    try:
        return MemberId.parse(found[0])
    except IdentifierInvalid:
        raise CertificateInvalid("the member named in a certificate is no identifier", reason="member") from None


def _describe(certificate: x509.Certificate, der: bytes) -> Certificate:
    key = _check_key(certificate)
    names = _extension(certificate, x509.SubjectAlternativeName)
    return Certificate(
        member=_member(names),
        public_key=key,
        public_bytes=public_bytes_of(key),
        serial=certificate.serial_number,
        not_before_at=certificate.not_valid_before_utc,
        not_after_at=certificate.not_valid_after_utc,
        dns_names=() if names is None else tuple(names.get_values_for_type(x509.DNSName)),
        ip_addresses=() if names is None else tuple(map(str, names.get_values_for_type(x509.IPAddress))),
        fingerprint=sha256(der).hexdigest(),
        der=der,
    )


def describe(der: bytes) -> Certificate:
    """Read a certificate WITHOUT verifying who issued it.

    Raises:
        CertificateInvalid: It cannot be read, or its key is too weak.
    """
    return _describe(_load(der), der)


def _find_anchor(last: x509.Certificate, anchors: Sequence[x509.Certificate]) -> x509.Certificate:
    failure = CertificateInvalid("the chain does not lead to a trusted authority", reason="no-anchor")
    for anchor in anchors:
        if anchor.subject == last.issuer:
            try:
                _check_signature(last, anchor)
            except CertificateInvalid as error:
                failure = error  # another anchor may have the same name and the right key
            else:
                return anchor
    raise failure


def verify_chain(chain: Sequence[bytes], anchors: Sequence[bytes], at: datetime, *, usage: Usage) -> Certificate:
    """Verify a certificate chain.

    Args:
        chain: DER certificates, the leaf first, each issued by the next; the anchor may stand last or be left out.
        anchors: DER certificates of the trusted authorities.
        at: The aware instant at which everything must be valid.
        usage: "member" (signatures in a member's name), "tls-server" or "tls-client".

    Returns:
        The leaf's contents. For "member" the caller compares `member` with whom it expects; for TLS the names.

    Raises:
        CertificateInvalid: A rule failed, see `reason`; the certificate proves nothing.
    """
    if not 1 <= len(chain) <= MAX_CHAIN:
        raise CertificateInvalid(
            f"a chain has {len(chain)} certificates; 1 to {MAX_CHAIN} are accepted", reason="length"
        )
    if len(chain) > 1 and chain[-1] in anchors:
        chain = chain[:-1]
    certificates = [_load(der) for der in chain]
    certificates.append(_find_anchor(certificates[-1], [_load(der) for der in anchors]))
    for below, (certificate, issuer) in enumerate(pairwise(certificates)):
        _check_signature(certificate, issuer)
        _check_authority(issuer, below)
    for certificate in certificates:
        _check_validity(certificate, at)
        _check_key(certificate)
    _check_leaf(certificates[0], usage)
    return _describe(certificates[0], chain[0])


def names_itself(der: bytes) -> bool:
    """Whether a certificate names itself as its issuer; verifies nothing.

    Raises:
        CertificateInvalid: It cannot be read.
    """
    certificate = _load(der)
    return certificate.issuer == certificate.subject


def verify_self_signed(der: bytes, at: datetime) -> Certificate:
    """Verify that a leaf certificate is signed by its own key: it proves that key and nothing about a name.

    Args:
        der: The certificate.
        at: The aware instant at which it must be valid.

    Raises:
        CertificateInvalid: A rule failed, see `reason`.
    """
    certificate = _load(der)
    _check_key(certificate)
    _check_signature(certificate, certificate)
    _check_validity(certificate, at)
    _check_leaf(certificate, "member")
    return _describe(certificate, der)
