"""The scenario: what the client asks, what must come back, and what did.

The client is another process; this module writes its plans and judges what it tells. It reads no log.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from console.demo.calls import Answer, Call, Plan, Told
from console.demo.cast import (
    ARCHIVE,
    BUSINESS,
    BUSINESS_MINISTRY,
    GRANTED_FIELD,
    GROUND,
    ISSUE,
    OFFICIAL,
    ONEDOOR,
    POPULATION,
    PROVINCE,
    PURPOSE,
)
from console.demo.processes import CLIENT, DemoFailed, Processes
from console.demo.samples import Citizen
from console.demo.world import Onboarding, World

BULK_CALLS, BULK_CONNECTIONS = 3_000, 32
_BULK_S = 100.0
_JSON, _XML = "application/json", "application/xml"
CALL_HEADERS = {"X-Road-UserId": OFFICIAL, "X-Road-Issue": ISSUE, "X-LienThong-Legal-Basis": GROUND}


@dataclass(frozen=True, slots=True)
class Expected:
    """What must come back.

    Attributes:
        status: HTTP status.
        code: Stable code of the problem; empty for a good answer.
        reason: Code of the access decision, where that refused.
        pointer: JSON pointer to the field that breaks the contract.
        logged: Whether the call must have become an exchange, with a record id.
        retry: Whether it must say that the call did not act and when to try again.
    """

    status: int = 200
    code: str = ""
    reason: str = ""
    pointer: str = ""
    logged: bool = True
    retry: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """A call of the scenario with its answer.

    Attributes:
        what: In words, for the report.
        call: What was called.
        expected: What must come back.
        answer: What came back.
        problems: How they differ; empty when all is well.
    """

    what: str
    call: Call
    expected: Expected
    answer: Answer
    problems: tuple[str, ...]

    @property
    def body(self) -> dict[str, Any]:
        """The answer's JSON object; empty for other bodies."""
        return _object(self.answer.body)


@dataclass(frozen=True, slots=True)
class Fields:
    """Which fields an answer held.

    Attributes:
        service: Called service.
        delivered: Marked fields that were granted and came.
        withheld: Marked fields that were not granted and did not come.
        problems: What is wrong; empty when all is well.
    """

    service: str
    delivered: tuple[str, ...]
    withheld: tuple[str, ...]
    problems: tuple[str, ...]


@dataclass(slots=True)
class Outcome:
    """All that the scenario gave, in its order; `exchanges` are the successful ones by the gateway's own counter."""

    good: list[Step] = field(default_factory=list)
    refused: list[Step] = field(default_factory=list)
    fields: list[Fields] = field(default_factory=list)
    bulk: Told | None = None
    away: list[Step] = field(default_factory=list)
    exchanges: int = 0

    def steps(self) -> list[Step]:
        """Every single call."""
        return [*self.good, *self.refused, *self.away]

    def problems(self) -> list[str]:
        """Everything that is not as expected."""
        found = [f"{step.what}: {problem}" for step in self.steps() for problem in step.problems]
        found += [f"{one.service}: {problem}" for one in self.fields for problem in one.problems]
        if self.bulk is not None and not self.bulk.calls == self.bulk.good == self.bulk.exchanges == BULK_CALLS:
            told = self.bulk
            found.append(
                f"bulk: {BULK_CALLS} calls planned, {told.calls} made, {told.good} with the right answer,"
                f" {told.exchanges} in the gateway's counter; statuses {told.statuses}"
            )
        return found


class Scenario:
    """Plays the scenario in a world that is up.

    Args:
        processes: Runs the client.
        world: Where it plays.
        work: Folder for plans and for `sent.jsonl`.
        seed: Chooses whom the bulk of calls asks about.
    """

    def __init__(self, processes: Processes, world: World, work: Path, seed: int) -> None:
        self._processes = processes
        self._world = world
        self._work = work
        self._seed = seed
        self._plans = 0
        self.sent = work / "sent.jsonl"
        self.outcome = Outcome()

    @property
    def onboarding(self) -> Onboarding:
        """How long the last member's way in took."""
        return self._world.onboarding

    async def call_well(self) -> None:
        """Calls that succeed."""
        citizen, firm = self._world.samples.citizen, self._world.samples.enterprise
        dossier = self._world.samples.dossiers[0]
        first = await self._steps([("name and number agree", confirm(citizen), Expected())])
        if not first[0].problems:
            self._world.onboarding.ended()
        self.outcome.good = first + await self._steps(
            [
                ("another person's name", confirm(citizen, "Trần Không Ai"), Expected()),
                ("a citizen by number", look_up(citizen.number), Expected()),
                ("an enterprise by code", enterprise(firm), Expected()),
                ("a registration's state, in XML", registration(dossier), Expected()),
            ]
        )
        self.outcome.fields = [
            population_fields(self.outcome.good[2].body, self._world.marked[POPULATION.id]),
            business_fields(self.outcome.good[3].body, self._world.marked[BUSINESS.id]),
        ]

    async def call_wrongly(self) -> None:
        """Calls that must be refused, each for a reason of its own."""
        citizen = self._world.samples.citizen
        replace = msgspec.structs.replace
        look = look_up(citizen.number)
        short = confirm(Citizen(citizen.number[:-1], citizen.full_name, citizen.birth_date))
        search = replace(enterprise(""), operation="searchEnterprises", path="/enterprises?name=An", expect="")
        stranger, other = replace(look, client=ARCHIVE, key="archive"), replace(look, purpose="marketing")
        self.outcome.refused = await self._steps(
            [
                ("a subsystem without a right", stranger, _denied("no-access-right")),
                ("a purpose that is not granted", other, _denied("purpose-not-granted")),
                ("an operation that is not granted", search, _denied("operation-not-granted")),
                ("a number with eleven digits", short, _local("request-invalid", 400, pointer="/number")),
                ("one system in another's name", replace(look, key="archive"), _local("client-forbidden", 403)),
                ("a key that nobody gave out", replace(look, key="stranger"), _local("credentials-invalid", 401)),
            ]
        )

    async def call_much(self) -> None:
        """Many calls at once, to both services, about seeded people, firms and dossiers."""
        chance = random.Random(f"bulk {self._seed}")
        calls = [self._one_of_many(chance) for _ in range(BULK_CALLS)]
        self.outcome.bulk = await self._run(calls, connections=BULK_CONNECTIONS, keep=False)

    def _one_of_many(self, chance: random.Random) -> Call:
        drawn, picked = chance.random(), self._world.samples
        if drawn < 0.45:
            return look_up(chance.choice(picked.citizens).number)
        if drawn < 0.75:
            return confirm(chance.choice(picked.citizens))
        if drawn < 0.92:
            return enterprise(chance.choice(picked.enterprises))
        return registration(chance.choice(picked.dossiers))

    async def call_while_away(self) -> None:
        """The business ministry's gateway is stopped: a clear error at once; started again: the same call succeeds."""
        call = enterprise(self._world.samples.enterprise)
        absent = Expected(status=503, code="provider-unavailable", retry=True)
        await self._world.gateways.stop(BUSINESS_MINISTRY)
        self.outcome.away = await self._steps([("gateway stopped", call, absent)])
        await self._world.gateways.start(BUSINESS_MINISTRY)
        self.outcome.away += await self._steps([("gateway started again", call, Expected())])

    async def _steps(self, wanted: list[tuple[str, Call, Expected]]) -> list[Step]:
        told = await self._run([call for _, call, _ in wanted], connections=1, keep=True)
        return [
            Step(what, call, expected, answer, tuple(differences(call, expected, answer)))
            for (what, call, expected), answer in zip(wanted, told.answers, strict=True)
        ]

    async def _run(self, calls: list[Call], *, connections: int, keep: bool) -> Told:
        node = self._world.gateways.nodes[PROVINCE.code]
        plan = Plan(
            front=node.front,
            ca=str(self._world.home(PROVINCE) / "tls" / "ca.crt"),
            admin=node.admin,
            keys={name: str(path) for name, path in self._world.keys.items()},
            headers=CALL_HEADERS,
            sent=str(self.sent),
            connections=connections,
            keep=keep,
            calls=calls,
        )
        self._plans += 1
        path = self._work / f"plan-{self._plans}.json"
        path.write_bytes(msgspec.json.encode(plan))
        try:
            out = await self._processes.run("the client", [*CLIENT, str(path)], deadline_s=_BULK_S)
        except DemoFailed:
            self._processes.check()  # if a gateway died, that is the news
            raise
        self._processes.check()
        told = msgspec.json.decode(out, type=Told)
        self.outcome.exchanges += told.exchanges
        return told


def _denied(reason: str) -> Expected:
    """Refused by the provider, signed and logged on both sides."""
    return Expected(status=403, code="access-denied", reason=reason)


def _local(code: str, status: int, pointer: str = "") -> Expected:
    """Refused by the caller's own gateway: nothing was logged or sent."""
    return Expected(status=status, code=code, pointer=pointer, logged=False)


def confirm(citizen: Citizen, name: str = "") -> Call:
    """Ask whether a number and a name belong together; `name` instead of the right one."""
    claim = {"number": citizen.number, "fullName": name or citizen.full_name, "birthDate": citizen.birth_date}
    return Call(
        client=ONEDOOR, key="onedoor", service=POPULATION.id, operation="confirmCitizen", method="POST",
        path="/confirm", body=json.dumps(claim, ensure_ascii=False), content_type=_JSON, purpose=PURPOSE,
        expect='{"exists":false}' if name else '{"exists":true}',
    )  # fmt: skip


def look_up(number: str) -> Call:
    """Look a citizen up."""
    return Call(
        client=ONEDOOR, key="onedoor", service=POPULATION.id, operation="lookUpCitizen", path=f"/citizens/{number}",
        purpose=PURPOSE, expect=f'"number":"{number}"',
    )  # fmt: skip


def enterprise(code: str) -> Call:
    """Look an enterprise up."""
    return Call(
        client=ONEDOOR, key="onedoor", service=BUSINESS.id, operation="getEnterprise", path=f"/enterprises/{code}",
        purpose=PURPOSE, expect=f'"code":"{code}"',
    )  # fmt: skip


def registration(dossier: str) -> Call:
    """Ask for the state of a registration dossier, in XML."""
    asked = f'<RegistrationStatusRequest xmlns="urn:lienthong:business:1"><DossierCode>{dossier}</DossierCode>'
    return Call(
        client=ONEDOOR, key="onedoor", service=BUSINESS.id, operation="registrationStatus", method="POST",
        path="/registration-status", body=f"{asked}</RegistrationStatusRequest>", content_type=_XML, purpose=PURPOSE,
        expect=f"<DossierCode>{dossier}</DossierCode>",
    )  # fmt: skip


def differences(call: Call, expected: Expected, answer: Answer) -> list[str]:
    """How an answer differs from what was expected."""
    body = _object(answer.body)
    pointers = [one.get("pointer") for one in body.get("violations", [])]
    found = []
    if answer.status != expected.status:
        found.append(f"status {answer.status} instead of {expected.status} ({body.get('code', answer.body[:80])})")
    elif not expected.code and call.expect not in answer.body:
        found.append("the answer does not hold what was asked for")
    if expected.code and body.get("code") != expected.code:
        found.append(f"code {body.get('code')!r} instead of {expected.code!r}")
    if expected.reason and body.get("reason") != expected.reason:
        found.append(f"reason {body.get('reason')!r} instead of {expected.reason!r}")
    if expected.pointer and pointers != [expected.pointer]:
        found.append(f"points at {pointers} instead of {expected.pointer}")
    if bool(answer.id) != expected.logged:
        found.append("it has a record id" if answer.id else "it has no record id")
    if expected.retry and not (answer.retry_after.isdigit() and body.get("acted") == "no"):
        found.append("it does not say that nothing was done and when to try again")
    return found


def population_fields(body: dict[str, Any], marked: list[str]) -> Fields:
    """What of a citizen came. The sample's spouse, religion, ethnicity are on record: see `samples`."""
    came = {name for name in marked if name in body}
    problems = [f"{GRANTED_FIELD} is granted and did not come"] if GRANTED_FIELD not in came else []
    problems += [f"{name} came and is not granted" for name in sorted(came - {GRANTED_FIELD})]
    return Fields(POPULATION.id, (GRANTED_FIELD,), tuple(name for name in marked if name not in came), tuple(problems))


def business_fields(body: dict[str, Any], marked: list[str]) -> Fields:
    """What of an enterprise came. Members and a representative's number of the sample are on record: see `samples`."""
    came = {"members": "members" in body}
    people = body.get("legalRepresentatives", [])
    came["representativeNumber"] = any("number" in person for person in people)
    problems = [f"{name} came and is not granted" for name in marked if came.get(name, True)]
    if not people:
        problems.append("the legal representative did not come")
    return Fields(BUSINESS.id, (), tuple(name for name in marked if not came.get(name, True)), tuple(problems))


def _object(text: str) -> dict[str, Any]:
    try:
        read = json.loads(text)
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}
