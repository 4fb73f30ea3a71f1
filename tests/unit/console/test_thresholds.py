"""Every act of an operator whose instance asks for two of three keys: one key alone signs nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from console_world import INSTANCE, Registry, fails, free_port, run, run_json
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from console.homes import InstanceHome, MemberHome
from console.instance import load_authority
from console.membership import call_registry
from evidence.identifiers import MemberId
from evidence.issue import issue_member, to_pem
from evidence.signer import FileSigner, public_key_of_pem

MEMBER = f"{INSTANCE}/GOV/A1"


class Office:
    """Two of three operators sign; only the first one's key lies in the instance's home."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "instance"
        listen, keys = f"127.0.0.1:{free_port()}", ("--operators", "3", "--threshold", "2")
        made = run_json("init", "instance", INSTANCE, "--home", self.home, "--registry-listen", listen, *keys)
        for number in (2, 3):
            shutil.move(self.home / "operators" / str(number), self.operator(number))
        self.genesis, self.url = made["genesis"], made["registry"]
        self.registry = Registry(self.home)

    def operator(self, number: int) -> Path:
        return self.folder / f"operator-{number}"

    def member(self, code: str) -> Path:
        home, id_ = self.folder / code, f"{INSTANCE}/GOV/{code}"
        where = ("--registry", self.url, "--genesis", self.genesis, "--name", f"en={code}")
        run("join", "--member", id_, "--home", home, *where)
        run("member", "approve", id_, "--home", self.home, "--operator-home", self.operator(2))
        run("join", "--status", "--home", home)
        return home

    def newest(self, type_: str, subject: str) -> dict[str, object] | None:
        url = InstanceHome(self.home).facts.registry_url
        found = call_registry(url, lambda client: client.newest(type_, subject))
        return None if found is None else json.loads(found.payload)


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    made = Office(tmp_path_factory.mktemp("thresholds"))
    with made.registry:
        made.member("A1")
        yield made


def new_key(folder: Path) -> Path:
    signer, path = FileSigner.generate("p256"), folder / "new.pub"
    public = signer.private_key.public_key()
    path.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path


def catalogue(folder: Path, purpose: str) -> Path:
    path = folder / f"{purpose}.toml"
    path.write_text(f'[purposes]\n{purpose} = {{ en = "{purpose}" }}\n[grounds]\n')
    return path


ACTS = {
    "certificate lists": ("anchor", INSTANCE),
    "group set": ("group", f"{INSTANCE}#partners"),
    "purposes publish": ("catalogue", INSTANCE),
    "key revoke": ("revocation", "key:" + "7" * 64),
    "operator anchor": ("anchor", INSTANCE),
}


def words(act: str, folder: Path) -> tuple[object, ...]:
    return {
        "certificate lists": ("http://lists.example.org/a.crl",),
        "group set": ("partners", MEMBER),
        "purposes publish": (catalogue(folder, "residence"),),
        "key revoke": ("7" * 64, "--reason", "lost"),
        "operator anchor": ("--revocation-list", "http://lists.example.org/b.crl"),
    }[act]


@pytest.mark.parametrize("act", sorted(ACTS))
def test_one_key_publishes_nothing_and_two_do(office: Office, tmp_path: Path, act: str) -> None:
    said = (*act.split(), *words(act, tmp_path), "--home", office.home)
    before = office.newest(*ACTS[act])
    assert fails(*said) == "signatures-missing"
    assert office.newest(*ACTS[act]) == before
    run(*said, "--operator-home", office.operator(2))
    assert office.newest(*ACTS[act]) != before


def test_a_node_is_revoked_by_two_and_a_trial_leaves_no_proposal(office: Office, tmp_path: Path) -> None:
    home = office.member("A4")
    run("node", "add", "n1", "--home", home, "--front", "127.0.0.1:0", "--admin", "127.0.0.1:0")
    said = ("node", "revoke", f"{INSTANCE}/GOV/A4/@n1", "--home", office.home, "--reason", "lost")
    there = set((office.home / "proposals").glob("revocation-*"))
    assert run_json(*said, "--dry-run")["revoked"] is False
    assert set((office.home / "proposals").glob("revocation-*")) == there
    assert fails(*said) == "signatures-missing"
    made = run_json(*said, "--operator-home", office.operator(3))
    assert made["revoked"] is True
    assert made["acknowledged"] >= made["since"]


def test_a_proposal_of_an_act_is_signed_elsewhere_and_submitted(office: Office, tmp_path: Path) -> None:
    for path in (office.home / "proposals").glob("catalogue-*"):
        path.unlink()
    run("purposes", "publish", catalogue(tmp_path, "transfer"), "--home", office.home, "--json", code=1)
    (proposal,) = (office.home / "proposals").glob("catalogue-*")
    assert run_json("operator", "sign", proposal, "--home", office.operator(3))["missing"] == 0
    assert run_json("operator", "submit", proposal, "--home", office.home)["state"] == "submitted"
    found = office.newest("catalogue", INSTANCE)
    assert found is not None
    assert "transfer" in json.dumps(found)


def test_lost_keys_are_announced_by_two(office: Office, tmp_path: Path) -> None:
    office.member("A2")
    said = ("member", "recover", f"{INSTANCE}/GOV/A2", "--public-key", new_key(tmp_path), "--home", office.home)
    assert fails(*said) == "signatures-missing"
    announced = run_json(*said, "--operator-home", office.operator(2))
    assert announced["confirmed"] is False
    found = office.newest("member", f"{INSTANCE}/GOV/A2")
    assert found is not None
    assert found["change"] == "announced"


def certified(office: Office, home: Path, code: str) -> None:
    """What the authority does with keys/member.next.pub."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    now, key = datetime.now(UTC), load_pem_public_key((home / "keys" / "member.next.pub").read_bytes())
    der = issue_member(
        load_authority(InstanceHome(office.home)),
        MemberId.parse(f"{INSTANCE}/GOV/{code}"),
        key,  # type: ignore[arg-type]
        not_before_at=now - timedelta(minutes=5),
        not_after_at=now + timedelta(days=30),
    )
    (home / "keys" / "member.next.crt").write_bytes(to_pem([der]))


def test_a_members_own_change_is_confirmed_by_two_operators(office: Office) -> None:
    home = office.member("A3")
    run("member", "rotate", "--home", home)
    certified(office, home, "A3")
    run("member", "rotate", "--home", home)
    said = ("member", "confirm", home / "member-change.json", "--home", office.home)
    assert fails(*said) == "signatures-missing"
    proposal = max((office.home / "proposals").glob("member-*"), key=lambda path: path.stat().st_mtime_ns)
    shown = run_json("operator", "read", proposal)
    assert (shown["missing"], len(shown["signed_by"])) == (1, 3), "the member's two signatures are no operator's"
    assert "signed    1 of 2" in run("operator", "read", proposal).output
    assert run_json("operator", "sign", proposal, "--home", office.operator(3))["missing"] == 0
    assert run_json("operator", "submit", proposal, "--home", office.home)["state"] == "submitted"
    assert "taken" in run("member", "rotate", "--home", home).output
    taken = FileSigner.load(MemberHome(home).member_key).public_bytes
    assert taken == public_key_of_pem(MemberHome(home).certificate)
    run("subsystem", "add", "desk", "--home", home)


def test_operator_keys_are_not_for_a_members_word(office: Office) -> None:
    home = office.folder / "A1"
    further = ("--operator-home", office.operator(2))
    assert fails("group", "set", "mine", MEMBER, "--home", home, *further) == "home-invalid"
    assert fails("key", "revoke", "8" * 64, "--reason", "lost", "--home", home, *further) == "home-invalid"
