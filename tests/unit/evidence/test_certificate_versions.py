"""A certificate of a version that does not exist is refused, by name, wherever it comes from."""

import base64
from datetime import UTC, datetime, timedelta

import pytest

from evidence.errors import CertificateInvalid
from evidence.identifiers import MemberId
from evidence.issue import self_sign_member
from evidence.signer import FileSigner
from evidence.x509 import describe, load_pem_chain

NOW = datetime(2026, 1, 1, tzinfo=UTC)
VERSION_3 = bytes.fromhex("a003020102")


def of_version(number: int) -> bytes:
    signer, member = FileSigner.generate("p256"), MemberId.parse("VN/GOV/H37")
    der = self_sign_member(signer, member, not_before_at=NOW, not_after_at=NOW + timedelta(days=1))
    assert der.count(VERSION_3) == 1
    return der.replace(VERSION_3, VERSION_3[:-1] + bytes([number]))


def test_a_version_that_does_not_exist_is_refused() -> None:
    with pytest.raises(CertificateInvalid):
        describe(of_version(5))


def test_so_it_is_in_a_file() -> None:
    text = base64.b64encode(of_version(5)).decode()
    pem = f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"
    with pytest.raises(CertificateInvalid):
        load_pem_chain(pem.encode())


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa2048", "rsa3072"])
def test_a_key_of_every_kind_that_members_use_certifies_itself(kind: str) -> None:
    signer = FileSigner.generate(kind)  # type: ignore[arg-type]
    der = self_sign_member(signer, MemberId.parse("VN/GOV/H37"), not_before_at=NOW, not_after_at=NOW + timedelta(1))
    found = describe(der)
    assert (str(found.member), found.public_key) == ("VN/GOV/H37", signer.private_key.public_key())
