"""Parts of key exchange that need no registry: the front's authority, whom a reload is sent to, series of sealing keys."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from console.frontcertificates import make_front, rotate_front
from console.homes import HomeInvalid, MemberHome
from console.revocations import target_of
from console.rotation import _following, log_head, node_of, reload_gateway
from evidence.errors import KeyUnusable
from evidence.header import encode_time
from evidence.signer import FileSigner
from evidence.x509 import load_pem_chain, verify_chain
from registry.documents import Sealing

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
DAY = timedelta(days=1)


def verified(folder: Path) -> None:
    chain = load_pem_chain((folder / "front.crt").read_bytes())
    anchors = load_pem_chain((folder / "ca.crt").read_bytes())
    found = verify_chain(chain, anchors, datetime.now(UTC), usage="tls-server")
    assert found.public_bytes == FileSigner.load(folder / "front.pem").public_bytes


def test_the_front_is_certified_anew_by_the_same_authority(tmp_path: Path) -> None:
    make_front(tmp_path, ["localhost"], ["127.0.0.1"])
    first, authority = (tmp_path / "front.crt").read_bytes(), (tmp_path / "ca.crt").read_bytes()
    assert rotate_front(tmp_path, ("gateway.example.vn",))["new_authority"] is False
    verified(tmp_path)
    assert (tmp_path / "front.crt").read_bytes() != first
    assert (tmp_path / "ca.crt").read_bytes() == authority


def test_a_lost_authority_is_joined_by_a_new_one(tmp_path: Path) -> None:
    make_front(tmp_path, ["localhost"], [])
    old = (tmp_path / "ca.crt").read_bytes()
    (tmp_path / "ca.pem").unlink()
    (tmp_path / "front.next.pem").write_text("left by a command that broke off")
    assert rotate_front(tmp_path, ())["new_authority"] is True
    verified(tmp_path)
    assert (tmp_path / "ca.crt").read_bytes().endswith(old), "client systems that trust the old one go on"


def test_a_reload_goes_only_to_a_running_gateway(tmp_path: Path) -> None:
    home = MemberHome(tmp_path)
    home.data.mkdir()
    assert not reload_gateway(home)
    for content in ("{}", "rubbish", json.dumps({"pid": 2**22 + 1}), json.dumps({"pid": os.getpid()})):
        (home.data / "listening.json").write_text(content)
        assert not reload_gateway(home), "this process is no gateway, and would end by the signal"


def test_a_home_without_node_or_log_is_told_apart(tmp_path: Path) -> None:
    home = MemberHome(tmp_path)
    with pytest.raises(HomeInvalid):
        node_of(home)
    assert log_head(home) is None


def key(from_at: datetime, until_at: datetime | None) -> Sealing:
    return Sealing(
        instance="VN", subject="VN/GOV/H37#x", seq=0, issued=encode_time(NOW), kem="X25519", public="AAAA", use=("query",),
        valid_from=encode_time(from_at), until=None if until_at is None else encode_time(until_at),
    )  # fmt: skip


def test_the_next_sealing_key_begins_half_way_through_the_last_one() -> None:
    assert _following([], DAY, NOW) == NOW
    assert _following([key(NOW - DAY, NOW + 29 * DAY), key(NOW, None)], DAY, NOW) == NOW, "no series yet"
    series = [key(NOW, NOW + 2 * DAY), key(NOW + DAY, NOW + 3 * DAY)]
    assert _following(series, DAY, NOW) == NOW + 2 * DAY
    assert _following(series, 10 * DAY, NOW) == NOW + 2 * DAY, "a longer period leaves no gap behind a shorter one"


def test_what_is_revoked_is_named_in_full_or_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "instance.json").write_text("{}")
    assert target_of("member", "VN/GOV/H37", tmp_path) == "VN/GOV/H37"
    assert target_of("node", "VN/GOV/H37/@n1", tmp_path) == "VN/GOV/H37/@n1"
    assert target_of("key", "ab" * 32, tmp_path) == "ab" * 32
    signer = FileSigner.generate("p256")
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = signer.private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pub").write_bytes(public)
    assert len(target_of("key", str(tmp_path / "key.pub"), tmp_path)) == 64
    for kind, named in (("member", None), ("node", None), ("key", None), ("key", "nothing"), ("key", "AB" * 32)):
        with pytest.raises(HomeInvalid):
            target_of(kind, named, tmp_path)  # type: ignore[arg-type]
    with pytest.raises(KeyUnusable):
        target_of("key", str(tmp_path / "instance.json"), tmp_path)
