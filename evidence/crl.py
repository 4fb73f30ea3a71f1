"""Certificate revocation lists (RFC 5280 section 5): complete lists of one authority, verified, with an age.

A list counts when it is signed, with SHA-256 or better, by an authority that may sign lists, under the authority's own
name; when it has a `nextUpdate`; and when it covers everything the authority issues. Delta lists, indirect lists, lists
for some reasons or some certificates only, and critical extensions that are not understood are refused, not ignored.

Pure: fetches nothing, keeps nothing, knows no clock. Which authorities are trusted, and how old a list may be, is said
by the caller. OCSP is not spoken.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID

from evidence.errors import RevocationListInvalid
from evidence.signer import PublicKey

MAX_LIST_BYTES = 8 << 20
SKEW = timedelta(minutes=5)

_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_UNDERSTOOD = frozenset({ExtensionOID.ISSUING_DISTRIBUTION_POINT, ExtensionOID.CRL_NUMBER})


@dataclass(frozen=True, slots=True)
class RevocationList:
    """A verified list.

    Attributes:
        issuer: DER of the authority's name, as its certificates carry it.
        number: Its CRL number; 0 where there is none.
        this_update_at: When it was made.
        next_update_at: By when there will be a newer one.
        serials: The certificates that it names. A set: the parsed list is searched from its beginning each time.
        signer: SHA-256 of the key that signed it (SubjectPublicKeyInfo in DER), 64 hex digits: an authority that has a
            new key keeps its name, and the lists of both stand.
    """

    issuer: bytes
    number: int
    this_update_at: datetime
    next_update_at: datetime
    serials: frozenset[int]
    signer: str = ""

    @property
    def entries(self) -> int:
        """How many certificates it names."""
        return len(self.serials)

    def revokes(self, issuer: bytes, serial: int) -> bool:
        """Whether it names a certificate, given by its issuer's name (DER) and its serial number."""
        return issuer == self.issuer and serial in self.serials

    def current_until_at(self, max_age: timedelta) -> datetime:
        """Until when it may be relied on: its own `nextUpdate`, or the caller's limit of age, whichever is earlier."""
        return min(self.next_update_at, self.this_update_at + max_age)

    def replaces(self, older: "RevocationList") -> bool:
        """Whether it may take the place of another list of the same authority: nobody is taken back in time."""
        mine, theirs = (self.this_update_at, self.number), (older.this_update_at, older.number)
        return self.issuer != older.issuer or (mine[0] >= theirs[0] and mine[1] >= theirs[1])


class ListAuthority(NamedTuple):
    """Who may sign lists: the authority's name (DER), and SHA-256 of its key as in `RevocationList.signer`."""

    name: bytes
    signer: str


def authority_of(der: bytes) -> ListAuthority | None:
    """An authority's certificate as lists know it; None where it cannot be read or may not sign lists."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        if not _may_sign(certificate):
            return None
        return ListAuthority(certificate.subject.public_bytes(), _digest(certificate.public_key()))
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension):
        return None


def read_list(data: bytes, authorities: Sequence[bytes], now: datetime) -> RevocationList:
    """Read and verify a list, in DER or PEM; the largest take tenths of a second: not for an event loop.

    Args:
        data: As fetched; at most 8 MiB.
        authorities: DER certificates of authorities that are trusted already, one of which must have signed.
        now: Aware UTC: the list must not be from the future. Whether it is too old is the caller's to say.

    Raises:
        RevocationListInvalid: It is not such a list, or nobody trusted signed it; it says nothing.
    """
    parsed = _parse(data)
    try:
        return _verified(parsed, authorities, now)
    except (ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        # the parser looks at a field when it is asked for it
        raise RevocationListInvalid("a revocation list cannot be read", reason="malformed") from None


def _verified(parsed: x509.CertificateRevocationList, authorities: Sequence[bytes], now: datetime) -> RevocationList:
    next_update_at = parsed.next_update_utc
    if next_update_at is None:
        raise RevocationListInvalid("a revocation list does not say when the next one comes", reason="no-next-update")
    if parsed.last_update_utc > now + SKEW or next_update_at <= parsed.last_update_utc:
        raise RevocationListInvalid("a revocation list is from the future, or ends before it begins", reason="time")
    signer = _check_signature(parsed, authorities)
    return RevocationList(
        issuer=parsed.issuer.public_bytes(),
        number=_check_extensions(parsed),
        this_update_at=parsed.last_update_utc,
        next_update_at=next_update_at,
        serials=frozenset(entry.serial_number for entry in parsed),  # each of them can be read
        signer=signer,
    )


def _parse(data: bytes) -> x509.CertificateRevocationList:
    if len(data) > MAX_LIST_BYTES:
        raise RevocationListInvalid(f"a revocation list of {len(data)} bytes is too large", reason="too-large")
    try:
        if data.lstrip().startswith(b"-----BEGIN"):
            return x509.load_pem_x509_crl(data)
        return x509.load_der_x509_crl(data)
    except (ValueError, TypeError, x509.InvalidVersion):
        raise RevocationListInvalid("a revocation list cannot be read", reason="malformed") from None


def _check_signature(parsed: x509.CertificateRevocationList, authorities: Sequence[bytes]) -> str:
    """Digest of the trusted key that signed."""
    try:
        weak = not isinstance(parsed.signature_hash_algorithm, _HASHES)
    except UnsupportedAlgorithm:
        weak = True
    if weak:
        raise RevocationListInvalid("a revocation list is signed with a weak or unknown hash", reason="weak-hash")
    for der in authorities:
        key = _key_that_signed(parsed, der)
        if key is not None:
            return _digest(key)
    raise RevocationListInvalid("no trusted authority that may do so signed the revocation list", reason="signature")


def _digest(key: CertificatePublicKeyTypes) -> str:
    return sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _key_that_signed(parsed: x509.CertificateRevocationList, der: bytes) -> PublicKey | None:
    """The key of an authority, if it may sign lists and signed this one; an odd certificate signed nothing."""
    try:
        authority = x509.load_der_x509_certificate(der)
        if authority.subject != parsed.issuer or not _may_sign(authority):
            return None
        key = authority.public_key()
        if isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey) and parsed.is_signature_valid(key):
            return key
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension):
        pass
    return None


def _may_sign(authority: x509.Certificate) -> bool:
    try:
        if not authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
        return authority.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
    except x509.ExtensionNotFound as error:
        # Without key usage everything is allowed (RFC 5280 section 6.3.3 f); without basic constraints nothing is.
        return error.oid == ExtensionOID.KEY_USAGE
    except ValueError:
        return False


def _check_extensions(parsed: x509.CertificateRevocationList) -> int:
    """The CRL number, once every extension says that the list is complete."""
    number = 0
    for extension in parsed.extensions:
        if extension.oid in {ExtensionOID.DELTA_CRL_INDICATOR, ExtensionOID.FRESHEST_CRL} and extension.critical:
            raise RevocationListInvalid("a delta revocation list is not complete", reason="delta")
        if extension.critical and extension.oid not in _UNDERSTOOD:
            raise RevocationListInvalid(
                f"a revocation list has the critical extension {extension.oid.dotted_string}, which is not understood",
                reason="critical-extension",
            )
        if isinstance(extension.value, x509.IssuingDistributionPoint):
            _check_scope(extension.value)
        elif isinstance(extension.value, x509.CRLNumber):
            number = extension.value.crl_number
    return number


def _check_scope(point: x509.IssuingDistributionPoint) -> None:
    if point.indirect_crl:
        raise RevocationListInvalid("an indirect revocation list is not accepted", reason="indirect")
    partial = (
        point.only_contains_user_certs
        or point.only_contains_ca_certs
        or point.only_contains_attribute_certs
        or point.only_some_reasons is not None
    )
    if partial:
        raise RevocationListInvalid("a revocation list covers only a part of its authority's work", reason="partial")
