"""The registry's HTTP interface over a loopback socket, spoken to by its client and by strangers."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "registry"))

from registry_world import CLIENT, PROVIDER, SERVICE, World, time_at
from test_authority import CONTRACT, DIGEST, Office

from evidence.leaf import DIRECTORY
from evidence.merkle import leaf_hash
from registry.client import RegistryClient, RegistryRefused
from registry.contract import trial_async
from registry.envelope import genesis_of
from registry.errors import NotFound, RegistryUnavailable, WrongGenesis
from registry.feed import decode_bundle
from registry.http import _network, create_app
from registry.requests import Refusal, sign_refusal
from registry.view import MemberEntry, NodeEntry, QuotaLimit


class Minter:
    async def mint(self, node: NodeEntry, member: MemberEntry) -> str:
        return f"jwt of {node.node} of {member.id}"


class Served:
    def __init__(self, office: Office, url: str, client: RegistryClient, session: aiohttp.ClientSession) -> None:
        self.office, self.url, self.client, self.session = office, url, client, session

    async def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, dict[str, object]]:
        url = URL(self.url + path, encoded=True)
        async with self.session.request(method, url, data=None if body is None else io.BytesIO(body)) as answer:
            if answer.status >= 400:
                assert answer.content_type == "application/problem+json"
                problem = await answer.json(content_type=None)
                assert problem["status"] == answer.status
                assert problem["code"]
                assert "Traceback" not in str(problem)
                return answer.status, problem
            return answer.status, {"body": await answer.read()}


async def serve(app: web.Application) -> tuple[web.AppRunner, str]:
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    return runner, f"http://127.0.0.1:{port}"


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    office = Office(tmp_path)
    authority = await office.open(try_contract=trial_async)
    app = create_app(authority, minter=Minter(), metrics=lambda: ("text/plain; version=0.0.4", b"lienthong_up 1\n"))
    runner, url = await serve(app)
    async with RegistryClient(url) as client, aiohttp.ClientSession() as session:
        yield Served(office, url, client, session)
    await runner.cleanup()
    await authority.close()


@pytest.fixture
async def begun(served: Served) -> Served:
    await served.office.begin()
    return served


async def test_an_instance_from_its_anchor_to_a_granted_right(served: Served) -> None:
    office, client, world = served.office, served.client, served.office.world
    assert (await served.ask("GET", "/readyz"))[1]["code"] == "no-anchor"
    with pytest.raises(NotFound):
        await client.anchor(world.genesis)
    submitted = await client.submit(world.sign(world.anchor, world.operator, genesis=None))
    assert submitted.index == 1
    anchor, documents = await client.anchor(world.genesis)
    assert anchor == world.anchor
    assert len(documents) == 1
    assert (await served.ask("GET", "/readyz"))[0] == 200
    for document, party in (
        (world.member(world.provider), world.operator),
        (world.member(world.consumer), world.operator),
        (world.subsystem(f"{PROVIDER}/population"), world.provider),
    ):
        await client.submit(world.sign(document, party))
    await client.put_contract(DIGEST, CONTRACT)
    assert await client.contract(DIGEST) == CONTRACT
    await client.submit(world.sign(office.service(), world.provider))
    newest = await client.newest("service", SERVICE)
    assert newest is not None
    assert newest.document == office.service(seq=0, issued=newest.document.issued)
    assert await client.newest("service", f"{SERVICE}x") is None
    right = world.access(fields=("address",))
    jws = world.sign(right, world.provider)
    first = await client.submit(jws)
    assert await client.submit(jws) == first
    assert first.leaf_hash == leaf_hash(DIRECTORY + jws).hex()
    assert office.authority.directory.rights(CLIENT, SERVICE)


async def test_first_contact_checks_the_genesis(begun: Served) -> None:
    with pytest.raises(WrongGenesis):
        await begun.client.anchor(genesis_of(World().anchor))


async def test_refusals_reach_the_client_with_their_code(begun: Served) -> None:
    world = begun.office.world
    with pytest.raises(RegistryRefused) as caught:
        await begun.client.submit(world.sign(world.subsystem(f"{PROVIDER}/x"), world.consumer))
    assert (caught.value.code, caught.value.status) == ("member-signature-missing", 422)
    with pytest.raises(RegistryRefused) as caught:
        await begun.client.submit(world.sign(begun.office.service(), world.provider))
    assert (caught.value.code, caught.value.status) == ("contract-missing", 409)
    with pytest.raises(RegistryRefused) as caught:
        await begun.client.put_contract("0" * 64, CONTRACT)
    assert caught.value.code == "contract-mismatch"


async def test_requests_are_made_listed_and_decided(begun: Served) -> None:
    world, client = begun.office.world, begun.client
    newcomer = world.party("VN-TEST/GOV/NEW")
    jws = world.sign(world.member(newcomer), newcomer)
    request = await client.request(jws)
    assert [kept.id for kept in await client.requests()] == [request.id]
    detail = await client.request_detail(request.id)
    assert detail.jws.encode() == jws
    refusal = Refusal(request=request.id, reason="wrong code", issued=time_at(90))
    decided = await client.decide(
        request.id, sign_refusal(refusal, world.operator.signer, world.operator.chain, world.genesis)
    )
    assert (decided.state, decided.reason) == ("refused", "wrong code")
    with pytest.raises(RegistryRefused) as caught:
        await client.decide(request.id, jws)
    assert caught.value.status == 409
    with pytest.raises(NotFound):
        await client.request_detail("a/b")


async def test_nodes_get_credentials_while_they_may_speak(begun: Served) -> None:
    node = f"{PROVIDER}/@n1"
    credentials = await begun.client.credentials(node)
    assert credentials.jwt == f"jwt of {node} of {PROVIDER}"
    assert credentials.broker.urls == ()
    with pytest.raises(NotFound):
        await begun.client.credentials(f"{PROVIDER}/@n2")
    world = begun.office.world
    await begun.client.submit(world.sign(world.revocation(f"node:{node}", since=time_at(1)), world.provider))
    with pytest.raises(NotFound, match="revoked"):
        await begun.client.credentials(node)


async def test_the_log_can_be_read_as_tiles(begun: Served) -> None:
    note = await begun.client.checkpoint()
    size = begun.office.authority.log.size
    assert note.startswith(f"{begun.office.world.genesis}/VN-TEST/directory/1\n{size}\n".encode())
    status, answer = await begun.ask("GET", f"/tile/entries/000.p/{size}")
    assert status == 200
    leaves = decode_bundle(bytes(answer["body"]))  # type: ignore[call-overload]
    _, answer = await begun.ask("GET", f"/tile/0/000.p/{size}")
    assert answer["body"] == b"".join(leaf_hash(leaf) for leaf in leaves)
    for path in ("0/000", f"0/000.p/{size + 1}", "entries/000", "entries/001.p/1", "9/x", "0/../0", "64/000", "1/000"):
        assert (await begun.ask("GET", f"/tile/{path}"))[0] == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/documents", b"", 422),
        ("POST", "/documents", b"\xff\xfe" * 100, 422),
        ("POST", "/documents", b"x" * 70_000, 413),
        ("POST", "/documents", b"x" * 2_000_000, 413),
        ("POST", "/requests", b"{}", 422),
        ("POST", "/requests", b"x" * 70_000, 413),
        ("POST", "/requests/none/decision", b"{}", 404),
        ("GET", "/requests/none", None, 404),
        ("GET", "/documents", None, 404),
        ("GET", "/documents?type=service&subject=%00%FF", None, 404),
        ("GET", "/contracts/abc", None, 404),
        ("GET", "/contracts/" + "0" * 64, None, 404),
        ("PUT", "/contracts/abc", b"x", 404),
        ("PUT", "/contracts/" + "0" * 64, b"x" * 1_100_000, 413),
        ("GET", "/credentials/%2e%2e/x", None, 404),
        ("GET", "/nothing", None, 404),
        ("DELETE", "/documents", None, 405),
    ],
)
async def test_bad_input_is_a_problem_with_a_code(
    begun: Served, method: str, path: str, body: bytes | None, status: int
) -> None:
    assert (await begun.ask(method, path, body))[0] == status


async def test_a_body_without_a_length_is_bounded_too(begun: Served) -> None:
    async def chunks(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b"x" * 65_536

    for count in (2, 40):
        async with begun.session.post(begun.url + "/documents", data=chunks(count)) as answer:
            assert answer.status == 413


async def test_health_and_metrics(begun: Served) -> None:
    assert (await begun.ask("GET", "/livez"))[0] == 200
    assert (await begun.ask("GET", "/metrics"))[1]["body"] == b"lienthong_up 1\n"
    runner, url = await serve(create_app(begun.office.authority))
    async with begun.session.get(url + "/metrics") as answer:
        assert answer.status == 404
    await runner.cleanup()


async def test_an_unwritable_log_is_a_retryable_problem(begun: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    world = begun.office.world
    jws = world.sign(world.subsystem(f"{PROVIDER}/a"), world.provider)
    await begun.office.authority.log.close()
    async with begun.session.post(begun.url + "/documents", data=jws) as answer:
        assert answer.status == 503
        assert answer.headers["Retry-After"]
    with pytest.raises(RegistryUnavailable):
        await begun.client.submit(jws)


async def test_a_registry_that_is_not_there_or_not_one(served: Served) -> None:
    async with RegistryClient("http://127.0.0.1:9", timeout_s=2) as client:
        with pytest.raises(RegistryUnavailable):
            await client.checkpoint()
    with pytest.raises(RuntimeError):
        await RegistryClient("http://127.0.0.1:9").checkpoint()

    async def nonsense(request: web.Request) -> web.Response:
        status = 400 if request.path == "/checkpoint" else 200
        return web.Response(status=status, body=b"x" * (9 << 20 if request.path == "/requests" else 9))

    async def slow(_: web.Request) -> web.Response:
        await asyncio.sleep(1)
        return web.Response()

    async def empty(_: web.Request) -> web.Response:
        return web.json_response({"genesis": "", "anchors": []})

    app = web.Application()
    app.router.add_get("/documents", slow)
    app.router.add_get("/anchor", empty)
    app.router.add_route("*", "/{path:.*}", nonsense)
    runner, url = await serve(app)
    async with RegistryClient(url, timeout_s=0.3) as client:
        with pytest.raises(WrongGenesis, match="no anchor"):
            await client.anchor("0" * 64)
        with pytest.raises(RegistryUnavailable, match="does not answer"):
            await client.newest("a", "b")
        with pytest.raises(RegistryUnavailable, match="what a registry answers"):
            await client.credentials("x")
        with pytest.raises(RegistryUnavailable, match="larger"):
            await client.requests()
        with pytest.raises(RegistryRefused, match="HTTP 400"):
            await client.checkpoint()
    await runner.cleanup()


async def test_one_address_cannot_fill_the_list_of_requests(begun: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.http.REQUESTS_PER_ADDRESS", QuotaLimit(per_day=2))
    statuses = [(await begun.ask("POST", "/requests", b"nonsense"))[0] for _ in range(3)]
    assert statuses == [422, 422, 429]
    async with begun.session.post(begun.url + "/requests", data=b"x") as answer:
        assert int(answer.headers["Retry-After"]) > 60
    assert (await begun.ask("GET", "/requests"))[0] == 200


async def test_one_address_cannot_have_documents_verified_without_end(
    begun: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.http.DOCUMENTS_PER_ADDRESS", QuotaLimit(per_day=2))
    statuses = [(await begun.ask("POST", "/documents", b"nonsense"))[0] for _ in range(3)]
    assert statuses[2] == 429
    assert 429 not in statuses[:2]
    assert (await begun.ask("GET", "/anchor"))[0] == 200


async def test_one_address_cannot_have_decisions_verified_without_end(
    begun: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.http.DECISIONS_PER_ADDRESS", QuotaLimit(per_day=2))
    asked = (("POST", "decision"), ("PUT", "certificate"), ("POST", "decision"), ("PUT", "certificate"))
    statuses = [(await begun.ask(method, f"/requests/{'0' * 64}/{what}", b"nonsense"))[0] for method, what in asked]
    assert statuses == [404, 404, 429, 429]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8::1%eth0", "2001:db8::/64"),
        ("a-socket", "a-socket"),
    ],
)
def test_hosts_are_counted_by_their_network_however_a_socket_says_it(address: str, network: str) -> None:
    assert _network(address) == network
