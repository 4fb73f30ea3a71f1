"""Keys that are encrypted under a passphrase, and member keys of other kinds, through the commands."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from console_world import INSTANCE, Registry, fails, free_port, run, run_json

from console.homes import MemberHome
from console.operators import OperatorHome
from evidence.errors import KeyUnusable
from evidence.signer import FileSigner


def secret(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text + "\n")
    path.chmod(mode)
    return path


class Office:
    """Two of two operators sign; each key has a passphrase of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "instance"
        self.passphrases = [secret(folder / f"passphrase-{number}", f"operator {number}") for number in (1, 2)]
        listen, keys = f"127.0.0.1:{free_port()}", ("--operators", "2", "--threshold", "2")
        where = ("--home", self.home, "--registry-listen", listen)
        named = [word for path in self.passphrases for word in ("--passphrase-file", path)]
        made = run_json("init", "instance", INSTANCE, *where, *keys, *named)
        self.genesis, self.url = made["genesis"], made["registry"]
        self.registry = Registry(self.home)

    def asking(self, code: str) -> tuple[object, ...]:
        where = ("--registry", self.url, "--genesis", self.genesis, "--name", f"en={code}")
        return ("join", "--member", f"{INSTANCE}/GOV/{code}", "--home", self.folder / code, *where)

    def admit(self, code: str, *more: object) -> Path:
        run(*self.asking(code), *more)
        run("member", "approve", f"{INSTANCE}/GOV/{code}", "--home", self.home)
        run("join", "--status", "--home", self.folder / code)
        return self.folder / code


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    made = Office(tmp_path_factory.mktemp("kinds"))
    with made.registry:
        yield made


def test_operator_keys_are_encrypted_each_under_its_own_passphrase(office: Office) -> None:
    for number in (1, 2):
        home = OperatorHome(office.home / "operators" / str(number))
        with pytest.raises(KeyUnusable):
            FileSigner.load(home.key)
        with pytest.raises(KeyUnusable):
            FileSigner.load(home.key, passphrase_path=office.passphrases[2 - number])
        assert home.load().keyid == home.facts.keyid


def test_a_member_whose_key_is_encrypted_signs_and_changes_its_key(office: Office) -> None:
    passphrase = secret(office.folder / "member-passphrase", "a member's")
    home = MemberHome(office.admit("A1", "--passphrase-file", passphrase))
    assert home.passphrase == passphrase
    with pytest.raises(KeyUnusable):
        FileSigner.load(home.member_key)
    run("subsystem", "add", "desk", "--home", home.path)
    run("member", "rotate", "--home", home.path)
    with pytest.raises(KeyUnusable):
        FileSigner.load(home.keys / "member.next.pem")
    FileSigner.load(home.keys / "member.next.pem", passphrase_path=passphrase)


def test_asking_again_needs_no_passphrase_and_takes_no_other(office: Office, tmp_path: Path) -> None:
    passphrase = secret(office.folder / "again", "once more")
    run(*office.asking("A2"), "--passphrase-file", passphrase, "--out", tmp_path / "request.json")
    before = MemberHome(office.folder / "A2").load_key().public_bytes
    office.admit("A2")
    assert MemberHome(office.folder / "A2").load_key().public_bytes == before
    other = secret(office.folder / "other", "another")
    assert fails(*office.asking("A2"), "--passphrase-file", other) == "home-invalid"


@pytest.mark.parametrize(("text", "mode"), [("", 0o600), ("open to all", 0o644)])
def test_a_passphrase_file_that_is_no_secret_is_refused_and_nothing_is_made(
    office: Office, tmp_path: Path, text: str, mode: int
) -> None:
    passphrase = secret(tmp_path / "passphrase", text, mode)
    assert fails(*office.asking("A3"), "--passphrase-file", passphrase) == "key-unusable"
    assert not (office.folder / "A3").exists()
    made = ("init", "instance", INSTANCE, "--home", tmp_path / "i", "--passphrase-file", passphrase)
    assert fails(*made) == "key-unusable"
    assert not (tmp_path / "i").exists()


def test_passphrases_are_one_or_one_for_each(office: Office, tmp_path: Path) -> None:
    named = ("--operators", "3", *(word for path in office.passphrases for word in ("--passphrase-file", path)))
    assert fails("init", "instance", INSTANCE, "--home", tmp_path / "i", *named) == "home-invalid"


def test_a_key_that_was_carried_away_finds_its_passphrase_beside_it_or_where_it_is_told(
    office: Office, tmp_path: Path
) -> None:
    passphrase = secret(tmp_path / "first", "carried")
    folder, proposal = tmp_path / "operator-3", tmp_path / "proposal.json"
    run("operator", "key", folder, "--home", office.home, "--passphrase-file", passphrase)
    passphrase.rename(tmp_path / "moved")
    change = ("operator", "anchor", "--add", folder, "--threshold", "3", "--home", office.home)
    assert fails(*change, "--operator-home", folder) == "key-unusable"
    run(*change, code=1)
    (kept, *_) = (office.home / "proposals").glob("anchor-*")
    shutil.copy(kept, proposal)
    assert fails("operator", "sign", proposal, "--home", folder) == "key-unusable"
    told = ("--passphrase-file", tmp_path / "moved")
    assert run_json("operator", "sign", proposal, "--home", folder, *told)["type"] == "anchor"
    shutil.copy(kept, proposal)
    os.link(tmp_path / "moved", folder / "passphrase")
    assert run_json("operator", "sign", proposal, "--home", folder)["type"] == "anchor"


@pytest.mark.parametrize(("kind", "algorithm"), [("p384", "ES384"), ("rsa2048", "PS256"), ("rsa3072", "PS256")])
def test_a_member_joins_with_a_key_of_another_kind(office: Office, kind: str, algorithm: str) -> None:
    home = MemberHome(office.admit(f"K-{kind}", "--key", kind))
    assert home.load_key().algorithm == algorithm
    run("subsystem", "add", "desk", "--home", home.path)


def test_a_key_is_a_kind_or_a_file(office: Office, tmp_path: Path) -> None:
    assert "neither a kind" in run(*office.asking("A4"), "--key", "p521", code=2).output
    assert not (office.folder / "A4").exists()
