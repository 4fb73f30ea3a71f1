"""The broker as a cluster of three real servers: what one or all of them may suffer while commands are under way."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from cluster_world import NUMBERS, ClusterWorld
from fault_evidence import check_evidence
from fault_world import Load, pair
from world import CommandFailed, wait_until

from bus.transport import subjects
from console.demo.handclient import HandClient, HandRefused
from evidence.signer import FileSigner

SERVICE = "G01/desk/notes"
CONSUMER, PROVIDER, THIRD = "H37", "G01", "E66"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterWorld]:
    with ClusterWorld(tmp_path_factory.mktemp("cluster")) as made:
        pair(made, CONSUMER, PROVIDER, join_every_s=0.5, clock_skew_s=1.0)
        made.add_member(THIRD)
        for code in (CONSUMER, PROVIDER):
            made.configure(code, "commands", retry_s=1.0, retry_max_s=4.0)
        made.start_gateways(CONSUMER, PROVIDER)
        made.until_ok(made.clients["H37/app"], SERVICE)
        wait_until(lambda: all(replicas(made, name) == 3 for name in names(made)), "three copies of each", 30)
        yield made


def names(world: ClusterWorld) -> list[str]:
    members = [world.member_id(code) for code in (CONSUMER, PROVIDER)]
    return ["LT_DIR", *map(subjects.command_stream, members), *map(subjects.result_stream, members)]


def replicas(world: ClusterWorld, name: str) -> int:
    found = world.stream(name)
    return 0 if found is None else int(found["config"]["num_replicas"])


class Commands:
    """Submits commands from a thread until it is stopped; every id that was accepted is known."""

    def __init__(self, world: ClusterWorld) -> None:
        self._world = world
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._submit, daemon=True)
        self.accepted: list[str] = []
        self.refused: Counter[int] = Counter()

    def _submit(self) -> None:
        client = self._world.clients["H37/app"]
        while not self._stop.is_set():
            answer = self._world.call(
                client, SERVICE, "/notes", method="POST", body=b'{"text":"a dossier"}',
                headers={"Prefer": "respond-async"},
            )  # fmt: skip
            if answer.status == 202:
                self.accepted.append(str(answer.json()["id"]))
            else:
                self.refused[answer.status] += 1

    def __enter__(self) -> Commands:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)

    def more(self, count: int) -> None:
        """Waits until so many more are accepted."""
        wanted = len(self.accepted) + count
        wait_until(lambda: len(self.accepted) >= wanted, f"{count} more accepted commands", 30)


def effects(world: ClusterWorld) -> Counter[str]:
    return Counter(
        str(one.header("X-Road-Request-Id")) for one in world.backend.received
        if one.target.startswith("/notes") and one.method == "POST"
    )  # fmt: skip


def all_done_once(world: ClusterWorld, accepted: list[str], deadline_s: float = 45.0) -> None:
    """Every accepted command ends as completed, with one effect; the books of both sides agree."""

    def waiting() -> int:
        return int(
            world.metric(CONSUMER, "lienthong_outbox_records") + world.metric(PROVIDER, "lienthong_outbox_records")
        )

    wait_until(lambda: all(effects(world)[one] for one in accepted), "all effects", deadline_s)
    wait_until(lambda: waiting() == 0, "empty outboxes", deadline_s)
    client = world.clients["H37/app"]
    named = {"X-Road-Client": client.subsystem, "X-LienThong-Key": client.key}
    for one in accepted:
        told = world.request(world.members[CONSUMER], "GET", f"/exchanges/{one}", named).json()
        assert told["state"] == "completed", told
    twice = {one: count for one, count in effects(world).items() if count > 1}
    assert not twice
    check_evidence(world, CONSUMER, PROVIDER)


def test_all_servers_have_every_stream_and_clients_are_told_no_other_addresses(world) -> None:
    for number in NUMBERS:
        facts = world.monitor(number, "/varz")
        assert facts["cluster"]["name"] == "lienthong-VN-TEST"
        assert "connect_urls" not in facts["cluster"]
        assert "connect_urls" not in facts
        wait_until(lambda number=number: world.caught_up(PROVIDER, number), f"server {number}")


def test_the_leader_of_a_command_stream_is_killed_under_load_and_nothing_is_lost_or_done_twice(world) -> None:
    leader = world.leader_of(PROVIDER)
    with Commands(world) as commands, Load(world, world.clients["H37/app"], SERVICE):
        commands.more(20)
        world.kill_server(leader)
        commands.more(20)
        wait_until(lambda: world.leader_of(PROVIDER) != leader, "another leader", 20)
        world.start_server(leader)
        commands.more(20)
    assert not commands.refused
    all_done_once(world, commands.accepted)
    wait_until(lambda: world.caught_up(PROVIDER, leader), "its copy", 30)


def test_all_servers_are_killed_under_load_and_what_was_accepted_is_done(world) -> None:
    with Commands(world) as commands:
        commands.more(20)
        world.kill_server(*NUMBERS)
        commands.more(20)
        world.start_broker()
        commands.more(20)
    assert not commands.refused
    all_done_once(world, commands.accepted)


def test_a_gateway_whose_server_dies_goes_on_at_another_within_seconds(world) -> None:
    node = world.members[CONSUMER].node
    number = wait_until(lambda: world.server_of(node), "its server")
    world.kill_server(number)
    began_s = time.monotonic()
    try:
        wait_until(lambda: world.call(world.clients["H37/app"], SERVICE, "/notes/1").status == 200, "a call", 20)
        assert time.monotonic() - began_s < 8
        assert world.server_of(node) not in {0, number}
    finally:
        world.start_server(number)
    wait_until(lambda: world.caught_up(PROVIDER, number), "its copy", 30)


# --- who may come in ------------------------------------------------------------------------------------------------


async def let_in(world: ClusterWorld, code: str, number: int) -> bool:
    """Whether a server takes the credentials of a member's node."""
    keys = world.members[code].home / "keys"
    signer = FileSigner.load(keys / "broker.pem")
    try:
        client = await HandClient.connect(
            world.url(number), str(world.home / "ca" / "ca.crt"), (keys / "broker.jwt").read_text().strip(), signer.sign
        )
    except HandRefused:
        return False
    await client.close()
    return True


def test_who_is_withdrawn_while_a_server_is_down_is_refused_by_it_when_it_is_back(world) -> None:
    assert all(asyncio.run(let_in(world, THIRD, number)) for number in NUMBERS)
    world.kill_server(3)
    world.command("node", "revoke", "n1", "--home", str(world.members[THIRD].home), "--reason", "keys in other hands")
    wait_until(lambda: unsettled(world) == 1, "that not every server has it is told", 5)
    for number in (1, 2):
        wait_until(lambda number=number: not asyncio.run(let_in(world, THIRD, number)), f"refusal by {number}")
    world.start_server(3)
    wait_until(lambda: not asyncio.run(let_in(world, THIRD, 3)), "refusal by the one that was away", 5)
    wait_until(lambda: unsettled(world) == 0, "every server has it", 20)


def unsettled(world: ClusterWorld) -> float:
    return world.registry_metric("lienthong_registry_broker_unsettled", what="withdrawals")


def is_route(world: ClusterWorld, number: int, certificate: tuple[Path, Path] | None) -> bool:
    """Whether a server greets, as it greets another server, who opens a route with this certificate."""
    context = ssl.create_default_context(cafile=str(world.server_home(number) / "routes-ca.crt"))
    if certificate is not None:
        context.load_cert_chain(*certificate)
    with socket.create_connection(("127.0.0.1", world.routes[number]), 5) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="127.0.0.1") as made:
                return made.recv(5) == b"INFO "
        except (ssl.SSLError, ConnectionError):
            return False


def test_only_a_servers_own_certificate_opens_a_route(world) -> None:
    other = world.server_home(2)
    member = world.members[CONSUMER].home / "keys"
    assert is_route(world, 1, (other / "route.crt", other / "route.pem")), "the test itself"
    assert not is_route(world, 1, None)
    assert not is_route(world, 1, (other / "tls.crt", other / "tls.pem")), "for gateways, by the instance's authority"
    assert not is_route(world, 1, (world.home / "broker" / "tls.crt", world.home / "broker" / "tls.pem"))
    assert not is_route(world, 1, (member / "member.crt", member / "member.pem")), "by the instance's authority too"


# --- operating it ---------------------------------------------------------------------------------------------------


def test_streams_with_one_copy_are_brought_to_three(world) -> None:
    path = world.home / "instance.json"
    facts = json.loads(path.read_bytes())
    for wanted in (1, 3):
        path.write_bytes(msgspec.json.encode({**facts, "stream_replicas": wanted}))
        world.stop_registry()
        world.start_registry()
        wait_until(
            lambda wanted=wanted: all(replicas(world, name) == wanted for name in names(world)), f"{wanted} copies", 30
        )
    with Commands(world) as commands:
        commands.more(5)
    all_done_once(world, commands.accepted)


def test_doctor_says_which_servers_are_reached(world) -> None:
    def servers(home: Path) -> tuple[str, str]:
        told = world.answer("doctor", "--home", str(home))
        found = next(one for one in told["checks"] if one["check"] == "broker-servers")
        return found["state"], found["seen"]

    member = world.members[CONSUMER].home
    for home in (world.home, member):
        assert servers(home)[0] == "ok"
    world.kill_server(2)
    try:
        for home in (world.home, member):
            state, seen = servers(home)
            assert (state, world.url(2) in seen, world.url(1) in seen) == ("warn", True, False)
    finally:
        world.start_server(2)


def test_a_damaged_name_of_a_server_is_refused_before_anything_starts(world, tmp_path) -> None:
    with pytest.raises(CommandFailed, match="three servers"):
        world.command("init", "instance", "VN-NEW", "--home", str(tmp_path / "new"), "--broker-cluster", "a:1,b:1")
    assert not (tmp_path / "new").exists()
    shown = world.command("broker", "cluster", "--home", str(world.home))
    assert [one["url"] for one in shown["servers"]] == [world.url(number) for number in NUMBERS]
    assert shown["replicas"] == 3
