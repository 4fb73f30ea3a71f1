"""Both sides of a query back to back: what is logged, what is delivered, what is refused."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from bus_world import (
    ANSWER_PAIR,
    CITIZEN,
    CITIZEN_CUT,
    CLIENT,
    G01,
    H37,
    NODE_H37,
    NOW,
    PLAIN_SERVICE,
    QUERY_PAIR,
    SERVICE,
    Bus,
    access_entry,
    call,
    changed,
    posted,
    running_bus,
    sealing_entry,
    service_entry,
)

from adapters import errors as adapter_errors
from adapters.port import AdapterAnswer
from bus import envelope as wire
from bus import errors
from bus.exchange.asking import AskingLimits
from bus.exchange.composing import Composer
from bus.exchange.examining import denied
from bus.exchange.hints import HintBucket
from bus.exchange.keeping import open_particulars
from bus.exchange.sourcing import backend_error
from bus.sealing.contents import Particulars
from bus.sealing.epoch import Sealer
from bus.sealing.keys import X25519, SealingKeyPair
from evidence import header, leaf, merkle
from registry.decision import Decision
from registry.view import Limits, QuotaLimit, SubsystemEntry

_hint = msgspec.msgpack.Encoder().encode


@pytest.fixture
async def bus(tmp_path):
    async with running_bus(tmp_path) as made:
        yield made


async def refused(bus: Bus, expected: type[errors.BusError], **changes: object) -> errors.BusError:
    """Asks, expects this failure, and checks what holds after every failure."""
    with pytest.raises(expected) as caught:
        await bus.ask(**changes)
    assert type(caught.value) is expected
    assert bus.h37.heard.refusals[-1] == ("client", caught.value.reason_code or caught.value.code)
    assert +bus.h37.heard.flight == +bus.g01.heard.flight == {}
    return caught.value


def only_closing(bus: Bus) -> str:
    """Class of the one closing record of the one query at the asking side; nothing is left open."""
    (classes,) = bus.h37.closings().values()
    (class_,) = classes
    assert bus.h37.rows("SELECT * FROM open_request") == []
    return class_


# --- answers --------------------------------------------------------------------------------------------------------


async def test_an_answer_is_proven_cut_and_logged_on_both_sides(bus):
    answer = await bus.ask()
    assert (answer.status, answer.body, answer.content_type) == (200, CITIZEN_CUT, "application/json")
    assert answer.headers == (("x-source", "one"),)
    assert only_closing(bus) == "ok"
    assert bus.h37.types() == bus.g01.types() == ["query", "answer"]
    (_, query, sent), (_, answered, _) = bus.h37.records()
    assert [hashed for _, hashed, _ in bus.g01.records()] == [query, answered]
    assert sent.id == answer.record_id
    assert bus.h37.heard.endings == [("client", SERVICE, G01, "ok")]
    assert bus.g01.heard.endings == [("provider", SERVICE, H37, "ok")]
    assert bus.h37.heard.offsets == {G01: 0.0}
    assert await bus.asker.wait_idle(1)


async def test_the_source_gets_what_was_verified(bus):
    await bus.ask(
        service=PLAIN_SERVICE,
        issue="H37.26.1",
        represented_party="VN/COM/9",
        legal_basis="Decree 1/2026",
        trace="00-1",
        **posted(),
    )
    (request,) = bus.source.requests
    assert request.client == CLIENT
    assert request.operation == "confirm"
    assert (request.official, request.issue, request.represented_party) == ("nguyen.an", "H37.26.1", "VN/COM/9")
    assert (request.purpose, request.legal_basis) == ("residence", "Decree 1/2026")
    assert (request.body, request.json_body) == (b'{"id":"1"}', {"id": "1"})
    assert request.deadline_s == 10.0
    assert request.exchange_id == bus.h37.records()[0][2].id


async def test_a_marked_field_is_delivered_when_the_right_grants_it(bus):
    bus.directory.access[SERVICE] = access_entry(fields=frozenset({"religion"}))
    assert (await bus.ask()).body == CITIZEN


async def test_contracts_that_are_not_in_memory_are_loaded(tmp_path):
    async with running_bus(tmp_path, warm=False) as bus:
        assert (await bus.ask()).status == 200
        assert bus.shelf.loads == 3


async def test_particulars_are_kept_encrypted_beside_both_logs(bus):
    await bus.ask()
    for side, kept in ((bus.h37, [("nguyen.an", 0)]), (bus.g01, [("nguyen.an", 0), ("", 200)])):
        found = []
        for day, data in side.rows("SELECT day, data FROM particulars ORDER BY idx"):
            assert b"nguyen.an" not in data
            salts, particulars = open_particulars(side.day_keys, day, data)
            assert len(salts) == 64
            found.append((particulars.official, particulars.status))
        assert found == kept
    assert len(bus.h37.rows("SELECT * FROM peer_proof")) == len(bus.g01.rows("SELECT * FROM peer_proof")) == 1


async def test_an_exchange_on_a_clock_that_is_off_is_measured(bus):
    def late(payload):
        bus.clock.pass_time(2)
        return payload

    bus.broker.alter_answer = late
    await bus.ask()
    assert bus.h37.heard.offsets == {G01: -1.0}


async def test_a_server_error_that_the_contract_does_not_declare_passes_as_failed(bus):
    bus.source.answer = AdapterAnswer(500, (), "text/plain", b"oh")
    answer = await bus.ask(service=PLAIN_SERVICE)
    assert (answer.status, answer.body, answer.content_type) == (500, b"oh", "text/plain")
    assert only_closing(bus) == "failed"


async def test_the_body_of_an_undeclared_answer_is_withheld_when_fields_are_granted(bus):
    bus.source.answer = AdapterAnswer(404, (), "text/plain", b"Tran Thi Minh is not here")
    answer = await bus.ask()
    assert answer.status == 404
    assert b"Minh" not in answer.body
    assert b"undeclared-answer" in answer.body
    assert answer.content_type == "application/problem+json"


async def test_a_large_undeclared_answer_does_not_pass(bus):
    bus.source.answer = AdapterAnswer(500, (), "text/plain", b"x" * 70_000)
    await refused(bus, errors.AnswerInvalid, service=PLAIN_SERVICE)


async def test_a_body_over_the_services_limit_does_not_pass(bus):
    limits = Limits(max_answer_bytes=10)
    bus.directory.services[SERVICE] = service_entry(limits=limits)
    await refused(bus, errors.AnswerInvalid)


async def test_an_answer_that_breaks_the_contract_does_not_pass(bus):
    bus.source.answer = AdapterAnswer(200, (), "application/json", b'{"id":"1","name":"x"}')
    error = await refused(bus, errors.AnswerInvalid)
    assert [item["pointer"] for item in error.violations] == ["/id"]
    assert only_closing(bus) == "failed"


async def test_an_undeclared_success_does_not_pass(bus):
    bus.source.answer = AdapterAnswer(204, (), "", b"")
    await refused(bus, errors.AnswerInvalid)


async def test_an_answer_with_ungranted_fields_is_logged_but_not_delivered(bus):
    # The provider's own rights are wider than those in the directory that the client's gateway sees.
    rights = type(bus.directory)()
    rights.__dict__.update(bus.directory.__dict__)
    rights.access = {SERVICE: access_entry(fields=frozenset({"religion"}))}
    bus.answerer._examiner._rights = lambda: rights
    await refused(bus, errors.AnswerInvalid)
    assert only_closing(bus) == "ok"


# --- what the asking side refuses by itself -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"client": f"{H37}/stranger"}, errors.ClientUnknown),
        ({"service": "LA/GOV/G01/a/b"}, errors.InstanceUnknown),
        ({"service": "VN/GOV/G99/a/b"}, errors.MemberUnknown),
        ({"service": f"{G01}/a/b"}, errors.ServiceUnknown),
        ({"path": "/citizens/../x"}, errors.PathRefused),
        ({"path": "/nothing"}, errors.OperationUnknown),
        ({"path": "/citizens/1"}, errors.RequestInvalid),
        ({"method": "DELETE"}, errors.MethodNotAllowed),
        ({**posted(), "content_type": "text/csv"}, errors.MediaTypeUnsupported),
    ],
)
async def test_a_call_that_cannot_succeed_is_refused_before_it_is_logged(bus, changes, expected):
    error = await refused(bus, expected, **changes)
    assert error.record_id == ""
    assert bus.h37.types() == []
    assert bus.broker.asked == []


async def test_a_disabled_service_says_its_notice(bus):
    bus.directory.services[SERVICE] = service_entry(enabled=False, notice="back on Monday")
    assert (await refused(bus, errors.ServiceDisabled)).detail.endswith("off: back on Monday")


async def test_nothing_is_logged_without_a_broker(bus):
    bus.broker.connected = False
    await refused(bus, errors.BrokerUnavailable)
    assert bus.h37.types() == []


async def test_nothing_is_logged_without_a_sealing_key_of_the_provider(bus):
    bus.directory.sealing.pop(0)
    await refused(bus, errors.ProviderUnavailable)
    assert bus.h37.types() == []


async def test_a_stale_directory_refuses_calls(bus):
    bus.stale.append(errors.DirectoryStale())
    await refused(bus, errors.DirectoryStale)


async def test_a_client_with_too_many_calls_under_way_is_refused_and_counted(bus):
    bus.per_client.limit = 0
    await refused(bus, errors.TooManyInFlight)
    bus.per_client.limit = 1
    bus.per_service.limit = 0
    await refused(bus, errors.TooManyInFlight)
    bus.per_service.limit = 1
    assert (await bus.ask()).status == 200


async def test_calls_under_way_are_waited_for(bus):
    bus.source.release = asyncio.Event()
    asking = asyncio.ensure_future(bus.ask())
    await bus.source.started.wait()
    assert bus.h37.heard.flight["client"] == 1
    assert bus.g01.heard.flight["provider"] == 1
    assert not await bus.asker.wait_idle(0.001)
    bus.source.release.set()
    await asking
    assert await bus.asker.wait_idle(1)


# --- no answer ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "class_"),
    [
        (errors.ProviderUnavailable(), "undelivered"),
        (errors.BrokerUnavailable(), "undelivered"),
        (errors.Timeout(), "timedout"),
    ],
)
async def test_a_request_without_an_answer_is_closed_by_an_outcome(bus, error, class_):
    bus.broker.error = error
    raised = await refused(bus, type(error))
    assert bus.h37.types() == ["query", "outcome"]
    assert only_closing(bus) == class_
    assert raised.record_id == bus.h37.records()[0][2].id
    assert bus.h37.heard.endings == [("client", SERVICE, G01, class_)]


async def test_the_deadline_is_the_shorter_of_gateway_and_service(bus):
    bus.asker.limits = AskingLimits(deadline_s=3.0)
    await bus.ask()
    (_, payload, deadline_s) = bus.broker.asked[0]
    assert deadline_s == pytest.approx(3.25)
    sent = header.decode(wire.decode(payload, 10**6).header)
    assert (header.decode_time(sent.expires) - NOW).total_seconds() == 3.0


@pytest.mark.parametrize(
    ("reply", "expected", "code"),
    [
        (_hint((0, "replayed")), errors.ProviderDropped, "replayed"),
        (_hint((0, "<script>")), errors.ProviderDropped, "unknown"),
        (b"", errors.AnswerUnverifiable, None),
        (b"\x92\x00", errors.AnswerUnverifiable, None),
        (_hint(("0", 1)), errors.AnswerUnverifiable, None),
        (b"\x92\x00\xa1\xff", errors.AnswerUnverifiable, None),
        (b"x" * 200, errors.AnswerUnverifiable, None),
    ],
)
async def test_a_reply_that_is_no_answer_closes_the_request_as_rejected(bus, reply, expected, code):
    bus.broker.instead = reply
    await refused(bus, expected)
    assert only_closing(bus) == "rejected"
    assert bus.h37.heard.hints == ([] if code is None else [code])


# --- answers that are not what they should be -----------------------------------------------------------------------


def altered(**changes: object):
    return lambda data: msgspec.msgpack.encode(msgspec.structs.replace(wire.decode(data, len(data)), **changes))


def flipped(name: str):
    def alter(data):
        found = wire.decode(data, len(data))
        value = bytearray(getattr(found, name))
        value[len(value) // 2] ^= 1
        return wire.encode(msgspec.structs.replace(found, **{name: bytes(value)}))

    return alter


@pytest.mark.parametrize("name", ["header", "note", "path", "wrapped", "nonce", "ciphertext"])
async def test_an_altered_answer_is_not_delivered(bus, name):
    bus.broker.alter_answer = flipped(name)
    await refused(bus, errors.AnswerUnverifiable)
    assert only_closing(bus) == "rejected"
    assert len(bus.h37.heard.drops) == 1


@pytest.mark.parametrize("changes", [{"index": 0}, {"size": 2}, {"version": 2}])
async def test_an_answer_with_an_altered_proof_is_not_delivered(bus, changes):
    bus.broker.alter_answer = altered(**changes)
    await refused(bus, errors.AnswerUnverifiable)
    assert only_closing(bus) == "rejected"


async def test_the_answer_of_another_request_is_not_delivered(bus):
    kept = []
    bus.broker.alter_answer = lambda data: kept.append(data) or data
    await bus.ask()
    bus.broker.alter_answer = lambda _: kept[0]
    with pytest.raises(errors.AnswerUnverifiable, match="another request"):
        await bus.ask()
    assert sorted(bus.h37.closings().values()) == [["ok"], ["rejected"]]


async def test_a_query_that_comes_back_is_no_answer(bus):
    bus.broker.alter_query = lambda data: setattr(bus.broker, "alter_answer", lambda _: data) or data
    await refused(bus, errors.AnswerUnverifiable)
    assert bus.h37.heard.drops == ["type-unexpected"]


def reseal(bus: Bus, **changes: object):
    """The provider's node answers with other header members or under another key, properly logged."""

    async def on_query(subject, reply, data):
        got = wire.decode(data, len(data))
        head = header.decode(got.header)
        pair = changes.get("pair", ANSWER_PAIR)
        values = {
            "source": head.to,
            "to": head.source,
            "receiver": NODE_H37,
            "key": sealing_entry(NODE_H37, pair, "answer"),
            "use": "answer",
            "operation": head.operation,
            "particulars": Particulars(status=200, content_type="application/json"),
            "body": CITIZEN_CUT,
            "now": bus.clock.now(),
            "inreplyto": merkle.leaf_hash(leaf.wrap(leaf.EXCHANGE, got.header)).hex(),
            "class_": "ok",
        }
        values |= {name: value for name, value in changes.items() if name in values}
        draft = bus.g01.composer.sealed("answer", **values)
        if "tamper" in changes:
            draft = changes["tamper"](draft)
        (logged,) = await bus.g01.log.append([draft.leaf])
        await bus.broker.send(
            reply,
            wire.encode(
                wire.Envelope(
                    1,
                    draft.header_bytes,
                    logged.index,
                    logged.size,
                    logged.path,
                    logged.note,
                    draft.wrapped,
                    draft.nonce,
                    draft.ciphertext,
                )
            ),
        )

    bus.broker.handler = on_query


async def test_a_well_made_answer_passes(bus):
    reseal(bus)
    assert (await bus.ask()).body == CITIZEN_CUT


@pytest.mark.parametrize(
    "changes",
    [
        {"source": PLAIN_SERVICE},
        {"to": f"{H37}/other"},
        {"operation": "confirm"},
        {"inreplyto": "00" * 32},
        {"pair": SealingKeyPair.load(X25519, b"\x44" * 32)},
        {"use": "query"},
        {"receiver": H37},
    ],
)
async def test_an_answer_must_match_its_request_in_every_field(bus, changes):
    reseal(bus, **changes)
    await refused(bus, errors.AnswerUnverifiable)
    assert only_closing(bus) == "rejected"


async def test_an_answer_whose_contents_differ_from_its_digests_is_not_delivered(bus):
    def tamper(draft):
        made = msgspec.structs.replace(draft.header, bodydigest="00" * 32)
        encoded = header.encode(made)
        return type(draft)(
            made,
            encoded,
            leaf.wrap(leaf.EXCHANGE, encoded),
            draft.wrapped,
            draft.nonce,
            draft.ciphertext,
            draft.kept,
        )

    reseal(bus, tamper=tamper)
    await refused(bus, errors.AnswerUnverifiable)


async def test_an_answer_whose_particulars_are_no_text_is_not_delivered(bus, monkeypatch):
    sealed = bus.g01.composer.sealed

    def garbled(*args, **kwargs):
        with monkeypatch.context() as patched:
            patched.setattr("bus.exchange.composing.encode_particulars", lambda _: b"\x91\xa1\xff")
            return sealed(*args, **kwargs)

    bus.g01.composer.sealed = garbled
    reseal(bus)
    await refused(bus, errors.AnswerUnverifiable)
    assert only_closing(bus) == "rejected"


async def test_a_fault_that_cannot_be_read_is_an_invalid_answer(bus):
    reseal(bus, particulars=Particulars(status=403, fault="access-denied"), body=b"<html>")
    await refused(bus, errors.AnswerInvalid)


# --- refusals of the provider ---------------------------------------------------------------------------------------


async def test_a_refusal_is_signed_logged_and_told(bus):
    bus.directory.access.clear()
    error = await refused(bus, errors.AccessDenied)
    assert error.reason_code == "no-access-right"
    assert error.record_id == bus.h37.records()[0][2].id
    assert bus.h37.types() == bus.g01.types() == ["query", "refusal"]
    assert only_closing(bus) == "refused"
    assert bus.g01.heard.refusals == [("provider", "no-access-right")]
    assert bus.source.requests == []


@pytest.mark.parametrize(
    ("right", "reason"),
    [
        ({"purposes": frozenset({"tax"})}, "purpose-not-granted"),
        ({"operations": frozenset({"confirm"})}, "operation-not-granted"),
        ({"grounds": frozenset({"Law 1"})}, "ground-not-granted"),
    ],
)
async def test_a_refusal_names_the_rule(bus, right, reason):
    bus.directory.access[SERVICE] = access_entry(**right)
    error = await refused(bus, errors.AccessDenied)
    assert (error.reason_code, error.rule) == (reason, f"{SERVICE}#h37")


async def test_a_quota_is_refused_with_the_time_to_wait(bus):
    bus.directory.access[SERVICE] = access_entry(quota=QuotaLimit(per_second=0.5))
    assert (await bus.ask()).status == 200
    error = await refused(bus, errors.QuotaExceeded)
    assert (error.retry_after_s, error.rule) == (2, f"{SERVICE}#h37")
    bus.clock.pass_time(2)
    assert (await bus.ask()).status == 200


async def test_a_generous_right_to_another_operation_lifts_no_quota(bus):
    narrow = f"{SERVICE}#daily"
    bus.directory.access = {
        "wide": access_entry(operations=frozenset({"confirm"})),
        "narrow": access_entry(subject=narrow, operations=frozenset({"getCitizen"}), quota=QuotaLimit(per_day=1)),
    }
    assert (await bus.ask()).status == 200
    error = await refused(bus, errors.QuotaExceeded)
    assert error.rule == narrow
    assert error.retry_after_s == 86_400


def provider_view(bus: Bus):
    """A copy of the directory that only the provider's decision sees."""
    rights = type(bus.directory)()
    rights.__dict__.update(bus.directory.__dict__)
    bus.answerer._examiner._rights = lambda: rights
    return rights


@pytest.mark.parametrize(
    ("service", "expected"),
    [(None, errors.ServiceUnknown), (service_entry(enabled=False, notice="moved"), errors.ServiceDisabled)],
)
async def test_the_providers_own_word_on_its_service_decides(bus, service, expected):
    rights = provider_view(bus)
    rights.services = {} if service is None else {SERVICE: service}
    await refused(bus, expected)


async def test_a_service_that_vanishes_between_two_looks_is_unknown(bus):
    rights = provider_view(bus)
    looks = iter([bus.directory.services[SERVICE], None])
    rights.service = lambda _: next(looks)
    await refused(bus, errors.ServiceUnknown)


async def test_too_many_calls_under_way_at_a_service_are_refused_with_a_signature(bus):
    bus.source.release = asyncio.Event()
    bus.directory.services[SERVICE] = service_entry(limits=Limits(max_concurrent=1))
    first = asyncio.ensure_future(bus.ask())
    await bus.source.started.wait()
    with pytest.raises(errors.TooManyInFlight):
        await bus.ask()
    bus.source.release.set()
    assert (await first).status == 200
    assert sorted(bus.h37.closings().values()) == [["ok"], ["refused"]]


async def test_a_request_that_the_providers_contract_refuses_is_refused(bus):
    bus.directory.services[SERVICE] = service_entry(PLAIN_SERVICE, id=SERVICE)
    rights = provider_view(bus)
    rights.services = {SERVICE: service_entry()}
    # routed the same, but the header names another operation
    sealed = bus.h37.composer.sealed
    bus.h37.composer.sealed = lambda *args, **kwargs: sealed(*args, **{**kwargs, "operation": "confirm"})
    error = await refused(bus, errors.RequestInvalid)
    assert "another operation" in error.detail


async def test_a_request_for_a_key_that_is_gone_is_refused(bus):
    bus.answerer._examiner._query_keys = {}
    await refused(bus, errors.RequestMalformed)
    assert only_closing(bus) == "refused"


async def test_a_request_that_cannot_be_opened_is_refused(bus):
    bus.answerer._examiner._query_keys = {QUERY_PAIR.keyid: SealingKeyPair.load(X25519, b"\x55" * 32)}
    await refused(bus, errors.RequestMalformed)


# --- the back end ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raised", "expected", "acted"),
    [
        (adapter_errors.BackendTimeout("slow"), errors.BackendTimeout, "unknown"),
        (adapter_errors.BackendUnreachable("down", acted="no"), errors.BackendUnavailable, "no"),
        (adapter_errors.BackendUnreachable("broke"), errors.BackendFailed, "unknown"),
        (adapter_errors.BackendAnswerInvalid("no HTTP"), errors.BackendFailed, "unknown"),
        (TimeoutError(), errors.BackendTimeout, "unknown"),
        (KeyError("a defect"), errors.InternalError, "unknown"),
    ],
)
async def test_a_failing_back_end_is_a_signed_failure(bus, raised, expected, acted):
    bus.source.error = raised
    error = await refused(bus, expected)
    assert error.acted == acted
    assert only_closing(bus) == "failed"
    assert bus.g01.heard.refusals == [("provider", expected.code)]


async def test_a_defect_while_examining_is_a_signed_failure(bus):
    def defect():
        raise KeyError("a defect")

    bus.answerer._examiner._rights = defect
    error = await refused(bus, errors.InternalError)
    assert "defect" not in error.detail
    assert only_closing(bus) == "refused"


async def test_an_answer_that_cannot_travel_is_a_signed_failure(bus):
    bus.source.answer = AdapterAnswer(200, (("x-source", "\udcff"),), "application/json", CITIZEN)
    await refused(bus, errors.InternalError)
    assert only_closing(bus) == "failed"


def test_an_open_breaker_says_when_to_try_again():
    error = backend_error(adapter_errors.BreakerOpen("open", retry_after_s=2.2))
    assert (type(error), error.retry_after_s, error.acted) == (errors.BackendUnavailable, 3, "no")


async def test_a_service_without_a_back_end_is_unavailable(bus):
    bus.answerer._sourcing._sources = dict
    assert (await refused(bus, errors.BackendUnavailable)).acted == "no"


async def test_the_back_end_is_not_asked_when_no_time_is_left(bus):
    take = bus.answerer._examiner._rights

    def slow():
        bus.clock.pass_time(20)
        return take()

    bus.answerer._examiner._rights = slow
    assert (await refused(bus, errors.BackendTimeout)).acted == "no"
    assert bus.source.requests == []


# --- drops: counted, hinted, never logged ---------------------------------------------------------------------------


async def drop(bus: Bus, data=None, subject="lt.q.GOV~G01.GOV~H37", reply="_I.GOV~H37~n1.a.b") -> list:
    if data is None:
        kept = []
        bus.broker.alter_query = lambda payload: kept.append(payload) or b"lost"
        with pytest.raises(errors.BusError):
            await bus.ask()
        bus.broker.alter_query = None
        bus.broker.sent.clear()
        bus.g01.heard.drops.clear()
        data = kept[0]
    size = bus.g01.log.size
    await bus.answerer.on_query(subject, reply, data)
    assert bus.g01.log.size == size
    return bus.g01.heard.drops


async def test_a_malformed_message_is_hinted_to_the_member_that_the_broker_let_publish(bus):
    assert await drop(bus, b"\xc1") == ["envelope-malformed"]
    assert bus.broker.sent == [("_I.GOV~H37~n1.a.b", _hint((0, "envelope-malformed")))]


@pytest.mark.parametrize("reply", ["", "_I.GOV~G02~n1.a", "$JS.API.STREAM.PURGE.CMD", "_I.GOV~H371~n1.a"])
async def test_nobody_is_hinted_for_a_stranger(bus, reply):
    assert await drop(bus, b"\xc1", reply=reply) == ["envelope-malformed"]
    assert bus.broker.sent == []


@pytest.mark.parametrize(
    "reply", ["", "_I.GOV~H37~n2.a", "_I.GOV~H37~n1.>", "_I.GOV~H37~n1.", "$JS.ACK.x", "_I.GOV~H37~n1." + "a" * 81]
)
async def test_a_reply_subject_outside_the_senders_inbox_is_dropped(bus, reply):
    assert await drop(bus, reply=reply) == ["reply-subject-foreign"]


async def test_a_query_published_under_another_members_name_is_dropped(bus):
    assert await drop(bus, subject="lt.q.GOV~G01.GOV~G02") == ["subject-mismatch"]


async def test_a_query_is_taken_once(bus):
    kept = []
    bus.broker.alter_query = lambda payload: kept.append(payload) or payload
    await bus.ask()
    assert await drop(bus, kept[0]) == ["replayed"]


async def test_a_query_without_an_end_is_dropped(bus):
    sealed = bus.h37.composer.sealed
    bus.h37.composer.sealed = lambda *args, **kwargs: sealed(*args, **{**kwargs, "expires_at": None})
    assert await drop(bus) == ["expires-missing"]


async def test_a_query_of_a_node_without_an_answer_key_is_dropped(bus):
    bus.directory.sealing.pop(1)
    assert await drop(bus) == ["answer-key-missing"]


async def test_a_stale_directory_drops_queries(bus):
    bus.stale.append(errors.DirectoryStale())
    assert await drop(bus, b"x") == ["directory-stale"]


async def test_hints_are_limited(tmp_path):
    async with running_bus(tmp_path, hints_per_s=2) as bus:
        for _ in range(5):
            await drop(bus, b"x")
        assert len(bus.broker.sent) == 2
        bus.clock.pass_time(0.5)
        await drop(bus, b"x")
        assert len(bus.broker.sent) == 3


async def test_a_hint_that_cannot_be_sent_is_forgotten(bus):
    bus.broker.error_at_send = errors.BrokerUnavailable()
    assert await drop(bus, b"x") == ["envelope-malformed"]


async def test_an_answer_that_cannot_be_sent_stays_logged(bus):
    bus.broker.error_at_send = errors.BrokerUnavailable()
    await refused(bus, errors.Timeout)
    assert bus.g01.types() == ["query", "answer"]
    assert only_closing(bus) == "timedout"


def test_a_bucket_never_holds_more_than_one_second():
    now_s = [0.0]
    bucket = HintBucket(2, lambda: now_s[0])
    now_s[0] = 100.0
    assert [bucket.take() for _ in range(3)] == [True, True, False]


def test_a_decision_becomes_the_refusal_that_it_calls_for():
    codes = ("service-unknown", "service-disabled", "client-suspended")
    found = [type(denied(Decision(allowed=False, code=code, reason="why"))) for code in codes]
    assert found == [errors.ServiceUnknown, errors.ServiceDisabled, errors.AccessDenied]


# --- logs that cannot be written ------------------------------------------------------------------------------------


async def read_open(bus: Bus):
    from bus.exchange.recovery import left_behind

    return left_behind(bus.h37.path, int(bus.clock.now().timestamp())).open_requests


async def close_orphans(bus: Bus) -> None:
    await bus.settle()
    await bus.asker.close_orphans(lambda: read_open(bus))


@pytest.mark.parametrize("how", ["fails", "reported"])
async def test_nothing_is_sent_when_the_request_cannot_be_logged(bus, how):
    bus.h37.faults.arm(how)
    error = await refused(bus, errors.LogUnwritable)
    assert (error.acted, error.record_id) == ("no", "")
    assert bus.broker.asked == []
    await close_orphans(bus)
    # what was stored although it was reported as failed is closed, exactly once
    assert list(bus.h37.closings().values()) == ([["unknown"]] if how == "reported" else [])
    assert (await bus.ask()).status == 200


@pytest.mark.parametrize(("how", "closing"), [("fails", "unknown"), ("reported", "ok")])
async def test_an_answer_that_cannot_be_logged_is_not_delivered(bus, how, closing):
    bus.h37.faults.arm("ok", how)
    error = await refused(bus, errors.LogUnwritable)
    assert error.acted == "unknown"
    await close_orphans(bus)
    await close_orphans(bus)
    assert only_closing(bus) == closing


@pytest.mark.parametrize(("how", "closing"), [("fails", "unknown"), ("reported", "timedout")])
async def test_an_outcome_that_cannot_be_logged_is_made_up_for(bus, how, closing):
    bus.broker.error = errors.Timeout()
    bus.h37.faults.arm("ok", how)
    await refused(bus, errors.Timeout)
    await close_orphans(bus)
    assert only_closing(bus) == closing


async def test_orphans_wait_for_the_next_round_when_the_log_fails_again(bus):
    bus.broker.error = errors.Timeout()
    bus.h37.faults.arm("ok", "fails")
    await refused(bus, errors.Timeout)
    await bus.settle()
    bus.h37.faults.arm("fails")
    await bus.asker.close_orphans(lambda: read_open(bus))
    assert list(bus.h37.closings().values()) == [[]]
    await close_orphans(bus)
    assert only_closing(bus) == "unknown"


async def test_a_call_under_way_is_no_orphan(bus):
    bus.source.release = asyncio.Event()
    asking = asyncio.ensure_future(bus.ask())
    await bus.source.started.wait()
    await close_orphans(bus)
    bus.source.release.set()
    await asking
    assert only_closing(bus) == "ok"


async def test_many_orphans_are_closed_in_parts(bus):
    await bus.ask()
    _, hashed, head = bus.h37.records()[0]
    await bus.asker.close_open([(10_000 + at, head, hashed) for at in range(300)])
    assert bus.h37.types().count("outcome") == 300


@pytest.mark.parametrize("how", ["fails", "reported"])
async def test_nothing_is_answered_when_the_received_query_cannot_be_logged(bus, how):
    bus.g01.faults.arm(how)
    await refused(bus, errors.ProviderDropped)
    assert bus.g01.heard.drops == ["log-unwritable"]
    assert bus.h37.heard.hints == ["log-unwritable"]
    assert only_closing(bus) == "rejected"


@pytest.mark.parametrize("how", ["fails", "reported"])
async def test_a_call_that_changes_something_is_not_made_before_it_is_logged(bus, how):
    bus.g01.faults.arm(how)
    await refused(bus, errors.ProviderDropped, **posted())
    assert bus.source.requests == []


@pytest.mark.parametrize("how", ["fails", "reported"])
async def test_an_answer_is_not_sent_before_it_is_logged(bus, how):
    bus.g01.faults.arm("ok", how)
    await refused(bus, errors.ProviderDropped, service=PLAIN_SERVICE, **posted())
    assert bus.g01.types() == (["query", "answer"] if how == "reported" else ["query"])
    # the same message again is still a replay: the commit's outcome may be unknown
    await bus.settle()
    await bus.answerer.on_query("lt.q.GOV~G01.GOV~H37", "_I.GOV~H37~n1.a.b", bus.broker.asked[0][1])
    assert bus.g01.heard.drops == ["log-unwritable", "replayed"]


@pytest.mark.parametrize("how", ["fails", "reported"])
async def test_a_read_and_its_answer_may_share_a_commit_and_its_failure(bus, how):
    bus.g01.faults.arm(how)
    await refused(bus, errors.ProviderDropped)
    assert bus.g01.types() in ([["query", "answer"], ["query"]] if how == "reported" else [[]])


@pytest.mark.parametrize("how", ["fails", "reported"])
async def test_a_slow_answer_is_not_sent_when_its_query_could_not_be_logged(bus, how):
    bus.source.release = asyncio.Event()
    bus.g01.faults.arm(how)
    asking = asyncio.ensure_future(refused(bus, errors.ProviderDropped))
    await bus.source.started.wait()
    await bus.settle()
    bus.source.release.set()
    await asking


@pytest.mark.parametrize("how", ["fails", "reported"])
async def test_a_refusal_is_not_sent_before_it_is_logged(bus, how):
    bus.directory.access.clear()
    bus.g01.faults.arm(how)
    await refused(bus, errors.ProviderDropped)
    assert bus.g01.types() == (["query", "refusal"] if how == "reported" else [])


async def test_a_query_is_dropped_while_the_log_cannot_be_written(bus):
    bus.g01.faults.arm("fails", "fails", "fails")
    await refused(bus, errors.ProviderDropped)
    await refused(bus, errors.ProviderDropped)
    assert bus.g01.heard.drops == ["log-unwritable", "log-unwritable"]
    await bus.settle()


async def test_a_day_key_that_cannot_be_kept_stops_the_exchange(bus, tmp_path):
    (tmp_path / "G01-days" / "2026-11-23.key").mkdir()
    await refused(bus, errors.ProviderDropped)
    (tmp_path / "H37-days" / "2026-11-24.key").mkdir()
    bus.clock.pass_time(86_400)
    await refused(bus, errors.LogUnwritable)
    assert bus.h37.types() == ["query", "outcome"]


async def test_expired_ids_are_forgotten_in_the_store_too(bus):
    await bus.ask()
    bus.clock.pass_time(600)
    await bus.ask()
    assert len(bus.g01.rows("SELECT id FROM seen")) == 1
    assert bus.g01.types() == ["query", "answer"] * 2


async def test_two_kinds_of_node_share_a_composer_only_with_themselves(bus):
    # a record composed under another node's name is dropped as that node's proof is missing
    clock = bus.clock
    sealer = Sealer("0f" * 32, "x", clock.random, clock.monotonic)
    bus.asker._composer = Composer("0f" * 32, f"{G01}/@n1", clock, sealer, lambda: bus.directory.view)
    await refused(bus, errors.ProviderDropped)
    assert bus.g01.heard.drops == ["proof-of-another-node"]


async def test_a_composer_keeps_few_keys(bus):
    composer = bus.h37.composer
    composer._keys.update({str(at): None for at in range(4097)})
    await bus.ask()
    assert len(composer._keys) == 1


async def test_a_subsystem_of_another_member_cannot_be_spoken_for(bus):
    other = f"{G01}/population"
    bus.directory.subsystems[other] = SubsystemEntry(id=other, member=G01, names={})
    await refused(bus, errors.ProviderDropped, client=other)
    assert bus.g01.heard.drops == ["source-not-of-node"]


def test_the_sample_call_is_what_the_tests_say():
    assert call().client == CLIENT
    assert changed(access_entry(), author="x").author == "x"
