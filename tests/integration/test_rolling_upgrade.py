"""From one version of the wire to the next and back, gateway by gateway, under load: counted from outside."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from commanding import SERVICE, effects, fate, rows, settled, submit
from fault_evidence import check_evidence
from fault_world import FaultWorld, pair
from next_wire import NEXT, next_wire
from test_commands_nodes import DEAD_S, hold_back_end, taken
from test_doctor import doctor
from world import CommandFailed, wait_until

ASKING, ANSWERING = ("H37", "H37-n2"), ("G01", "G01-n2")
ALL = (*ANSWERING, *ASKING)
PROGRAM = Path(__file__).with_name("next_gateway.py")


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultWorld]:
    with FaultWorld(tmp_path_factory.mktemp("upgrade")) as made, next_wire():
        pair(made, "H37", "G01", join_every_s=0.5, clock_skew_s=1.0)
        for code in ("H37", "G01"):
            made.add_node(code, "n2")
        for code in ALL:
            # a restart is no death: its work is not taken over
            made.configure(code, "commands", retry_s=1.0, retry_max_s=4.0, node_dead_s=30.0, attempt_s=0.5)
            made.configure(code, "limits", join_every_s=0.5, clock_skew_s=1.0)
            made.options[code] = ["--clock-offset-s", "0"]
        made.start_gateways(*ALL)
        made.until_ok(made.clients["H37/app"], SERVICE)
        yield made


class Traffic:
    """Queries and commands, through the asking nodes that are in rotation; what each came to."""

    def __init__(self, world: FaultWorld) -> None:
        self.world, self.client = world, world.clients["H37/app"]
        self.commands: dict[str, str] = {}
        self.queries: list[tuple[int, str, str]] = []
        self._rotation = list(ASKING)
        self._busy: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(one,), daemon=True) for one in (self._ask, self._send)
        ]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    @contextlib.contextmanager
    def without(self, code: str) -> Iterator[None]:
        """As a load balancer takes a node out: nothing new goes to it, and what is under way ends."""
        with self._changed:
            kept = list(self._rotation)
            self._rotation = [one for one in kept if one != code]
            assert self._changed.wait_for(lambda: not self._busy[code], 30)
        yield
        with self._changed:
            self._rotation = kept

    def flows(self, more: int = 10) -> None:
        """Waits until more queries and commands were made."""
        queries, commands = len(self.queries), len(self.commands)
        wait_until(lambda: len(self.queries) >= queries + more and len(self.commands) >= commands + more, "traffic", 30)

    def _work(self, act) -> None:
        turn = 0
        while not self._stop.wait(0.04):
            with self._changed:
                turn += 1
                code = self._rotation[turn % len(self._rotation)]
                self._busy[code] += 1
            try:
                act(code)
            finally:
                with self._changed:
                    self._busy[code] -= 1
                    self._changed.notify_all()

    def _ask(self, code: str) -> None:
        headers = {"X-Road-Client": self.client.subsystem, "X-LienThong-Key": self.client.key}
        try:
            target = f"/r1/{self.world.service_id(SERVICE)}/notes/1"
            answer = self.world.request(self.world.members[code], "GET", target, headers)
        except (OSError, http.client.HTTPException) as error:
            self.queries.append((0, "", repr(error)))
            return
        wrong = "" if answer.status == 200 else answer.body.decode()
        self.queries.append((answer.status, answer.headers.get("x-road-request-id", ""), wrong))

    def _send(self, code: str) -> None:
        self.commands[submit(self.world, self.client, through=code)] = code


def announce(world: FaultWorld, code: str, *options: str) -> dict:
    member = world.members[code]
    return world.command("node", "announce", member.node.rpartition("@")[2], "--home", str(member.home), *options)


def wire_of(world: FaultWorld, code: str) -> dict:
    return world.admin(code, "/status").json()["wire"]


def came(world: FaultWorld, code: str) -> Counter[str]:
    """In which versions a node of the next program was written to."""
    path = world.members[code].data / "came.txt"
    return Counter(path.read_text() if path.exists() else "")


def agree(world: FaultWorld, version: int, *codes: str) -> None:
    """Waits until all nodes write a version for everybody that they know."""
    for code in codes or ALL:
        wait_until(
            lambda code=code: (found := wire_of(world, code))["announced"] == version
            and found["with"] and set(found["with"].values()) == {version},
            f"version {version} at {code}", 20,
        )  # fmt: skip


def change(world: FaultWorld, traffic: Traffic, code: str, program: Path | None) -> None:
    """Restarts one node with another program, taken out of its load balancer meanwhile."""
    if program is None:
        world.programs.pop(code, None)
    else:
        world.programs[code] = program
    with traffic.without(code):
        world.restart_gateway(code)


def counted(world: FaultWorld, traffic: Traffic) -> None:
    """Nothing was lost, nothing twice; both sides' evidence is complete."""
    assert [one for one in traffic.queries if one[0] != 200] == []
    fates = {one: fate(world, traffic.client, one, through)["state"] for one, through in traffic.commands.items()}
    assert set(fates.values()) == {"completed"}
    settled(world, *ALL)
    assert effects(world) == Counter(dict.fromkeys(traffic.commands, 1))
    asked = Counter(str(got.header("X-Road-Request-Id")) for got in world.backend.received if got.method == "GET")
    assert {record_id: asked[record_id] for _, record_id, _ in traffic.queries if asked[record_id] != 1} == {}


@pytest.mark.timeout(300)  # four gateways, each started three times
def test_members_with_two_nodes_go_to_the_next_version_and_back_under_load(world) -> None:
    with Traffic(world) as traffic:
        traffic.flows()
        for code in ALL:  # programs first, one node at a time
            change(world, traffic, code, PROGRAM)
            assert wire_of(world, code)["reads"] == [1, NEXT]
        agree(world, 1)
        for code in ALL:
            assert announce(world, code)["wire"] == NEXT
            if code == "G01":  # its other node still announces 1
                wait_until(lambda: wire_of(world, "G01")["announced"] == NEXT, "its own word")
                traffic.flows()
                assert set(wire_of(world, "H37")["with"].values()) == {1}
                assert not came(world, "G01-n2")[str(NEXT)], "only receipts, which go to one node, may be written in it"
        agree(world, NEXT)
        before = {code: came(world, code)[str(NEXT)] for code in ALL}
        traffic.flows()
        assert all(came(world, code)[str(NEXT)] > before[code] for code in ALL)
        for code in ALL:  # back: the word first
            assert announce(world, code, "--wire", "1")["before"] == NEXT
        agree(world, 1)
        for code in ALL:
            change(world, traffic, code, None)
            assert wire_of(world, code)["reads"] == [1]
        traffic.flows()
    counted(world, traffic)
    for code in ALL:
        assert not came(world, code)["x"]
        assert "version-unsupported" not in world.dropped(code)
        world.stop_gateway(code)
    check_evidence(world, *ALL, acknowledged=[record_id for _, record_id, _ in traffic.queries])


def test_a_program_that_went_back_too_early_loses_no_command_and_is_named(world) -> None:
    client = world.clients["H37/app"]
    with pytest.raises(CommandFailed, match="reads version 1"):
        announce(world, "G01")
    for code in ALL:
        world.programs[code] = PROGRAM
        world.configure(code, "commands", node_dead_s=DEAD_S)
        world.stop_gateway(code)
    world.start_gateways(*ALL)
    for code in ALL:
        announce(world, code)
    submit(world, client)
    world.until_ok(client, SERVICE)
    wait_until(lambda: wire_of(world, "H37")["with"].get(world.member_id("G01")) == NEXT, "the next version", 20)
    world.programs.pop("G01")
    world.restart_gateway("G01")  # its other node still reads what comes
    sent = [submit(world, client) for _ in range(10)]
    assert {fate(world, client, one)["state"] for one in sent} == {"completed"}

    hold_back_end(world)
    kept = {submit(world, client) for _ in range(3)}
    wait_until(lambda: kept <= taken(world, "G01-n2") and kept <= set(effects(world)), "what the newer program took")
    world.kill_gateway("G01-n2")
    wait_until(lambda: kept <= taken(world, "G01"), "the older program's take-over", 20)
    world.backend.release.set()
    assert {fate(world, client, one)["state"] for one in kept} == {"completed"}

    world.programs.pop("G01-n2")
    world.start_gateway("G01-n2")
    sent += [submit(world, client) for _ in range(5)]
    wait_until(lambda: sum(map(unread, [world] * 2, ANSWERING)) >= 5, "drops of what nobody reads", 20)
    assert len(rows(world, "H37", "SELECT 1 FROM outbox")) >= 5
    found = doctor(world, world.members["G01"].home, code=1)["wire-version"]
    assert found["state"] == "fail"
    assert "node announce n1 --wire 1" in found["do"]
    wait_until(lambda: world.metric("G01", "lienthong_alarms_total", code="wire-version-unreadable",
                                    member=world.member_id("G01")) > 0, "the alarm of the node itself")  # fmt: skip

    with_old_program = {code: ["--wire", "1"] for code in ANSWERING}
    for code, options in with_old_program.items():
        announce(world, code, *options)
    assert {fate(world, client, one)["state"] for one in sent} == {"completed"}
    settled(world, *ALL)
    assert {one: effects(world)[one] for one in sent} == dict.fromkeys(sent, 1)
    assert {effects(world)[one] for one in kept} == {2}, (
        "under way when the node was killed: asked of the back end again"
    )


def unread(world: FaultWorld, code: str) -> float:
    """Messages of H37 that were dropped for being of a newer version."""
    return sum(
        value for name, value in world.metrics(code).items()
        if name.startswith("lienthong_alarms_total{") and "wire-version-newer" in name and "/H37" in name
    )  # fmt: skip
