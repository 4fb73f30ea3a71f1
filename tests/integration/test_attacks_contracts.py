"""Contract bombs: a registry that tries nothing hands a member's bombs to the gateways, which must go on working.

A contract that is over budget makes its own service unavailable; calls of other services meanwhile take no longer than
they do otherwise, give or take the processor that the trials use in children of their own.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from world import ClientSystem, World, wait_until

from console.homes import MemberHome
from console.membership import Speaker, call_registry
from registry.client import RegistryClient, RegistryRefused
from registry.documents import Operation, Service

# The registry of an operator who is careless, bribed or broken into: it takes every contract untried.
LAX = """
from registry import authority, trialruns
async def untried(_document): pass
authority.Authority.open.__func__.__kwdefaults__["try_contract"] = untried
trialruns.try_service = trialruns.try_access = lambda *_: None
from console.cli import main
main()
"""
# A bomb that went off inside the gateway would take from forty seconds to for ever; busy machines need some of this.
SLOWEST_S = 8.0


class LaxWorld(World):
    """A world whose registry tries nothing."""

    def start_registry(self) -> None:
        self.registry = self.spawn("registry", "registry", "--home", str(self.home), program=("-c", LAX))
        self._wait_file(self.registry, self.home / "registry" / "listening.json", "registry")


def document(schema: dict[str, Any], **schemas: Any) -> bytes:
    """A contract with one operation that takes `schema`."""
    content = {"application/json": {"schema": schema}}
    return json.dumps({
        "openapi": "3.1.0", "info": {"title": "Bomb", "version": "1"},
        "paths": {"/x": {"post": {"operationId": "x", "requestBody": {"content": content},
                                  "responses": {"200": {"description": "d"}}}}},
        "components": {"schemas": schemas},
    }).encode()  # fmt: skip


def doubled(keyword: str, depth: int = 40) -> bytes:
    """Each schema names the next one twice: 2 KB that are 2^depth evaluations."""
    schemas: dict[str, Any] = {
        f"S{at}": {keyword: [{"$ref": f"#/components/schemas/S{at + 1}"}] * 2} for at in range(depth)
    }
    return document({"$ref": "#/components/schemas/S0"}, **schemas, **{f"S{depth}": {"type": "object"}})


def laughs() -> bytes:
    """YAML aliases, each ten times the one before."""
    lines = ["openapi: 3.1.0", "info: {title: Bomb, version: '1'}", "x-a: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"x-{at}: &a{at} [{', '.join([f'*a{at - 1}'] * 10)}]" for at in range(1, 12)]
    return "\n".join([*lines, "paths: {}"]).encode()


def nested(levels: int) -> bytes:
    schema: dict[str, Any] = {"type": "object"}
    text = json.dumps(schema)
    return document({}).replace(b'"schema": {}', b'"schema": ' + b'{"items":' * levels + text.encode() + b"}" * levels)


BOMBS = {
    "all-of": doubled("allOf"),
    "any-of": doubled("anyOf"),
    "one-of": doubled("oneOf"),
    "recursion": document({"$ref": "#/components/schemas/A"}, A={"allOf": [{"$ref": "#/components/schemas/A"}] * 2}),
    "yaml-aliases": laughs(),
    "deep": nested(2_000),
    "deeper": nested(60_000),
    "pattern": document({"type": "string", "pattern": "((((a{1000}){1000}){1000}){1000})"}),
    "pattern-backtracking": document({"type": "string", "pattern": "^(a+)+$(?=b)\\1"}),
    "many-patterns": document({"type": "object", "properties": {
        f"p{at}": {"type": "string", "pattern": f"[a-z]{{1,{at + 500}}}x{{2,900}}"} for at in range(1_500)}}),
    "enum": document({"enum": list(range(100_000))}),
    "remote": document({"$ref": "http://127.0.0.1:1/schema.json"}),
    "not-a-contract": b"\0" * 1000,
}  # fmt: skip


@pytest.fixture(scope="module")
def lax(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, ClientSystem]]:
    with LaxWorld(tmp_path_factory.mktemp("lax")) as world:
        for code in ("H37", "G01", "E66"):
            world.add_member(code)
        client = world.add_client("H37", "onedoor")
        world.add_subsystem("G01", "desk")
        world.publish("G01", "desk/notes")
        world.grant(client.subsystem, "G01", "desk/notes")
        world.add_subsystem("E66", "bombs")
        home = MemberHome(world.member("E66").home)
        for name, data in BOMBS.items():
            publish_untried(home, f"{world.member_id('E66')}/bombs/{name}", data)
        world.start_gateway("H37")
        world.start_gateway("G01")
        yield world, client


def publish_untried(home: MemberHome, identifier: str, data: bytes) -> None:
    """Publishes a service without the checks of `lienthong service publish`."""
    speaker, digest = Speaker.member(home), hashlib.sha256(data).hexdigest()
    operations = (msgspec.convert({"id": "x", "method": "POST", "path": "/x"}, Operation),)

    async def work(client: RegistryClient) -> None:
        await client.put_contract(digest, data)
        await speaker.say(
            client, Service, identifier, contract=digest, title="t", version="1", operations=operations, fields=()
        )

    call_registry(home.facts.registry, work)


def timed(world: World, client: ClientSystem) -> float:
    began_s = time.monotonic()
    assert world.call(client, "G01/desk/notes", "/notes/1").status == 200
    return time.monotonic() - began_s


def test_other_services_go_on_while_bombs_are_loaded(lax: tuple[World, ClientSystem]) -> None:
    """All bombs at once, twice; each is refused by its own code, and no other call waits for them."""
    world, client = lax
    timed(world, client)
    with ThreadPoolExecutor(len(BOMBS)) as pool:
        calls = {
            name: pool.submit(
                world.call, client, f"E66/bombs/{name}", "/x", method="POST", body=b'{"a":1}', timeout_s=60
            )
            for name in BOMBS
        }
        slowest_s = 0.0
        while not all(call.done() for call in calls.values()):
            slowest_s = max(slowest_s, timed(world, client))
    answers = {name: call.result() for name, call in calls.items()}
    outcomes = {name: (answer.status, answer.code) for name, answer in answers.items()}
    assert outcomes == dict.fromkeys(BOMBS, (503, "contract-unavailable"))
    assert slowest_s < SLOWEST_S
    assert all("x-road-request-id" not in answer.headers for answer in answers.values()), "nothing was logged"


def test_a_bomb_that_was_tried_once_is_refused_at_once(lax: tuple[World, ClientSystem]) -> None:
    world, client = lax

    def tried() -> bool:
        answers = [
            world.call(client, f"E66/bombs/{name}", "/x", method="POST", body=b"{}", timeout_s=60) for name in BOMBS
        ]
        return all("refused here" in answer.json()["detail"] for answer in answers)

    wait_until(tried, "all trials", 60)
    began_s = time.monotonic()
    for name in BOMBS:
        answer = world.call(client, f"E66/bombs/{name}", "/x", method="POST", body=b"{}")
        assert (answer.status, answer.code) == (503, "contract-unavailable")
    assert time.monotonic() - began_s < SLOWEST_S


def test_the_gateway_keeps_its_size(lax: tuple[World, ClientSystem]) -> None:
    world, client = lax
    process = world.member("H37").process
    assert process is not None
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    resident_kb = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
    assert resident_kb < 400_000
    assert world.metric("H37", "process_open_fds") < 200
    assert timed(world, client) < SLOWEST_S


def test_an_honest_registry_takes_no_bomb(tmp_path: Path) -> None:
    with World(tmp_path / "honest") as world:
        world.add_member("E66")
        world.add_subsystem("E66", "bombs")
        home = MemberHome(world.member("E66").home)
        for name in ("all-of", "yaml-aliases", "deeper", "remote"):
            with pytest.raises(RegistryRefused) as caught:
                publish_untried(home, f"{world.member_id('E66')}/bombs/{name}", BOMBS[name])
            assert caught.value.code in ("contract-over-budget", "contract-rejected"), caught.value
