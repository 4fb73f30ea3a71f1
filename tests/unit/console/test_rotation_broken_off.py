"""An exchange of keys that is killed at any of its steps: the node goes on, and the same command finishes it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from console_world import INSTANCE, run
from office import Office

from bus.gateway.nodekeys import BrokerFiles
from bus.gateway.sealingkeys import load_keys
from bus.settings import load_settings
from bus.transport import nkeys
from console.frontcertificates import make_front, rotate_front
from console.homes import MemberHome
from console.views import local_directory
from evidence.signer import FileSigner
from evidence.x509 import load_pem_chain, verify_chain
from registry.client import RegistryClient


class Killed(BaseException):
    """What a process that is killed does next: nothing."""


@contextmanager
def killed_at(step: int) -> Iterator[list[str]]:
    """Ends this thread's work before the step of that number has an effect; the steps that were reached."""
    reached: list[str] = []
    main = threading.current_thread()

    def steps(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            if threading.current_thread() is main:
                reached.append(name)
                if len(reached) >= step:  # and everything after it: a killed process tidies nothing up
                    raise Killed
            return real(*args, **kwargs)

        return counted

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in ((Path, "replace"), (Path, "rename"), (Path, "unlink"), (os, "link")):
            patch.setattr(owner, name, steps(name, getattr(owner, name)))
        for name in ("submit", "credentials"):
            patch.setattr(RegistryClient, name, steps(name, getattr(RegistryClient, name)))
        patch.setattr("console.rotation.reload_gateway", steps("reload", lambda home: False))
        yield reached


def killed_everywhere(*command: object) -> Iterator[int]:
    """Gives the command again and again, killed one step later each time, until it comes to its end."""
    for step in range(1, 60):
        with killed_at(step):
            try:
                run(*command)
            except Killed:
                pass
            else:
                assert step > 1
                return
        yield step
    raise AssertionError("the command has no end")


def member(office: Office, code: str) -> Path:
    home = office.admit(code)
    run("node", "add", "n1", "--home", home)
    return home


def stated(office: Office, home: Path) -> Any:
    office.registry.follow(home)
    with local_directory(MemberHome(home)) as directory:
        return directory.node(f"{INSTANCE}/GOV/{home.name}/@n1")


def public(path: Path) -> bytes:
    return FileSigner.load(path).public_bytes


def test_the_exchange_of_a_log_key_goes_on_wherever_it_was_killed(office: Office) -> None:
    home = member(office, "K1")
    first = public(home / "keys/log.pem")
    rotate = ("node", "rotate", "log", "--delay-s", "0", "--home", home)
    for phase in ("prepare", "activate"):
        for _ in killed_everywhere(*rotate, f"--{phase}"):
            usable = {key.public for key in stated(office, home).keys_at(datetime.now(UTC))}
            assert public(home / "keys/log.pem") in usable, "a gateway that starts now signs with a key that counts"
            if phase == "activate" and not (home / "keys/log.next.pem").exists():
                break  # killed before the gateway was told: see test_keys for one that runs
    assert first != public(home / "keys/log.pem") == stated(office, home).log_key.public
    assert len(stated(office, home).all_keys()) == 2


def test_a_next_log_key_that_was_never_published_is_published_by_the_same_command(office: Office) -> None:
    home = member(office, "K0")
    rotate = ("node", "rotate", "log", "--delay-s", "0", "--home", home)
    with killed_at(3), pytest.raises(Killed):
        run(*rotate)
    assert (home / "keys/log.next.pem").exists()
    assert len(stated(office, home).all_keys()) == 1
    run(*rotate)
    run(*rotate)
    assert public(home / "keys/log.pem") == stated(office, home).log_key.public
    assert len(stated(office, home).all_keys()) == 2


def test_a_node_can_connect_wherever_the_exchange_of_its_broker_key_was_killed(office: Office) -> None:
    home = member(office, "K2")
    settings = load_settings(home / "gateway.toml")
    for _ in killed_everywhere("node", "rotate", "broker", "--home", home):
        files = BrokerFiles(settings)
        files.jwt()
        # what the registry gives it now it can use, too
        assert files.holds(nkeys.public_text("user", stated(office, home).broker_key))
    assert public(home / "keys/broker.pem") == stated(office, home).broker_key
    assert not (home / "keys/broker.next.pem").exists()


def test_sealing_keys_that_were_made_and_not_published_are_published_next(office: Office) -> None:
    home = member(office, "K3")
    command = ("node", "rotate", "sealing", "--days", "2", "--home", home)
    for _ in killed_everywhere(*command):
        assert sum(map(len, load_keys(home / "keys/sealing").values())) < 200
    office.registry.follow(home)
    pairs = load_keys(home / "keys/sealing")
    with local_directory(MemberHome(home)) as directory:
        entries = [directory.sealing_key_by_id(keyid) for of_use in pairs.values() for keyid in of_use]
    assert all(entries), "no private key lies there that nobody knows"
    assert not list((home / "keys/sealing").glob(".*.new"))


def test_the_exchange_of_a_member_key_goes_on_wherever_it_was_killed(office: Office) -> None:
    home = member(office, "K4")
    first = public(home / "keys/member.pem")
    rotate = ("member", "rotate", "--home", home)
    for _ in killed_everywhere(*rotate):
        pass
    files = home / "keys"
    run(
        "certificate", "issue", f"{INSTANCE}/GOV/K4", "--home", office.home,
        "--public-key", files / "member.next.pub", "--out", files / "member.next.crt",
    )  # fmt: skip
    for _ in killed_everywhere(*rotate):
        pass
    run("member", "confirm", home / "member-change.json", "--home", office.home)
    for _ in killed_everywhere(*rotate):
        if not (files / "member.next.crt").exists():
            break
    assert public(files / "member.pem") != first
    assert not list(files.glob("member.next.*"))
    run("subsystem", "add", "after", "--home", home)


def test_the_fronts_authority_is_whole_wherever_the_exchange_was_killed(tmp_path: Path) -> None:
    make_front(tmp_path, ["localhost"], [])
    (tmp_path / "ca.pem").unlink()
    for step in range(1, 30):
        with killed_at(step):
            try:
                rotate_front(tmp_path, ())
            except Killed:
                pass
            else:
                break
    rotate_front(tmp_path, ())
    chain, anchors = (load_pem_chain((tmp_path / name).read_bytes()) for name in ("front.crt", "ca.crt"))
    at = datetime.now(UTC) + timedelta(seconds=1)
    assert verify_chain(chain, anchors, at, usage="tls-server").public_bytes == public(tmp_path / "front.pem")
