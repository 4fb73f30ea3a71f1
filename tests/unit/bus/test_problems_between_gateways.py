import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus import errors
from bus.exchange.problems import refusal_from_body, seal_problem
from bus.exchange.validation import check_request, translated
from bus.sealing.contents import Particulars
from registry import contract as rules

TRAVELLING = [cls for cls in errors.catalogue().values() if cls.disposition != "halt"]
UNREADABLE = (b'{"code":"\xff","detail":""}', b'{"code":"timeout","detail":"","x":' + b"[" * 100_000)
HALTING = [cls for cls in errors.catalogue().values() if cls.disposition == "halt"]


def read(body: bytes) -> errors.BusError:
    return refusal_from_body(Particulars(), body, "the-id")


@pytest.mark.parametrize("cls", TRAVELLING, ids=lambda cls: cls.code)
def test_every_error_comes_back_as_itself(cls):
    sent = cls("why it happened")
    sent.rule, sent.reason_code = "VN/GOV/G01/a/b#h37", "purpose-not-granted"
    sent.violations = [{"where": "body", "pointer": "/id", "rule": "type", "message": "must be a string"}]
    got = read(seal_problem(sent))
    assert type(got) is cls
    for name in ("detail", "rule", "reason_code", "violations", "acted", "retry_after_s"):
        assert getattr(got, name) == getattr(sent, name)
    assert got.record_id == "the-id"


@pytest.mark.parametrize("cls", HALTING, ids=lambda cls: cls.code)
def test_a_peer_cannot_say_that_this_process_must_stop(cls):
    assert type(read(msgspec.json.encode({"code": cls.code, "detail": "x"}))) is errors.BackendFailed


def test_whether_the_call_took_effect_is_what_the_provider_says():
    error = errors.BackendFailed("x", acted="no")
    assert read(seal_problem(error)).acted == "no"
    told = {"code": "access-denied", "detail": "x", "acted": "maybe"}
    assert read(msgspec.json.encode(told)).acted == errors.AccessDenied.acted


def test_an_unknown_code_is_a_failed_back_end():
    got = read(b'{"code":"of-the-future","detail":"x","and":"more"}')
    assert (type(got), got.detail) == (errors.BackendFailed, "x")


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b'{"code":"timeout"}', b'{"code":1,"detail":""}', b"\xff", *UNREADABLE]
)
def test_a_body_that_is_no_problem_is_an_invalid_answer(body):
    assert type(read(body)) is errors.AnswerInvalid


@given(st.binary(max_size=60) | st.text(max_size=30).map(str.encode))
def test_any_body_is_some_error(body):
    assert isinstance(read(body), errors.BusError)


def test_codes_are_unique_and_every_class_is_complete():
    classes = [cls for cls in errors.catalogue().values() if cls.__module__.startswith("bus.errors.")]
    for cls in classes:
        assert cls.__doc__
        assert cls.title
        assert 400 <= cls.status <= 599
        assert cls.disposition in {"retry", "reject", "halt"}
    own = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.BusError)]
    named = [cls for cls in own if cls not in (errors.BusError, errors.root.Rejected, errors.root.Unavailable)]
    assert {cls.code for cls in named} <= set(errors.catalogue())
    assert len({cls.code for cls in named}) == len(named)


def test_settings_problems_are_told_with_file_and_line():
    error = errors.SettingsInvalid([(3, "node", "bad"), (0, "genesis", "missing")], "gateway.toml")
    assert str(error) == "gateway.toml:3: node: bad; gateway.toml:0: genesis: missing"


# --- the contract's errors ------------------------------------------------------------------------------------------

VIOLATIONS = [rules.Violation("body", f"/{at}", "type", "must be a string") for at in range(30)]


@pytest.mark.parametrize(
    ("error", "cls"),
    [
        (rules.RequestInvalid(VIOLATIONS), errors.RequestInvalid),
        (rules.PathRefused("dot-segment"), errors.PathRefused),
        (rules.MethodNotAllowed(("GET",)), errors.MethodNotAllowed),
        (rules.MediaTypeUnsupported(("application/json",)), errors.MediaTypeUnsupported),
        (rules.OperationUnknown(), errors.OperationUnknown),
        (rules.CallError("of the future"), errors.RequestInvalid),
    ],
)
def test_every_error_of_the_contract_has_its_own_here(error, cls):
    assert type(translated(error)) is cls


def test_violations_are_told_up_to_a_bound():
    assert len(translated(rules.RequestInvalid(VIOLATIONS)).violations) == 20
    assert translated(rules.MethodNotAllowed(("GET", "HEAD"))).allowed == ("GET", "HEAD")


class Refusing:
    def __init__(self, error):
        self.error = error

    def route(self, method, path):
        raise self.error


def test_an_error_of_the_contract_is_translated_where_it_enters():
    with pytest.raises(errors.OperationUnknown):
        check_request(Refusing(rules.OperationUnknown()), "GET", "/", "", (), "", b"")


def test_the_allowed_methods_travel_and_only_methods_do():
    sent = errors.MethodNotAllowed("not this one")
    sent.allowed = ("GET", "POST", "GET\r\nX-Evil: 1")
    got = read(seal_problem(sent))
    assert isinstance(got, errors.MethodNotAllowed)
    assert got.allowed == ("GET", "POST")
