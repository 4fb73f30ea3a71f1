"""Becoming a member, on the real thing: the walk-through as it is written, and what the operators' threshold holds off."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from walkthrough import ROOT, blocks, skip_unless_free, typed
from world import World, wait_until

from console.homes import InstanceHome, MemberHome
from console.membership import call_registry
from console.operators import OperatorHome
from console.views import local_directory
from evidence.header import encode_time
from evidence.leaf import DIRECTORY
from evidence.log import ExchangeLog
from evidence.signer import FileSigner
from registry.checkpoints import directory_origin
from registry.client import RegistryRefused
from registry.documents import Member, PinnedKey, Revocation
from registry.envelope import add_signature, sign_document

PAGE = ROOT / "docs" / "onboarding.md"
PORTS = (28470, 24222, 28443, 29443, 28453, 29453)
SECTION = re.compile(r"^## (.*)$", re.MULTILINE)
MAX_COMMANDS, MAX_SECONDS = 12, 60.0

# --- the page -------------------------------------------------------------------------------------------------------


def sections() -> dict[str, str]:
    """Text of the page by heading."""
    parts = SECTION.split(PAGE.read_text(encoding="utf-8"))
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def shell(text: str) -> str:
    return "".join(blocks(text))


def normal(line: str) -> str:
    """A line without what differs from run to run."""
    return re.sub(r"[0-9]+(\.[0-9]+)?", "0", re.sub(r"[0-9a-f]{12,64}", "#", line.partition(" …")[0].rstrip("…")))


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the page's commands print, with the time at which each section begins."""
    skip_unless_free(PORTS)
    script = "set -m\n"
    for title, text in sections().items():
        script += f"echo '@@ {title} @@' $(date +%s.%N)\n{shell(text)}"
    return typed(script, tmp_path_factory.mktemp("applicant"))


@pytest.mark.slow
def test_every_line_that_the_page_shows_was_printed(walked: str) -> None:
    printed = {normal(line) for line in walked.splitlines()}
    shown = [
        line
        for block in re.findall(r"^```\n(.*?)^```$", re.sub(r"^```(?:sh|text)\n.*?^```$", "", PAGE.read_text("utf-8"),
                                                              flags=re.DOTALL | re.MULTILINE), re.DOTALL | re.MULTILINE)
        for line in block.splitlines()
    ]  # fmt: skip
    assert len(shown) > 20
    missing = [line for line in shown if not any(one.startswith(normal(line)) for one in printed)]
    assert not missing, walked


@pytest.mark.slow
def test_from_the_request_to_the_first_answer_takes_at_most_twelve_commands_and_a_minute(walked: str) -> None:
    commands = re.findall(r"^lienthong ", shell(sections()["The member joins"]), re.MULTILINE)
    assert len(commands) <= MAX_COMMANDS
    times = {title: float(at) for title, at in re.findall(r"^@@ (.*) @@ ([0-9.]+)$", walked, re.MULTILINE)}
    seconds = times["When something is wrong"] - times["The member joins"]
    assert seconds < MAX_SECONDS
    said = re.search(r"on two cores they took ([0-9]+) seconds", PAGE.read_text(encoding="utf-8"))
    assert said is not None
    assert "**twelve commands**" in PAGE.read_text(encoding="utf-8")
    print(f"onboarding_commands {len(commands)} onboarding_seconds {seconds:.1f}")


def test_no_command_of_the_page_edits_a_file_of_a_home() -> None:
    for line in shell("".join(sections().values())).splitlines():
        assert not re.search(r"(>|sed|tee|cp|nano|vi)\s.*\b(gateway|member|instance)\.(toml|json)\b", line), line


# --- the threshold --------------------------------------------------------------------------------------------------


class Office(World):
    """An instance with three operators, of whom two sign; only the first key is where the registry is."""

    instance_options = ("--operators", "3", "--threshold", "2")

    def start_broker(self) -> None:
        """The keys are carried away before anything runs."""
        for number in ("2", "3"):
            if (self.home / "operators" / number).exists():
                shutil.move(self.home / "operators" / number, self.folder / f"operator-{number}")
        super().start_broker()

    def further(self, number: int = 2) -> tuple[str, str]:
        """Option that names another operator's key."""
        return "--operator-home", str(self.folder / f"operator-{number}")

    def ask(self, code: str) -> Path:
        """A request for membership; its home."""
        home = self.folder / code
        self.command("join", "--member", self.member_id(code), "--home", str(home), "--registry", self.registry_url,
                     "--genesis", f"sha256:{self.genesis}", "--name", f"en={code}")  # fmt: skip
        return home


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with Office(tmp_path_factory.mktemp("office")) as made:
        made.approve_options = made.further()
        made.add_member("G01")
        made.start_gateway("G01")
        yield made


def members(office: Office) -> set[str]:
    """Members as the gateway of G01 verified them."""
    found = office.command("catalogue", "--home", str(office.member("G01").home))
    return {one["id"] for one in found["members"]}


def test_one_operator_alone_admits_nobody(office: Office) -> None:
    home = office.ask("H01")
    with pytest.raises(AssertionError, match="signatures-missing"):
        office.command("member", "approve", office.member_id("H01"), "--home", str(office.home))
    assert office.command("join", "--status", "--home", str(home))["state"] == "pending"
    (proposal,) = (office.home / "proposals").glob("member-*.json")
    with pytest.raises(AssertionError, match="operator-signature-missing"):
        office.command("operator", "submit", str(proposal), "--home", str(office.home))
    assert office.command("operator", "read", str(proposal))["missing"] == 1
    key = str(office.folder / "operator-3")
    assert office.command("operator", "sign", str(proposal), "--home", key)["missing"] == 0
    with pytest.raises(AssertionError, match=r"signed .* already"):
        office.command("operator", "sign", str(proposal), "--home", key)
    assert office.command("operator", "submit", str(proposal), "--home", str(office.home))["state"] == "approved"
    assert office.command("join", "--status", "--home", str(home))["state"] == "approved"
    wait_until(lambda: office.member_id("H01") in members(office), "the new member at the gateway")
    proposal.unlink()


def test_one_operator_alone_refuses_nobody(office: Office) -> None:
    home = office.ask("H02")
    args = ("member", "refuse", office.member_id("H02"), "--home", str(office.home), "--reason", "not an agency")
    with pytest.raises(AssertionError, match="signatures-missing"):
        office.command(*args)
    assert office.command("join", "--status", "--home", str(home))["state"] == "pending"
    assert office.command(*args, *office.further())["state"] == "refused"
    told = office.command("join", "--status", "--home", str(home))
    assert (told["state"], told["reason"]) == ("refused", "not an agency")


def _forged_member(office: Office, code: str, keys: int) -> bytes:
    """A member document by the first operator's key, or by the first and a key that is no operator's."""
    facts, operator = InstanceHome(office.home).facts, OperatorHome(office.home / "operators" / "1").load()
    stranger = FileSigner.generate("p256")
    document = Member(
        instance=facts.instance,
        subject=office.member_id(code),
        seq=0,
        issued=encode_time(datetime.now(UTC)),
        status="active",
        names={"en": "Forged"},
        keys=(PinnedKey(spki=base64.b64encode(stranger.public_bytes).decode()),),
    )
    signed = sign_document(document, operator.signer, operator.chain, facts.genesis)
    if keys > 1:
        folder = office.folder / "false-operator"
        if not folder.exists():
            office.command("operator", "key", str(folder), "--home", str(office.home))
        other = OperatorHome(folder).load()
        signed = add_signature(signed, other.signer, other.chain)
    return signed


@pytest.mark.parametrize("keys", [1, 2])
def test_a_document_without_the_threshold_is_refused_by_the_registry(office: Office, keys: int) -> None:
    """The second time with a key beside it that the authority certified as an operator's, but no anchor names."""
    forged = _forged_member(office, "X1", keys)
    with pytest.raises(RegistryRefused) as caught:
        call_registry(InstanceHome(office.home).facts.registry_url, lambda client: client.submit(forged))
    assert caught.value.code == "operator-signature-missing"


def test_a_registry_with_only_one_of_the_operators_keys_cannot_forge(office: Office) -> None:
    """It has the directory's own keys and appends to its log what it likes: no gateway believes it."""
    facts = InstanceHome(office.home).facts
    revoked = Revocation(
        instance=facts.instance, subject=f"member:{office.member_id('G01')}", seq=0,
        issued=encode_time(datetime.now(UTC)), since=encode_time(datetime.now(UTC)), reason="forged",
    )  # fmt: skip
    operator = OperatorHome(office.home / "operators" / "1").load()
    forged = [
        _forged_member(office, "X2", 1),
        _forged_member(office, "X3", 2),
        sign_document(revoked, operator.signer, operator.chain, facts.genesis),
    ]
    office.stop_registry()
    asyncio.run(_append(office, forged))
    office.start_registry()
    size = call_registry(facts.registry_url, lambda client: client.checkpoint()).split(b"\n")[1].decode()

    def arrived() -> bool:
        view: str = office.admin("G01", "/status").json()["directory"]["view"]
        return int(view.partition(" ")[0]) >= int(size)

    wait_until(arrived, "the forged leaves at the gateway")
    assert not members(office) & {office.member_id(code) for code in ("X2", "X3")}
    assert office.admin("G01", "/readyz").status == 200
    with local_directory(MemberHome(office.member("G01").home)) as directory:
        assert not directory.is_revoked("member", office.member_id("G01"))
        assert [one.code for one in directory.skipped][-3:] == ["operator-signature-missing"] * 3


async def _append(office: Office, documents: list[bytes]) -> None:
    facts = InstanceHome(office.home).facts
    log = await ExchangeLog.open(
        office.home / "registry" / "directory.db",
        origin=directory_origin(facts.genesis, facts.instance),
        signer=FileSigner.load(office.home / "keys" / "directory.pem"),
        now=lambda: datetime.now(UTC),
        token=lambda: "a-token-of-this-test",
    )
    try:
        await log.append([DIRECTORY + jws for jws in documents])
    finally:
        await log.close()


def test_a_forged_approval_is_not_taken_by_the_applicant(office: Office) -> None:
    """The registry answers that one operator's word is an approval, with a certificate of the instance's authority."""
    home = office.ask("H03")
    request = json.loads((home / "joining.json").read_text())["request"]
    detail = call_registry(MemberHome(home).facts.registry, lambda client: client.request_detail(request))
    told = {
        "request": {**json.loads(_json(detail.request)), "state": "approved"},
        "jws": detail.jws,
        "decision": _forged_member(office, "H03", 1).decode(),
        "certificate": (office.home / "operators" / "1" / "operator.crt").read_text(),
    }
    decision = office.folder / "forged.json"
    decision.write_text(json.dumps(told))
    with pytest.raises(AssertionError, match="operator-signature-missing"):
        office.command("join", "--accept", str(decision), "--home", str(home))
    assert not (home / "keys" / "member.crt").exists()


def _json(value: object) -> bytes:
    return msgspec.json.encode(value)


def test_the_operators_change_by_the_old_and_the_new_threshold(office: Office) -> None:
    """A third key goes, a new one comes: signed by two of the old ones and by two of the new ones."""
    folder = office.folder / "operator-4"
    made = office.command("operator", "key", str(folder), "--home", str(office.home))
    before = office.command("operator", "show", "--home", str(office.home))
    dropped = OperatorHome(office.folder / "operator-3").facts.keyid
    change = ("operator", "anchor", "--add", str(folder), "--drop", dropped[:12], "--home", str(office.home))
    with pytest.raises(AssertionError, match="signatures-missing"):
        office.command(*change)
    with pytest.raises(AssertionError, match="signatures-missing"):
        office.command(*change, "--operator-home", str(folder))  # two of the new ones, but one of the old ones
    changed = office.command(*change, *office.further())
    assert made["key"] in changed["operators"]
    assert dropped not in changed["operators"]
    after = office.command("operator", "show", "--home", str(office.home))
    assert (before["anchors"] + 1, after["threshold"]) == (after["anchors"], 2)
    home = office.ask("H04")
    with pytest.raises(AssertionError, match="signatures-missing"):
        office.command("member", "approve", office.member_id("H04"), "--home", str(office.home), *office.further(3))
    approve = ("member", "approve", office.member_id("H04"), "--home", str(office.home), "--operator-home", str(folder))
    assert office.command(*approve)["state"] == "approved"
    assert office.command("join", "--status", "--home", str(home))["state"] == "approved"
    began_s = time.monotonic()
    wait_until(lambda: office.member_id("H04") in members(office), "the new member at the gateway")
    assert time.monotonic() - began_s < 15
