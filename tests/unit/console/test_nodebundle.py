"""Files that pass between a member's home and a further node: whatever is in them, a refusal and nothing else."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.sealing.keys import SealingKeyPair
from console.nodebundle import (
    AnswerKey,
    BundleRefused,
    NodeRequest,
    NodeRequestRefused,
    PublicKey,
    open_bundle,
    read_request,
    sign_request,
)
from evidence.signer import FileSigner

GENESIS, MEMBER = "ab" * 32, "VN-TEST/GOV/G01"
AT = datetime(2026, 1, 1, tzinfo=UTC)
PAIR = SealingKeyPair.generate("X25519")
LOG, BROKER = FileSigner.generate("ed25519"), FileSigner.generate("ed25519")


def request(**changes: object) -> NodeRequest:
    key = PublicKey.of(PAIR)
    answer = AnswerKey(key=key, valid_from="2026-01-01T00:00:00.000000Z", until="2026-02-01T00:00:00.000000Z")
    fields: dict[str, object] = {
        "member": MEMBER, "node": "n2", "issued": "2026-01-01T00:00:00.000000Z",
        "log": base64.b64encode(LOG.public_bytes).decode(), "broker": base64.b64encode(BROKER.public_bytes).decode(),
        "bundle": key, "answers": (answer,),
    }  # fmt: skip
    return NodeRequest(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_request_is_read_as_it_was_signed() -> None:
    assert read_request(sign_request(request(), GENESIS, LOG, BROKER), GENESIS, MEMBER) == request()


@pytest.mark.parametrize(
    ("changes", "genesis", "signers", "said"),
    [
        ({}, "cd" * 32, (LOG, BROKER), "another instance"),
        ({"member": "VN-TEST/GOV/G02"}, GENESIS, (LOG, BROKER), "this is the home of"),
        ({}, GENESIS, (BROKER, LOG), "not signed with the keys"),
        ({}, GENESIS, (LOG, LOG), "not signed with the keys"),
        ({"answers": ()}, GENESIS, (LOG, BROKER), "keys for answers"),
        ({"bundle": PublicKey(kem="X25519", public="AAAA")}, GENESIS, (LOG, BROKER), "no key of X25519"),
    ],
)
def test_a_request_that_says_or_proves_something_else_is_refused(
    changes: dict[str, object], genesis: str, signers: tuple[FileSigner, FileSigner], said: str
) -> None:
    with pytest.raises(NodeRequestRefused, match=said):
        read_request(sign_request(request(**changes), genesis, *signers), GENESIS, MEMBER)


@given(st.data())
def test_a_request_that_was_changed_anywhere_is_refused(data: st.DataObject) -> None:
    signed = bytearray(sign_request(request(), GENESIS, LOG, BROKER))
    at = data.draw(st.integers(0, len(signed) - 1))
    signed[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(NodeRequestRefused):
        read_request(bytes(signed), GENESIS, MEMBER)


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_as_request_and_as_bundle(data: bytes) -> None:
    with pytest.raises(NodeRequestRefused):
        read_request(data, GENESIS, MEMBER)
    with pytest.raises(BundleRefused):
        open_bundle(data, genesis=GENESIS, member=MEMBER, node="n2", pair=PAIR, at=AT)


def test_a_request_is_no_bundle() -> None:
    signed = sign_request(request(), GENESIS, LOG, BROKER)
    with pytest.raises(BundleRefused, match="not a node-bundle"):
        open_bundle(signed, genesis=GENESIS, member=MEMBER, node="n2", pair=PAIR, at=AT)
