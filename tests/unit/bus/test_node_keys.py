"""The node's own keys as files: exchanged while it runs, taken from a folder, destroyed when nobody needs them."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from bus_world import G01, NODE_G01, NODE_H37, directory, node_entry, origin_of

from bus import errors
from bus.exchange.keeping import DayKeys
from bus.exchange.standing import CertificateStanding, require_trust
from bus.gateway.housekeeping import Housekeeping
from bus.gateway.nodekeys import Announcements, BrokerFiles, keys_of_log, successor
from bus.gateway.parts import Parts
from bus.gateway.sealingkeys import days_left, destroy, expired, load_keys, write_key
from bus.gateway.watchedkeys import WatchedKeys
from bus.sealing.keys import X25519, SealingKeyPair
from bus.transport import nkeys
from evidence.note import VerifierKey
from evidence.signer import FileSigner, generate_key_file
from registry.view import Announced, LogKey, SealingKeyEntry

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
ORIGIN = origin_of(NODE_H37)


def settings(folder: Path, **keys: object) -> SimpleNamespace:
    named = {"log": folder / "log.pem", "broker": folder / "broker.pem", "passphrase": None, **keys}
    return SimpleNamespace(keys=SimpleNamespace(**named), broker=SimpleNamespace(credentials=folder / "broker.jwt"))


# --- log key ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_keys(tmp_path: Path) -> tuple[SimpleNamespace, FileSigner, FileSigner]:
    old, new = FileSigner.generate("ed25519"), generate_key_file(tmp_path / "log.pem", "ed25519")
    return settings(tmp_path), old, new


def view_with(old: FileSigner, *others: LogKey) -> object:
    view = directory()
    key = VerifierKey(ORIGIN, old.public_bytes)
    view.nodes[ORIGIN] = node_entry(NODE_H37, log_key=key, other_keys=others)
    return view


def test_the_same_log_key_is_no_successor(two_keys):
    made, _, new = two_keys
    present = VerifierKey(ORIGIN, new.public_bytes)
    assert successor(made, directory(), ORIGIN, present, NOW) is None


def test_a_log_key_signs_only_once_the_directory_names_it_and_its_time_has_come(two_keys):
    made, old, new = two_keys
    present, following = VerifierKey(ORIGIN, old.public_bytes), VerifierKey(ORIGIN, new.public_bytes)
    for view in (directory(), view_with(old), view_with(old, LogKey(following, NOW + timedelta(seconds=1), None))):
        with pytest.raises(errors.SettingsInvalid):
            successor(made, view, ORIGIN, present, NOW)
    named = view_with(old, LogKey(following, NOW, None))
    found = successor(made, named, ORIGIN, present, NOW)
    assert found is not None
    assert found.public_bytes == new.public_bytes
    assert keys_of_log(named, ORIGIN) == (present, following)
    assert keys_of_log(directory(), "elsewhere") == ()
    with pytest.raises(errors.SettingsInvalid):
        successor(made, view_with(old, LogKey(following, NOW, None, True)), ORIGIN, present, NOW)


def test_an_unreadable_log_key_refuses_the_reload(tmp_path):
    with pytest.raises(errors.SettingsInvalid):
        successor(settings(tmp_path), directory(), ORIGIN, VerifierKey(ORIGIN, b"k" * 32), NOW)


# --- broker key -------------------------------------------------------------------------------------------------------


def credentials(user: FileSigner) -> str:
    account = FileSigner.generate("ed25519")
    return nkeys.user_jwt(
        "n", user.public_bytes, account.public_bytes, account.sign, 1, expires_at_s=None, publish=None, subscribe=None
    )


def test_a_connection_is_made_with_a_key_and_credentials_that_belong_together(tmp_path):
    first = generate_key_file(tmp_path / "broker.pem", "ed25519")
    (tmp_path / "broker.jwt").write_text(credentials(first) + "\n")
    files = BrokerFiles(settings(tmp_path))
    assert files.jwt() == (tmp_path / "broker.jwt").read_text().strip()
    assert files.sign(b"x") == first.sign(b"x")
    second = FileSigner.generate("ed25519")
    (tmp_path / "broker.jwt").write_text(credentials(second))
    with pytest.raises(ValueError, match="not the one"):
        files.jwt()
    second.save(tmp_path / "next.pem")
    (tmp_path / "next.pem").replace(tmp_path / "broker.pem")
    files.jwt()
    assert files.sign(b"x") == second.sign(b"x")
    (tmp_path / "broker.jwt").write_text("not a token")
    assert files.jwt() == "not a token"
    (tmp_path / "broker.jwt").write_text(credentials(first))
    (tmp_path / "broker.pem").unlink()
    with pytest.raises(ValueError, match="cannot be read"):
        files.jwt()


# --- sealing keys -----------------------------------------------------------------------------------------------------


def sealed_by(*entries: tuple[SealingKeyPair, datetime | None]) -> SimpleNamespace:
    known = {
        pair.keyid: SealingKeyEntry(
            keyid=pair.keyid,
            owner=G01,
            kem=X25519,
            public=b"",
            use=frozenset({"query"}),
            valid_from_at=NOW,
            until_at=end,
        )
        for pair, end in entries
    }
    return SimpleNamespace(sealing_key_by_id=known.get, is_revoked=lambda _kind, _id: False)


def test_new_files_are_taken_and_unreadable_ones_change_nothing(tmp_path):
    watched = WatchedKeys(tmp_path)
    watched.take_over()
    assert watched.query == {}
    pair = SealingKeyPair.generate(X25519)
    path = write_key(tmp_path, G01, "query", pair)
    os.utime(tmp_path, ns=(1, 1))
    kept = watched.query
    watched.take_over()
    assert kept.keys() == {pair.keyid}, "the same dictionary, filled anew"
    path.chmod(0o644)
    os.utime(tmp_path, ns=(2, 2))
    watched.take_over()
    assert kept.keys() == {pair.keyid}
    assert not list(tmp_path.glob(".*"))


def test_a_key_is_kept_until_nothing_can_be_on_its_way_to_it(tmp_path):
    ended, lasting, endless, unknown = (SealingKeyPair.generate(X25519) for _ in range(4))
    for pair in (ended, lasting, endless, unknown):
        write_key(tmp_path, G01, "query", pair)
    view = sealed_by((ended, NOW - timedelta(hours=1)), (lasting, NOW + timedelta(hours=1)), (endless, None))
    keys = load_keys(tmp_path)
    assert expired(keys, view, NOW, 3601) == []
    assert expired(keys, view, NOW, 3600) == [ended.keyid]
    watched = WatchedKeys(tmp_path)
    watched.take(keys)
    assert watched.destroy_expired(view, NOW, 0) == [ended.keyid]
    assert watched.query.keys() == load_keys(tmp_path)["query"].keys() == {lasting.keyid, endless.keyid, unknown.keyid}
    assert destroy(tmp_path, [ended.keyid]) == 0


def test_the_newest_key_of_each_use_is_never_destroyed(tmp_path):
    older, newest, answer = (SealingKeyPair.generate(X25519) for _ in range(3))
    for pair, use in ((older, "query"), (newest, "query"), (answer, "answer")):
        write_key(tmp_path, G01, use, pair)
    day = timedelta(days=1)
    view = sealed_by((older, NOW - 2 * day), (newest, NOW - day), (answer, NOW - 3 * day))
    assert expired(load_keys(tmp_path), view, NOW + 1000 * day, 0) == [older.keyid]


@pytest.mark.parametrize(
    ("ahead", "confirmed", "destroyed"),
    [
        pytest.param(timedelta(), timedelta(), True, id="both say that its time is over"),
        pytest.param(timedelta(days=10), timedelta(days=-2), False, id="the clock is ahead: the directory looks old"),
        pytest.param(timedelta(), timedelta(hours=-2), False, id="the directory is fresh enough, but says: not yet"),
        pytest.param(timedelta(), None, False, id="nobody has confirmed anything yet"),
    ],
)
async def test_a_wrong_clock_destroys_no_key(tmp_path, ahead, confirmed, destroyed):
    ended, newest = SealingKeyPair.generate(X25519), SealingKeyPair.generate(X25519)
    for pair in (ended, newest):
        write_key(tmp_path, G01, "query", pair)
    watched = WatchedKeys(tmp_path)
    watched.take(load_keys(tmp_path))
    as_of = None if confirmed is None else NOW + confirmed
    follower = SimpleNamespace(
        directory=sealed_by((ended, NOW - timedelta(hours=1)), (newest, None)),
        as_of=as_of,
        fresh=lambda now: as_of is not None and now - as_of <= timedelta(hours=3),
    )
    parts = SimpleNamespace(
        clock=SimpleNamespace(now=lambda: NOW + ahead), follower=follower, sealing=watched,
        confirmed_now=lambda: Parts.confirmed_now(parts),
    )  # fmt: skip
    settings = SimpleNamespace(keys=SimpleNamespace(sealing_kept_s=0.0))
    await Housekeeping(parts, SimpleNamespace(), lambda: settings).destroy_keys()
    assert (ended.keyid not in load_keys(tmp_path)["query"]) is destroyed


@pytest.mark.parametrize("confirmed", [None, timedelta(days=-1)], ids=["nobody confirms a time", "another day"])
async def test_a_wrong_clock_erases_no_contents(tmp_path, confirmed):
    keys = DayKeys(tmp_path, lambda size: b"k" * size)
    keys.cipher(NOW.date().isoformat())
    told = None if confirmed is None else NOW + confirmed
    settings = SimpleNamespace(retention=SimpleNamespace(particulars_days=1))
    parts = SimpleNamespace(day_keys=keys, confirmed_now=lambda: told)
    housekeeping = Housekeeping(parts, SimpleNamespace(), lambda: settings)
    await housekeeping.erase_old_contents()
    assert [path.stem for path in tmp_path.glob("*.key")] == [NOW.date().isoformat()]
    parts.confirmed_now = lambda: NOW + timedelta(days=2)
    await housekeeping.erase_old_contents()
    assert not list(tmp_path.glob("*.key"))


def test_days_left_are_those_of_the_last_key():
    first, second = SealingKeyPair.generate(X25519), SealingKeyPair.generate(X25519)
    view = sealed_by((first, NOW + timedelta(days=1)), (second, NOW + timedelta(days=3)))
    pairs = {first.keyid: first, second.keyid: second}
    assert days_left(pairs, view, NOW) == 3
    assert days_left({}, view, NOW) == 0
    assert days_left(pairs, sealed_by((first, None)), NOW) == float("inf")
    view.is_revoked = lambda _kind, keyid: keyid == second.keyid
    assert days_left(pairs, view, NOW) == 1


# --- who stands now ---------------------------------------------------------------------------------------------------


def test_calls_are_refused_by_the_reason_that_a_person_can_act_on():
    view, standing = directory(), CertificateStanding()
    view.nodes.setdefault(origin_of(NODE_G01), node_entry(NODE_G01))
    require_trust(view, standing, ORIGIN, G01)
    standing.withdrawn = frozenset({G01})
    with pytest.raises(errors.ProviderRevoked):
        require_trust(view, standing, ORIGIN, G01)
    assert (standing.refusal(G01), standing.refusal("other")) == ("certificate-revoked", "")
    standing.unknown = True
    with pytest.raises(errors.RevocationUnknown):
        require_trust(view, standing, ORIGIN, G01)
    assert standing.refusal("other") == "revocation-unknown"


def test_a_provider_is_revoked_as_a_member_or_by_all_its_nodes():
    view, standing = directory(), CertificateStanding()
    view.nodes[origin_of(NODE_G01)] = node_entry(NODE_G01, status="revoked")
    with pytest.raises(errors.ProviderRevoked):
        require_trust(view, standing, ORIGIN, G01)
    view = directory()
    view.revoked.add(("member", G01))
    with pytest.raises(errors.ProviderRevoked):
        require_trust(view, standing, ORIGIN, G01)
    view = directory()
    view.nodes[ORIGIN] = node_entry(NODE_H37, status="revoked")
    with pytest.raises(errors.OwnNodeRevoked):
        require_trust(view, standing, ORIGIN, G01)


def test_an_announced_change_of_keys_is_told_once():
    heard: list[tuple[str, str]] = []
    said = {G01: Announced(frozenset({"a"}), frozenset(), NOW)}
    told, view = Announcements(), SimpleNamespace(announcements=lambda: said)
    told.look(view, lambda code, member: heard.append((code, member)))
    told.look(view, lambda code, member: heard.append((code, member)))
    assert heard == [("key-change-announced", G01)]
    said[G01] = Announced(frozenset({"b"}), frozenset(), NOW + timedelta(days=1))
    told.look(view, lambda code, member: heard.append((code, member)))
    assert len(heard) == 2
