"""Requests of applicants without a certificate: a self-signed one counts here, and nowhere else."""

from __future__ import annotations

from datetime import timedelta

import pytest
from registry_world import FAR, INSTANCE, START, Party, World

from evidence.identifiers import MemberId
from evidence.issue import create_authority, issue_member, self_sign_member, to_pem
from evidence.leaf import DIRECTORY
from evidence.signer import FileSigner
from registry.errors import DocumentRefused, EnvelopeInvalid
from registry.fold import Skipped
from registry.requests import check_certificate, is_self_signed, read_request

NEW = f"{INSTANCE}/GOV/NEW"


def newcomer(id_: str = NEW, until_at=FAR) -> Party:
    signer = FileSigner.generate("p256")
    der = self_sign_member(signer, MemberId.parse(id_), not_before_at=START - timedelta(days=1), not_after_at=until_at)
    return Party(id_, signer, [der])


@pytest.fixture
def world() -> World:
    return World().begin()


def test_a_self_signed_request_is_read(world: World) -> None:
    party = newcomer()
    request = read_request(world.sign(world.member(party), party), world.directory, START)
    assert (request.member, request.keys, request.state) == (NEW, (party.keyid,), "pending")


def test_a_self_signed_document_counts_for_nothing_in_the_directory(world: World) -> None:
    party = newcomer()
    outcome = world.directory.check(DIRECTORY + world.sign(world.member(party), party))
    assert isinstance(outcome, Skipped)
    assert outcome.code == "certificate-invalid"


def test_an_operators_signature_beside_a_self_signed_one_does_not_help(world: World) -> None:
    party = newcomer()
    outcome = world.directory.check(DIRECTORY + world.sign(world.member(party), party, world.operator))
    assert isinstance(outcome, Skipped)
    assert outcome.code == "certificate-invalid"


def test_a_request_in_anothers_name_is_refused(world: World) -> None:
    party = newcomer(f"{INSTANCE}/GOV/OTHER")
    wanted = Party(NEW, party.signer, party.chain)
    with pytest.raises(DocumentRefused) as caught:
        read_request(world.sign(world.member(wanted), party), world.directory, START)
    assert caught.value.code == "member-signature-missing"


def test_a_request_by_another_key_than_it_pins_is_refused(world: World) -> None:
    party, other = newcomer(), newcomer()
    with pytest.raises(DocumentRefused) as caught:
        read_request(world.sign(world.member(party), other), world.directory, START)
    assert caught.value.code == "member-signature-missing"


def test_a_certificate_that_only_names_itself_as_issuer_is_refused(world: World) -> None:
    """Signed by another key than its own, under its own name."""
    party = newcomer()
    span = {"not_before_at": START - timedelta(days=1), "not_after_at": FAR}
    fake = create_authority(NEW, FileSigner.generate("p256"), **span)
    der = issue_member(fake, MemberId.parse(NEW), party.signer.private_key.public_key(), **span)
    assert is_self_signed([der])
    bent = Party(NEW, party.signer, [der])
    with pytest.raises(EnvelopeInvalid) as caught:
        read_request(world.sign(world.member(bent), bent), world.directory, START)
    assert caught.value.code == "certificate-invalid"


def test_an_authoritys_certificate_is_no_applicants(world: World) -> None:
    signer = FileSigner.generate("p256")
    der = create_authority(NEW, signer, not_before_at=START - timedelta(days=1), not_after_at=FAR).certificate
    party = Party(NEW, signer, [der])
    with pytest.raises(EnvelopeInvalid):
        read_request(world.sign(world.member(party), party), world.directory, START)


def test_an_expired_self_signed_certificate_is_refused(world: World) -> None:
    party = newcomer(until_at=START - timedelta(hours=1))
    with pytest.raises(EnvelopeInvalid, match="expired"):
        read_request(world.sign(world.member(party), party), world.directory, START)


def test_a_damaged_signature_is_refused(world: World) -> None:
    party, other = newcomer(), newcomer()
    mixed = Party(NEW, other.signer, party.chain)
    with pytest.raises(EnvelopeInvalid) as caught:
        read_request(world.sign(world.member(party), mixed), world.directory, START)
    assert caught.value.code == "signature-invalid"


def test_only_a_certificate_of_the_anchor_for_the_requested_key_and_member_is_kept(world: World) -> None:
    party = newcomer()
    request = read_request(world.sign(world.member(party), party), world.directory, START)
    span = {"not_before_at": START - timedelta(days=1), "not_after_at": FAR}
    key = party.signer.private_key.public_key()
    good = issue_member(world.authority, MemberId.parse(NEW), key, **span)
    check_certificate(request, to_pem([good]), world.directory, START)
    other_key = FileSigner.generate("p256").private_key.public_key()
    for bad in (
        to_pem(party.chain),
        to_pem([issue_member(world.authority, MemberId.parse(f"{INSTANCE}/GOV/X"), key, **span)]),
        to_pem([issue_member(world.authority, MemberId.parse(NEW), other_key, **span)]),
        b"nonsense",
    ):
        with pytest.raises(EnvelopeInvalid) as caught:
            check_certificate(request, bad, world.directory, START)
        assert caught.value.code == "certificate-invalid"
