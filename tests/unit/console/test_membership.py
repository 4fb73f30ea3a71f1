"""Joining and deciding by commands, with the registry in a thread: no broker, no gateway."""

from __future__ import annotations

import json
import shutil
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from console_world import INSTANCE, Registry, fails, free_port, run, run_json
from office import Office

from console.doctor.findings import Finding, worst
from console.doctor.member import _clock
from console.doctor.reaching import ask_registry, is_free
from console.homes import InstanceFacts, InstanceHome, MemberHome
from console.instance import load_authority
from console.membership import call_registry
from console.operators import missing_signatures
from evidence.identifiers import MemberId
from evidence.issue import issue_member, to_pem
from evidence.signer import FileSigner
from registry.documents import Anchor, BrokerAddress, DirectoryKeys, Operator


def test_a_member_joins_with_three_commands(office: Office) -> None:
    asked = office.ask("A1")
    approved = run_json("member", "approve", f"{INSTANCE}/GOV/A1", "--home", office.home)
    assert (approved["request"], approved["state"]) == (asked["request"], "approved")
    home = office.folder / "A1"
    assert run_json("join", "--status", "--home", home, "--wait", "5")["state"] == "approved"
    assert run_json("join", "--status", "--home", home)["state"] == "approved"  # no question is asked any more
    assert "node add" in run("join", "--status", "--home", home).output
    assert (home / "keys/member.pem").stat().st_mode & 0o777 == 0o600
    run("subsystem", "add", "desk", "--home", home)
    assert fails("member", "approve", f"{INSTANCE}/GOV/A1", "--home", office.home) == "home-invalid"


def test_joining_again_goes_on_with_the_same_key(office: Office) -> None:
    """The first try made the home and its key, and the registry was not there."""
    home = office.folder / "A2"
    carried = office.folder / "A2.json"
    office.ask("A2", "--out", carried)
    key = (home / "keys/member.pem").read_bytes()
    office.ask("A2")
    assert (home / "keys/member.pem").read_bytes() == key
    assert run_json("member", "approve", f"{INSTANCE}/GOV/A2", "--home", office.home)["state"] == "approved"
    assert run_json("join", "--status", "--home", home)["state"] == "approved"


def test_many_requests_are_refused_at_once(office: Office) -> None:
    genuine = office.ask("B1")["request"]
    where = ("--registry", office.url, "--genesis", office.genesis, "--name", "en=B1")
    for rival in ("x", "y"):
        run("join", "--member", f"{INSTANCE}/GOV/B1", "--home", office.folder / rival, *where)
    office.ask("B2")
    refuse = ("member", "refuse", "--home", office.home, "--reason", "nobody knows you")
    assert fails("member", "approve", f"{INSTANCE}/GOV/B1", "--home", office.home) == "home-invalid", "which of them?"
    assert fails(*refuse, "--all-pending", "--except", "zz") == "home-invalid"
    for wrong in ((), ("abc", "--all-pending"), ("abc", "--for", "x")):
        run(*refuse, *wrong, code=2)
    [*rivals] = run_json(*refuse, "--all-pending", "--for", f"{INSTANCE}/GOV/B1", "--except", genuine)["refused"]
    assert [(one["member"], one["state"]) for one in rivals] == [(f"{INSTANCE}/GOV/B1", "refused")] * 2
    assert run_json("member", "approve", genuine, "--home", office.home)["state"] == "approved"
    assert f"{INSTANCE}/GOV/B2" in {one["member"] for one in run_json(*refuse, "--all-pending")["refused"]}
    assert run_json(*refuse, "--all-pending")["refused"] == []


def test_a_home_of_somebody_else_is_left_alone(office: Office) -> None:
    office.ask("A3")
    other = ("join", "--member", f"{INSTANCE}/GOV/A4", "--home", office.folder / "A3", "--registry", office.url)
    assert fails(*other, "--genesis", office.genesis, "--name", "en=x") == "home-invalid"
    assert MemberHome(office.folder / "A3").facts.member.endswith("/A3")


def test_everything_can_be_carried_by_hand(office: Office) -> None:
    invitation, request, decision = (office.folder / f"{name}.json" for name in ("anchors", "request", "decision"))
    run("operator", "invite", "--out", invitation, "--home", office.home)
    home = office.folder / "A5"
    args = ("--member", f"{INSTANCE}/GOV/A5", "--home", home, "--genesis", office.genesis, "--name", "en=A5")
    far = ("--registry", "https://127.0.0.1:1", "--anchors", invitation, "--out", request)
    assert run_json("join", *args, *far)["state"] == "pending"
    run("member", "approve", "--file", request, "--out", decision, "--home", office.home)
    assert run_json("join", "--accept", decision, "--home", home)["state"] == "approved"
    assert fails("join", "--accept", decision, "--home", office.folder / "A3") == "home-invalid"
    assert fails("join", "--accept", request, "--home", home) == "home-invalid"


def test_anchors_of_another_instance_are_refused_wherever_they_come_from(office: Office, tmp_path: Path) -> None:
    invitation = tmp_path / "anchors.json"
    run("operator", "invite", "--out", invitation, "--home", office.home)
    args = ("--member", f"{INSTANCE}/GOV/A6", "--home", tmp_path / "A6", "--registry", "https://127.0.0.1:1")
    wrong = ("--genesis", f"sha256:{'0f' * 32}", "--name", "en=A6", "--anchors", invitation)
    assert fails("join", *args, *wrong, "--out", tmp_path / "r") == "wrong-genesis"
    invitation.write_text(json.dumps({"genesis": "x", "anchors": []}))
    assert fails("join", *args, *wrong, "--out", tmp_path / "r") == "wrong-genesis"
    assert not (tmp_path / "A6").exists()


def test_an_applicant_brings_the_certificate_of_an_accredited_authority(office: Office, tmp_path: Path) -> None:
    """Here the instance's own, which the anchor names, too."""
    signer, now = FileSigner.generate("p384"), datetime.now(UTC)
    signer.save(tmp_path / "own.pem")
    der = issue_member(
        load_authority(InstanceHome(office.home)), MemberId.parse(f"{INSTANCE}/GOV/A7"), signer.private_key.public_key(),
        not_before_at=now - timedelta(hours=1), not_after_at=now + timedelta(days=30),
    )  # fmt: skip
    (tmp_path / "own.crt").write_bytes(to_pem([der]))
    office.ask("A7", "--key", tmp_path / "own.pem", "--certificate", tmp_path / "own.crt")
    run("member", "approve", f"{INSTANCE}/GOV/A7", "--home", office.home)
    home = office.folder / "A7"
    assert run_json("join", "--status", "--home", home)["state"] == "approved"
    assert (home / "keys/member.crt").read_bytes() == to_pem([der])
    run("subsystem", "add", "desk", "--home", home)
    other = tmp_path / "other.pem"
    FileSigner.generate("p256").save(other)
    told = (
        "join",
        "--member",
        f"{INSTANCE}/GOV/A8",
        "--home",
        tmp_path / "A8",
        "--registry",
        office.url,
        "--name",
        "en=x",
    )
    brought = ("--genesis", office.genesis, "--certificate", tmp_path / "own.crt")
    assert fails(*told, *brought, "--key", other) == "home-invalid"
    assert fails(*told, *brought) == "home-invalid"


def test_what_is_missing_to_ask_is_wrong_usage(office: Office, tmp_path: Path) -> None:
    assert "--genesis" in run("join", "--home", tmp_path / "x", "--member", "VN/GOV/X", code=2).output
    assert "name one request" in run("member", "approve", "--home", office.home, code=2).output
    assert fails("join", "--status", "--home", tmp_path) == "home-invalid"
    assert "VN-TEST" not in run("doctor", "--home", office.folder / "A1", "--call", "x", code=2).output


def test_an_approval_without_a_certificate_says_so(office: Office, tmp_path: Path) -> None:
    """The authority's key is elsewhere: the operator brings the certificate, or nothing is approved."""
    office.ask("A9")
    key = office.home / "ca" / "ca.pem"
    shutil.move(key, tmp_path / "ca.pem")
    approve = ("member", "approve", f"{INSTANCE}/GOV/A9", "--home", office.home)
    assert fails(*approve) == "home-invalid"
    shutil.move(tmp_path / "ca.pem", key)
    public = office.folder / "A9" / "keys" / "member.pub"
    run(
        "certificate",
        "issue",
        f"{INSTANCE}/GOV/A9",
        "--home",
        office.home,
        "--public-key",
        public,
        "--out",
        tmp_path / "c",
    )
    assert run_json(*approve, "--certificate", tmp_path / "c")["state"] == "approved"
    run("join", "--status", "--home", office.folder / "A9")
    assert (office.folder / "A9" / "keys" / "member.crt").read_bytes() == (tmp_path / "c").read_bytes()


def test_an_anchor_that_changes_nothing_or_could_not_sign_is_refused(office: Office, tmp_path: Path) -> None:
    home = ("--home", office.home)
    assert fails("operator", "anchor", *home) == "home-invalid"
    assert fails("operator", "anchor", "--threshold", "4", *home) == "home-invalid"
    assert fails("operator", "anchor", "--drop", "nothing", *home) == "home-invalid"
    assert fails("operator", "anchor", "--drop", "", *home) == "home-invalid"
    assert (
        fails("operator", "sign", office.home / "instance.json", "--home", office.home / "operators/1")
        == "home-invalid"
    )
    shown = run_json("operator", "show", *home)
    assert [one["here"] for one in shown["operators"]] == [True, True, True]


def test_a_new_anchor_keeps_what_it_does_not_name(tmp_path: Path) -> None:
    office = Office(tmp_path)
    with office.registry:
        home = ("--home", office.home)

        def newest() -> Anchor:
            facts = InstanceHome(office.home).facts
            return call_registry(facts.registry_url, lambda client: client.anchor(facts.genesis))[0]

        assert run_json("operator", "anchor", "--recovery-delay-days", "30", *home)["recovery_delay_s"] == 30 * 86_400
        assert fails("operator", "anchor", "--recovery-delay-days", "29", *home) == "home-invalid"
        assert fails("operator", "anchor", "--recovery-delay-days", "30", *home) == "home-invalid"
        run("certificate", "lists", "http://crl.example.vn/a.crl", *home)
        before = newest()
        run("operator", "anchor", "--threshold", "1", *home)
        after = newest()
    changed = {name for name in Anchor.__struct_fields__ if getattr(after, name) != getattr(before, name)}
    assert changed == {"threshold", "seq", "issued", "prev"}
    assert after.recovery_delay_s == 30 * 86_400
    assert after.revocation_lists == before.revocation_lists != ()


def test_trying_a_revocation_signs_nothing(office: Office, tmp_path: Path) -> None:
    office.ask("D1")
    run("member", "approve", f"{INSTANCE}/GOV/D1", "--home", office.home)
    revoke = ("member", "revoke", f"{INSTANCE}/GOV/D1", "--home", office.home, "--reason", "x")
    away = [shutil.move(office.home / "operators" / name, tmp_path / name) for name in ("2", "3")]
    try:
        assert run_json(*revoke, "--dry-run")["revoked"] is False
        assert not list(office.home.glob("proposals/revocation-*"))
    finally:
        for folder in away:
            shutil.move(folder, office.home / "operators")
    assert run_json(*revoke)["revoked"] is True


@pytest.mark.parametrize(("operators", "threshold"), [("1", "2"), ("3", "0"), ("17", "2"), ("0", "0")])
def test_a_threshold_that_cannot_be_is_refused(tmp_path: Path, operators: str, threshold: str) -> None:
    args = ("init", "instance", "VN-X", "--home", tmp_path / "x", "--operators", operators, "--threshold", threshold)
    assert fails(*args) == "home-invalid"
    assert not (tmp_path / "x").exists()


def test_the_registrys_clock_is_read_from_its_signature(office: Office) -> None:
    facts = InstanceHome(office.home).facts
    authority = office.registry._authority
    assert authority is not None
    assert ask_registry(facts.registry_url, facts.genesis).ahead_s == 0
    before = authority._now
    try:
        for offset_s in (90, -90):
            authority._now = lambda offset_s=offset_s: datetime.now(UTC) + timedelta(seconds=offset_s)
            assert abs(ask_registry(facts.registry_url, facts.genesis).ahead_s - offset_s) <= 1
    finally:
        authority._now = before


@pytest.mark.parametrize(
    ("ahead_s", "state"), [(0.0, "ok"), (-0.9, "ok"), (3.0, "warn"), (-3.0, "warn"), (61.0, "fail")]
)
def test_a_clock_is_judged_by_what_gateways_tolerate(ahead_s: float, state: str) -> None:
    found = _clock("the registry", ahead_s, 60.0, "set it")
    assert found.state == state
    assert ("behind" in found.seen) == (ahead_s >= 1)


def test_the_worst_finding_decides() -> None:
    assert worst([]) == "ok"
    assert worst([Finding("a", "ok", ""), Finding("b", "warn", "", "x")]) == "warn"
    assert worst([Finding("a", "fail", "", "x"), Finding("b", "warn", "", "x")]) == "fail"


def test_a_port_is_free_or_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert not is_free(f"127.0.0.1:{taken.getsockname()[1]}")
    assert is_free("127.0.0.1:0")
    assert not is_free("192.0.2.1:80")


def test_how_many_signatures_are_missing() -> None:
    def anchor(threshold: int, *keys: str) -> Anchor:
        return Anchor(
            instance="VN", subject="VN", seq=0, issued="", threshold=threshold,
            operators=tuple(Operator(keyid=key, spki="") for key in keys), certification_authorities=("",),
            directory=DirectoryKeys(log_key="", cosigner_key=""), broker=BrokerAddress(),
        )  # fmt: skip

    now = anchor(2, "a", "b", "c")
    assert [missing_signatures(now, None, signed) for signed in ((), ("a",), ("a", "b"), ("a", "x"))] == [2, 1, 0, 1]
    new = anchor(3, "b", "c", "d")
    assert missing_signatures(now, new, ("b", "c")) == 1
    assert missing_signatures(now, new, ("b", "c", "d")) == 0
    assert missing_signatures(now, new, ("b", "d", "x")) == 1


def test_a_home_made_before_speaks_plain_http() -> None:
    facts = InstanceFacts(
        instance="VN", genesis="0f" * 32, registry_listen="127.0.0.1:8470", broker_listen="127.0.0.1:1"
    )
    assert facts.registry_url == "http://127.0.0.1:8470"


@pytest.mark.parametrize(("listen", "url"), [("0.0.0.0:8470", "https://127.0.0.1:8470"), ("[::]:1", "https://[::1]:1")])
def test_the_operators_own_commands_ask_on_loopback(listen: str, url: str) -> None:
    facts = InstanceFacts(
        instance="VN", genesis="0f" * 32, registry_listen=listen, broker_listen="x:1", registry_scheme="https"
    )
    assert facts.registry_url == f"{url}#sha256:{'0f' * 32}"


def test_an_instance_made_before_goes_on_over_plain_http_with_its_one_key(tmp_path: Path) -> None:
    """Its operator's key lies in `keys/`, its facts name no scheme, its members know it by a plain address."""
    home, listen = tmp_path / "instance", f"127.0.0.1:{free_port()}"
    made = run_json("init", "instance", INSTANCE, "--home", home, "--registry-listen", listen, "--plain-http")
    facts = json.loads((home / "instance.json").read_text())
    del facts["registry_scheme"]
    (home / "instance.json").write_text(json.dumps(facts))
    for name in ("operator.pem", "operator.crt"):
        (home / "operators" / "1" / name).rename(home / "keys" / name)
    shutil.rmtree(home / "operators")
    with Registry(home):
        where = ("--registry", f"http://{listen}", "--genesis", made["genesis"], "--name", "en=Old")
        run("join", "--member", f"{INSTANCE}/GOV/O1", "--home", tmp_path / "O1", *where)
        assert MemberHome(tmp_path / "O1").facts.registry == f"http://{listen}"
        assert run_json("member", "approve", f"{INSTANCE}/GOV/O1", "--home", home)["state"] == "approved"
        assert run_json("join", "--status", "--home", tmp_path / "O1")["state"] == "approved"
        run("subsystem", "add", "desk", "--home", tmp_path / "O1")


def test_a_proposal_of_nothing_is_refused(office: Office, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"instance":"VN","genesis":"","threshold":1,"operators":[],"jws":"{}"}')
    for command in (("read",), ("sign", "--home", office.home / "operators/1"), ("submit", "--home", office.home)):
        assert fails("operator", command[0], tmp_path / "x.json", *command[1:]) == "envelope-invalid"
    (tmp_path / "x.json").write_text("nonsense")
    assert fails("operator", "read", tmp_path / "x.json") == "home-invalid"


def test_an_approval_that_pins_a_further_key_is_not_taken(office: Office) -> None:
    """Operators and registry together add a key of their own: it could speak as the member."""
    import base64

    import msgspec

    from console.approving import _certify
    from console.homes import HomeInvalid, InstanceHome, MemberHome
    from console.joining import accept
    from console.membership import Speaker, call_registry
    from evidence.signer import FileSigner
    from registry.client import RegistryClient, RequestDetail
    from registry.documents import Member, PinnedKey, decode
    from registry.envelope import read_envelope

    office.ask("E7")
    home, speaker = MemberHome(office.folder / "E7"), Speaker.operator(InstanceHome(office.home))
    evil = PinnedKey(spki=base64.b64encode(FileSigner.generate("p256").public_bytes).decode())

    async def approve(client: RegistryClient) -> RequestDetail:
        [request] = [one for one in await client.requests() if one.member.endswith("/E7")]
        detail = await client.request_detail(request.id)
        envelope = read_envelope(detail.jws.encode(), genesis=speaker.genesis)
        document = decode(envelope.payload)
        assert isinstance(document, Member)
        pem = _certify(InstanceHome(office.home), document.subject, envelope.signatures[0].chain[0])
        signed = await speaker.compose(
            client, Member, document.subject, status="active", names=document.names, keys=(*document.keys, evil)
        )
        approved = msgspec.structs.replace(request, state="approved")
        return msgspec.structs.replace(detail, request=approved, decision=signed.decode(), certificate=pem.decode())

    with pytest.raises(HomeInvalid, match="other keys than were requested"):
        accept(home, call_registry(speaker.url, approve))
    assert not home.certificate.exists()
