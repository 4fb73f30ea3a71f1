"""A member whose key is stolen or lost comes back with its recovery key, and with nobody's leave but the operator's."""

from __future__ import annotations

from pathlib import Path

import pytest
from console_world import INSTANCE, fails, run, run_json
from office import Office

from console.homes import MemberHome
from console.views import local_directory
from evidence.signer import FileSigner


def member(office: Office, code: str) -> Path:
    office.ask(code)
    run("member", "approve", f"{INSTANCE}/GOV/{code}", "--home", office.home)
    run("join", "--status", "--home", office.folder / code, "--wait", "5")
    return office.folder / code


def certify(office: Office, home: Path, public: Path, out: Path) -> None:
    own = f"{INSTANCE}/GOV/{home.name}"
    run("certificate", "issue", own, "--home", office.home, "--public-key", public, "--out", out)


def with_recovery_key(office: Office, code: str, safe: Path) -> tuple[Path, tuple[object, ...]]:
    """A member that has a recovery key, and the options that use it."""
    home, key = member(office, code), safe / "recovery.pem"
    make = ("member", "recovery-key", "--home", home, "--out", key)
    made = run_json(*make)
    assert made["pinned"] is False
    assert run_json(*make)["pinned"] is False, "the same key, until the operator confirms it"
    certify(office, home, made["public_key"], safe / "recovery.crt")
    run("member", "confirm", made["change"], "--home", office.home)
    assert run_json(*make)["pinned"] is True
    return home, ("--recovery-key", key, "--recovery-certificate", safe / "recovery.crt")


@pytest.mark.parametrize("lost", [False, True], ids=["stolen", "lost"])
def test_the_recovery_key_replaces_the_member_key(office: Office, tmp_path: Path, lost: bool) -> None:
    home, options = with_recovery_key(office, f"R{int(lost)}", tmp_path)
    before = FileSigner.load(home / "keys/member.pem").public_bytes
    assert (tmp_path / "recovery.pem").stat().st_mode & 0o777 == 0o600
    rotate = ("member", "rotate", "--home", home)
    if lost:
        (home / "keys/member.pem").unlink()
    else:
        run("key", "revoke", home / "keys/member.crt", "--home", office.home, "--reason", "stolen")
    assert run_json(*rotate)["step"] == "made"
    certify(office, home, home / "keys/member.next.pub", home / "keys/member.next.crt")
    if not lost:
        run(*rotate)
        assert fails("member", "confirm", home / "member-change.json", "--home", office.home) == "previous-key-missing"
    made = run_json(*rotate, *options)
    assert made["step"] == "signed"
    run("member", "confirm", made["change"], "--home", office.home)
    assert run_json(*rotate)["step"] == "taken"
    assert FileSigner.load(home / "keys/member.pem").public_bytes != before
    run("subsystem", "add", "desk", "--home", home)
    office.registry.follow(home)
    with local_directory(MemberHome(home)) as directory:
        entry = directory.member(f"{INSTANCE}/GOV/{home.name}")
        assert entry is not None
        assert len(entry.recovery_keys) == 1, "it goes on for the next time"


def test_a_recovery_key_is_not_kept_in_the_home(office: Office) -> None:
    home = member(office, "R2")
    make = ("member", "recovery-key", "--home", home, "--out")
    assert fails(*make, home / "keys/recovery.pem") == "home-invalid"
    assert not (home / "keys/recovery.pem").exists()


def test_a_foreign_key_recovers_nothing(office: Office, tmp_path: Path) -> None:
    home, _ = with_recovery_key(office, "R3", tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    _, options = with_recovery_key(office, "R4", other)
    rotate = ("member", "rotate", "--home", home)
    run(*rotate)
    certify(office, home, home / "keys/member.next.pub", home / "keys/member.next.crt")
    made = run_json(*rotate, *options)
    assert fails("member", "confirm", made["change"], "--home", office.home) == "previous-key-missing"


def test_a_second_recovery_key_that_is_never_confirmed_leaves_the_first_one_known(
    office: Office, tmp_path: Path
) -> None:
    home, _ = with_recovery_key(office, "R5", tmp_path)
    run("member", "recovery-key", "--home", home, "--out", tmp_path / "second.pem")
    rotate = ("member", "rotate", "--home", home)
    run(*rotate)
    certify(office, home, home / "keys/member.next.pub", home / "keys/member.next.crt")
    assert run_json(*rotate)["step"] == "signed", "the pinned recovery key is the home's own"
