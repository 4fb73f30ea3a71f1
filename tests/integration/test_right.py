"""Which right allowed this call on that day: asked of a member's log, proven to somebody who has nothing but the genesis."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from world import Answer, CommandFailed, World, standard_world, wait_until

from console.demo.forgeries import registry_leaves
from console.homes import InstanceHome
from registry.checkpoints import directory_verifier
from registry.documents import Anchor, decode

SERVICE = "G01/desk/notes"
ROOT = Path(__file__).parents[2]


class Asked:
    """Three calls under a right that was widened after the first and withdrawn after the second."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.genesis = f"sha256:{world.genesis}"
        client = world.clients["H37/app"]
        self.ids = [self.call()]
        world.grant(client.subsystem, "G01", "desk/notes", "--any", "--field", "*")
        self.settle()
        self.ids.append(self.call())
        world.command("access", "revoke", client.subsystem, "desk/notes", "--home", str(world.member("G01").home))
        self.settle()
        wait_until(lambda: self.ask().status == 403, "the refusal")
        self.ids.append(self.call())

    def ask(self) -> Answer:
        return self.world.call(self.world.clients["H37/app"], SERVICE, "/notes/1", purpose="residence")

    def call(self) -> str:
        return self.ask().headers["x-road-request-id"]

    def settle(self) -> None:
        size = len(registry_leaves(InstanceHome(self.world.home)))
        for code in ("G01", "H37"):
            wait_until(lambda code=code: self.world.metric(code, "lienthong_directory_size") >= size, "the news")

    def collect(self, record: str, out: Path, code: str = "G01") -> dict[str, Any]:
        home = str(self.world.member(code).home)
        return self.world.command("audit", "right", record, "--home", home, "--out", str(out))

    def verify(self, folder: Path) -> dict[str, Any]:
        return self.world.command("audit", "right", "--verify", str(folder), "--genesis", self.genesis)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    with standard_world(tmp_path_factory.mktemp("right") / "world") as world:
        yield Asked(world)


def test_the_right_of_the_day_is_told_also_when_it_was_changed_and_withdrawn_later(
    asked: Asked, tmp_path: Path
) -> None:
    subject = f"{asked.world.service_id(SERVICE)}#"
    for number, (rights, later) in enumerate((([0], [1, 2]), ([1], [2]), ([], []))):
        found = asked.collect(asked.ids[number], tmp_path / f"{number}")
        assert [one["seq"] for one in found["rights"]] == rights
        assert [one["seq"] for one in found["later"]] == later
        assert all(one["subject"].startswith(subject) for one in (*found["rights"], *found["later"]))
        assert found["service"]["seq"] == 0
        assert found["call"]["closed_by"] == ("answer ok" if rights else "refusal refused")
        assert found["decided_by"] == asked.world.member("G01").node
        assert asked.verify(tmp_path / f"{number}") == {**found, "verified": True}


def test_both_sides_prove_the_same_and_a_leaf_hash_names_the_call_as_well(asked: Asked, tmp_path: Path) -> None:
    ours = asked.collect(asked.ids[0], tmp_path / "ours", "H37")
    by_leaf = asked.collect(ours["call"]["leaf_hash"], tmp_path / "theirs")
    for name in ("call", "view", "decided_by", "rights", "service", "later"):
        assert ours[name] == by_leaf[name]
    assert asked.verify(tmp_path / "ours")["rights"] == asked.verify(tmp_path / "theirs")["rights"]


def test_the_folder_is_verified_by_a_program_that_knows_nothing_but_the_genesis(asked: Asked, tmp_path: Path) -> None:
    asked.collect(asked.ids[0], tmp_path / "made")
    shutil.move(tmp_path / "made", tmp_path / "moved")
    command = [sys.executable, "-m", "console.cli", "audit", "right", "--verify", str(tmp_path / "moved")]
    done = subprocess.run([*command, "--genesis", asked.genesis], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("VERIFIED")
    assert "allowed by access" in done.stdout
    other = subprocess.run(
        [*command, "--genesis", "sha256:" + "0" * 64], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert other.returncode == 1
    assert "Traceback" not in other.stderr


def test_the_documents_of_the_folder_are_verified_with_openssl_alone(asked: Asked, tmp_path: Path) -> None:
    found = asked.collect(asked.ids[1], tmp_path / "made")
    anchor = decode(_payload((asked.world.home / "registry" / "anchor.json").read_bytes()))
    assert isinstance(anchor, Anchor)
    key = str(directory_verifier(asked.world.genesis, anchor).log)
    for one in (*found["rights"], found["service"], *found["later"]):
        stem = tmp_path / "made" / f"{one['type']}-{one['index']}"
        script = [str(ROOT / "docs" / "verify-record.sh"), f"{stem}.leaf", f"{stem}.tlog-proof", key]
        done = subprocess.run(["bash", *script], capture_output=True, text=True, check=False)
        assert f"VERIFIED: leaf {one['index']} of {found['checkpoint'].split()[0]}" in done.stdout, done.stdout


def _payload(jws: bytes) -> bytes:
    text = json.loads(jws)["payload"]
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.mark.parametrize("what", ["claim", "record", "proof", "directory", "checkpoint", "withdrawal", "nothing"])
def test_a_folder_that_was_changed_is_not_verified(asked: Asked, tmp_path: Path, what: str) -> None:
    folder = tmp_path / "made"
    asked.collect(asked.ids[0], folder)
    bundle = next(path for path in (folder / "directory" / "tile" / "entries").rglob("*") if path.is_file())
    match what:
        case "claim":
            claim = json.loads((folder / "right.json").read_bytes())
            claim["rights"][0]["seq"] = 1
            (folder / "right.json").write_text(json.dumps(claim))
        case "record":
            flip(folder / "record-0.leaf", -40)
        case "proof":
            shutil.copy(folder / "record-1.tlog-proof", folder / "record-0.tlog-proof")
        case "directory":
            flip(bundle, 3000)
        case "checkpoint":
            flip(folder / "directory" / "checkpoint", -20)
        case "withdrawal":
            data = bundle.read_bytes()
            bundle.write_bytes(data[: len(data) // 2])
        case _:
            shutil.rmtree(folder / "directory")
    with pytest.raises(CommandFailed) as refused:
        asked.verify(folder)
    assert refused.value.code


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_what_cannot_be_asked_is_said(asked: Asked, tmp_path: Path) -> None:
    for record in ("0" * 64, "01890000-0000-7000-8000-000000000000", "x"):
        with pytest.raises(CommandFailed) as refused:
            asked.collect(record, tmp_path / "none")
        assert refused.value.code == "home-invalid"
        assert not (tmp_path / "none").exists()
    asked.collect(asked.ids[0], tmp_path / "twice")
    with pytest.raises(CommandFailed, match="not empty"):
        asked.collect(asked.ids[0], tmp_path / "twice")
