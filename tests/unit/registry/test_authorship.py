"""The cross product: every type of document, by every author, for either instance."""

from __future__ import annotations

import itertools

import pytest
from registry_world import CLIENT, INSTANCE, RIGHT, SERVICE, SUBSYSTEM, Party, World, b64

from evidence.signer import FileSigner
from registry import documents as d
from registry.authorship import AUTHORS, check_authorship, owner_of
from registry.errors import AuthorshipRefused
from registry.fold import Applied, Skipped

AUTHORS_TRIED = ("operator", "owner", "other-member", "stranger")
INSTANCES = ("same", "other-genesis", "other-name")
MAY = {
    "anchor": {"operator"},
    "member": {"operator"},
    "node": {"owner"},
    "sealing": {"owner"},
    "subsystem": {"owner"},
    "group": {"owner"},
    "operator-group": {"operator"},
    "service": {"owner"},
    "access": {"owner"},
    "catalogue": {"operator"},
    "revocation": {"operator", "owner"},
}


def document_of(world: World, kind: str) -> d.AnyDocument:
    provider = world.provider.id
    match kind:
        case "anchor":
            return world.make_anchor(**world.common("anchor", INSTANCE))
        case "member":
            return world.member(world.provider, names={"en": "Renamed"})
        case "node":
            return world.node(f"{provider}/@n2")
        case "sealing":
            return world.sealing(f"{provider}/@n1", b"\x07" * 32)
        case "subsystem":
            return world.subsystem(f"{provider}/land")
        case "group":
            return d.Group(**world.common("group", f"{provider}#portals"), names={"en": "Portals"}, clients=(CLIENT,))
        case "operator-group":
            return d.Group(**world.common("group", f"{world.instance}#all"), names={"en": "All"}, clients=(CLIENT,))
        case "service":
            return world.service(f"{provider}/population/households")
        case "access":
            return world.access(f"{provider}/population/citizens#again")
        case "catalogue":
            return d.Catalogue(
                **world.common("catalogue", world.instance), purposes=(d.Term(code="residence", names={"en": "R"}),)
            )
        case _:
            return world.revocation(f"node:{provider}/@n1")


def party_of(world: World, author: str) -> Party:
    match author:
        case "operator":
            return world.operator
        case "owner":
            return world.provider
        case "other-member":
            return world.consumer
        case _:
            return world.party(world.provider.id)  # certified, under the owner's own name, but not pinned


@pytest.mark.parametrize(("kind", "author", "instance"), list(itertools.product(MAY, AUTHORS_TRIED, INSTANCES)))
def test_only_the_right_author_of_the_same_instance_is_heard(kind: str, author: str, instance: str) -> None:
    world = World().populate()
    if instance == "other-name":
        world.instance = "VN-OTHER"
        document = document_of(world, kind)
    else:
        document = document_of(world, kind)
    genesis = "f" * 64 if instance == "other-genesis" else world.genesis
    outcome = world.append(world.sign(document, party_of(world, author), genesis=genesis))
    if instance == "same" and author in MAY[kind]:
        assert isinstance(outcome, Applied), outcome
        expected = "operator" if author == "operator" else world.provider.id
        assert outcome.author == expected
    else:
        assert isinstance(outcome, Skipped)
        if instance == "other-genesis":
            assert outcome.code == "wrong-genesis"
        elif instance == "other-name":
            assert outcome.code == "wrong-instance"


def test_the_table_has_every_type_of_document() -> None:
    assert set(AUTHORS) == set(d.TYPES)


def test_a_type_without_a_row_has_no_author(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.authorship.AUTHORS", {})
    with pytest.raises(AuthorshipRefused, match="nobody may sign"):
        check_authorship(world.service(), {}, world.directory)


@pytest.mark.parametrize(
    ("subject", "owner"),
    [(SERVICE, "VN-TEST/GOV/G01"), (RIGHT, "VN-TEST/GOV/G01"), ("VN-TEST", ""), ("VN-TEST#g", ""), ("a/b", "")],
)
def test_a_subject_belongs_to_its_first_three_parts(subject: str, owner: str) -> None:
    assert owner_of(subject) == owner


def skipped(world: World, document: d.AnyDocument, *parties: Party) -> str:
    outcome = world.append(world.sign(document, *parties))
    assert isinstance(outcome, Skipped), outcome
    return outcome.code


def rekeyed(world: World, *keys: d.PinnedKey) -> d.Member:
    return world.member(world.provider, keys=keys)


def test_a_rekey_by_the_operator_alone_is_refused(world: World) -> None:
    new = world.party(world.provider.id)
    assert skipped(world, rekeyed(world, new.pinned()), world.operator) == "previous-key-missing"
    assert skipped(world, rekeyed(world, new.pinned()), world.operator, new) == "previous-key-missing"
    world.put(rekeyed(world, new.pinned()), world.operator, world.provider)
    assert skipped(world, world.subsystem(f"{world.provider.id}/a"), world.provider) == "member-signature-missing"
    world.put(world.subsystem(f"{world.provider.id}/a"), new)


def test_a_stolen_signing_key_is_replaced_with_the_recovery_key(world: World) -> None:
    recovery, new = world.party(world.provider.id), world.party(world.provider.id)
    world.put(rekeyed(world, world.provider.pinned(), recovery.pinned("recovery")), world.operator, world.provider)
    locked_out = world.revocation(f"key:{recovery.keyid}")
    assert skipped(world, locked_out, world.provider) == "operator-signature-missing"
    world.put(world.revocation(f"key:{world.provider.keyid}"), recovery)
    keys = new.pinned(), recovery.pinned("recovery")
    assert skipped(world, rekeyed(world, *keys), world.operator, world.provider) == "previous-key-missing"
    world.put(rekeyed(world, *keys), world.operator, recovery)
    assert skipped(world, world.subsystem(f"{world.provider.id}/a"), recovery) == "member-signature-missing"


def test_a_member_cannot_change_its_own_status(world: World) -> None:
    document = world.member(world.provider, status="active")
    assert skipped(world, document, world.provider) == "operator-signature-missing"


@pytest.mark.parametrize("status", ["suspended", "left"])
def test_a_member_that_is_not_active_can_only_withdraw_trust(world: World, status: str) -> None:
    world.put(world.member(world.provider, status=status), world.operator)
    assert skipped(world, world.subsystem(f"{world.provider.id}/a"), world.provider) == "member-not-active"
    world.put(world.revocation(f"node:{world.provider.id}/@n1"), world.provider)


def test_a_revoked_member_cannot_publish(world: World) -> None:
    world.put(world.revocation(f"member:{world.provider.id}"), world.operator)
    assert skipped(world, world.subsystem(f"{world.provider.id}/a"), world.provider) == "member-not-active"


def test_a_member_revokes_its_own_keys_and_nobody_elses(world: World) -> None:
    key = f"key:{world.consumer.keyid}"
    assert skipped(world, world.revocation(key), world.provider) == "operator-signature-missing"
    world.put(world.revocation(key), world.consumer)
    unknown = f"key:{'0' * 64}"
    assert skipped(world, world.revocation(unknown), world.consumer) == "operator-signature-missing"
    world.put(world.revocation(unknown), world.operator)
    member = "member:VN-TEST/GOV/NEW"
    assert skipped(world, world.revocation(member), world.consumer) == "operator-signature-missing"


def test_a_certificate_that_names_another_member_contradicts_the_pinned_key(world: World) -> None:
    certificate_of_another = world.party(world.consumer.id)
    world.put(rekeyed(world, certificate_of_another.pinned()), world.operator, world.provider)
    document = world.subsystem(f"{world.provider.id}/a")
    assert skipped(world, document, certificate_of_another) == "member-signature-missing"


def test_a_threshold_counts_different_unrevoked_operators() -> None:
    world = World()
    second, third = world.party("VN-TEST/OPERATOR/two"), world.party("VN-TEST/OPERATOR/three")
    world.begin()
    operators = tuple(d.Operator(keyid=p.keyid, spki=p.spki) for p in (world.operator, second, third))
    anchor = world.make_anchor(**world.common("anchor", world.instance), operators=operators, threshold=2)
    assert skipped(world, anchor, world.operator) == "operator-signature-missing"
    assert skipped(world, anchor, second, third) == "operator-signature-missing"
    world.put(anchor, world.operator, third)
    member = world.member(world.party("VN-TEST/GOV/X"))
    assert skipped(world, member, world.operator) == "operator-signature-missing"
    assert skipped(world, member, world.operator, world.operator) == "operator-signature-missing"
    world.put(world.revocation(f"key:{third.keyid}"), world.operator, second)
    assert skipped(world, member, second, third) == "operator-signature-missing"
    world.put(member, second, world.operator)


def test_nobody_is_the_operator_before_the_anchor() -> None:
    world = World()
    with pytest.raises(AuthorshipRefused, match="no anchor"):
        check_authorship(world.member(world.provider), {world.operator.keyid: None}, world.directory)


def test_an_owner_that_is_not_a_member_has_no_word(begun: World) -> None:
    stranger = begun.party("VN-TEST/GOV/NEW")
    assert skipped(begun, begun.subsystem("VN-TEST/GOV/NEW/a"), stranger) == "member-unknown"
    group = d.Group(**begun.common("group", "VN-TEST/GOV/NEW#g"), names={})
    assert skipped(begun, group, begun.operator) == "member-unknown"


def test_the_directory_keys_are_revoked_by_the_operator_only(world: World) -> None:
    from registry.publickeys import key_id

    subject = f"key:{key_id(world.log_signer.public_bytes)}"
    assert skipped(world, world.revocation(subject), world.provider) == "operator-signature-missing"
    world.put(world.revocation(subject), world.operator)
    assert b64(FileSigner.generate("ed25519").public_bytes) not in SUBSYSTEM
