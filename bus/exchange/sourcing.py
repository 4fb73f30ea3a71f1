"""Steps 9 (the call) and 10 of the answering side: a source is asked, its answer checked and cut to what is granted.

It logs nothing and sends nothing. Whatever a source does, it ends in an answer or in a failure that can be sealed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import msgspec
import structlog

from adapters.errors import AdapterError, BackendTimeout, BreakerOpen, OperationNotMapped
from adapters.port import AdapterAnswer, AdapterRequest, Source
from bus import errors
from bus.deadlines import Deadlines
from bus.exchange.examining import Examined
from bus.exchange.problems import CONTENT_TYPE, seal_problem
from bus.exchange.verification import VerifiedRecord
from bus.ports import Clock, ExchangeObserver
from bus.sealing.contents import Particulars
from evidence.header import AnswerClass
from registry.contract import AnswerInvalid

_log = structlog.get_logger("lienthong.answering")
_UNDECLARED_BYTES = 64 * 1024
_PASSING = frozenset({429, 502, 503, 504})

Fate = Literal["final", "passing", "ours"]


class Attempt(msgspec.Struct, frozen=True, gc=False):
    """What asking a source once gave.

    Attributes:
        class_: of the record that says it, as the next two: particulars and body of the answer or of the failure.
        fate: `final`, or `passing` (the same call may succeed later), or `ours` (it never will, by no fault of the
            caller's).
        code: why it is not final: of the failure, or `backend-status-NNN`.
        detail: the same for a person.
        retry_after_s: what the source asked to wait.
    """

    class_: AnswerClass
    particulars: Particulars
    body: bytes
    fate: Fate = "final"
    code: str = ""
    detail: str = ""
    retry_after_s: float = 0.0


class Sourcing:
    """Asks the sources of one node.

    Args:
        clock: for deadlines.
        observer: hears of failures by code.
        sources: the open ones, by service id.
    """

    def __init__(self, clock: Clock, observer: ExchangeObserver, sources: Callable[[], Mapping[str, Source]]) -> None:
        self._clock = clock
        self._observer = observer
        self._sources = sources
        self._deadlines = Deadlines()

    async def ask(self, record: VerifiedRecord, examined: Examined) -> tuple[AnswerClass, Particulars, bytes]:
        """Steps 9 (the call) and 10: class, particulars and body of the answer, or of the failure."""
        expires_at = record.expires_at or self._clock.now()
        left_s = min((expires_at - self._clock.now()).total_seconds(), examined.service.limits.deadline_s)
        got = await self.attempt(record, examined, left_s)
        return got.class_, got.particulars, got.body

    async def attempt(self, record: VerifiedRecord, examined: Examined, left_s: float) -> Attempt:
        """The same within `left_s` seconds, with what it means for who may ask again."""
        failure: errors.BusError
        answer: AdapterAnswer | None = None
        fate: Fate
        try:
            answer = await self._call(record, examined, left_s)
            body, declared = self._checked(examined, answer)  # 10
        except errors.BusError as error:
            failure, fate = error, _fate(error)
        except Exception as error:  # the boundary to foreign sources: a defect there is an answer too
            failure, fate = defect("asking the source", examined.service.id, error), "ours"
        else:
            class_, particulars, body = self._source_answer(answer, body, declared)
            return Attempt(class_, particulars, body, *_of_status(answer))
        self._observer.refused("provider", failure.code)
        told = fate, failure.code, failure.detail, float(failure.retry_after_s or 0)
        if answer is not None and answer.status in _PASSING:
            told = _of_status(answer)
        return Attempt("failed", problem_particulars(failure), seal_problem(failure), *told)

    @staticmethod
    def _source_answer(answer: AdapterAnswer, body: bytes, declared: bool) -> tuple[AnswerClass, Particulars, bytes]:
        class_: AnswerClass = "failed" if answer.status >= 500 else "ok"
        made = Particulars(
            status=answer.status,
            content_type=answer.content_type if declared else CONTENT_TYPE,
            # an HTTP client's names may be a subtype of str, which does not travel
            headers=tuple((f"{name}", f"{value}") for name, value in answer.headers),
            body_bytes=len(body),
        )
        return class_, made, body

    async def _call(self, record: VerifiedRecord, examined: Examined, left_s: float) -> AdapterAnswer:
        service = examined.service
        source = self._sources().get(service.id)
        if source is None:
            raise errors.BackendUnavailable(f"{service.id} has no back end in this gateway's settings", acted="no")
        if left_s <= 0:
            raise errors.BackendTimeout("no time was left for the back end", acted="no")
        try:
            async with self._deadlines.within(left_s):
                return await source.call(adapter_request(record, examined, left_s))
        except TimeoutError as error:
            raise errors.BackendTimeout from error
        except AdapterError as error:
            raise backend_error(error) from error

    def _checked(self, examined: Examined, answer: AdapterAnswer) -> tuple[bytes, bool]:
        """Validates the answer and keeps only what the right grants; the body, and whether the status is declared."""
        compiled, operation = examined.compiled, examined.match.operation.id
        try:
            if len(answer.body) > examined.service.limits.max_answer_bytes:
                raise errors.AnswerInvalid("the back end's answer is over the service's limit")
            head = examined.match.head
            if answer.status >= 400 and not compiled.declares(operation, answer.status):
                return self._undeclared(examined, answer)
            return compiled.cut_answer(operation, answer.status, answer.content_type, answer.body, head=head), True
        except AnswerInvalid as error:
            made = errors.AnswerInvalid(f"the back end's answer breaks the contract ({error.code})")
            made.violations = [item._asdict() for item in error.violations[:20]]
            raise made from error

    @staticmethod
    def _undeclared(examined: Examined, answer: AdapterAnswer) -> tuple[bytes, bool]:
        if examined.service.fields:
            problem = {
                "code": "undeclared-answer",
                "detail": "the back end answered a status that the contract does not declare; its body is withheld",
            }
            return msgspec.json.encode(problem), False
        if len(answer.body) > _UNDECLARED_BYTES:
            raise errors.AnswerInvalid("the back end's undeclared answer is over 64 KiB")
        return answer.body, True


def adapter_request(record: VerifiedRecord, examined: Examined, left_s: float) -> AdapterRequest:
    """What the adapter sees: built only from a verified record."""
    told, head = examined.particulars, record.header
    return AdapterRequest(
        exchange_id=head.id,
        client=head.source,
        service=head.to,
        operation=examined.match.operation.id,
        method=told.method,
        path=told.path,
        query=told.query,
        headers=told.headers,
        content_type=told.content_type,
        body=examined.body,
        parameters=examined.parameters.values,
        json_body=examined.parameters.json_body,
        official=told.official,
        issue=told.issue,
        represented_party=told.represented_party,
        purpose=told.purpose,
        legal_basis=told.legal_basis,
        deadline_s=left_s,
    )


def backend_error(error: AdapterError) -> errors.BusError:
    """The bus error of an adapter's error."""
    made: errors.BusError
    if isinstance(error, BackendTimeout):
        made = errors.BackendTimeout(acted=error.acted)
    elif error.acted == "no" and error.disposition == "retry":
        made = errors.BackendUnavailable(f"the provider's back end cannot be reached ({error.code})", acted="no")
    else:
        made = errors.BackendFailed(f"the provider's back end failed ({error.code})", acted=error.acted)
    if isinstance(error, BreakerOpen):
        made.retry_after_s = max(1, int(error.retry_after_s + 0.999))
    return made


def _fate(error: errors.BusError) -> Fate:
    """What a failure means for who may ask again."""
    cause = error.__cause__
    if isinstance(cause, AdapterError):
        if cause.disposition == "retry":
            return "passing"
        return "ours" if cause.disposition == "halt" or isinstance(cause, OperationNotMapped) else "final"
    return "passing" if isinstance(error, (errors.BackendUnavailable, errors.BackendTimeout)) else "final"


def _of_status(answer: AdapterAnswer) -> tuple[Fate, str, str, float]:
    """Fate, code, detail and the wait that is asked for, of what a source answered."""
    if answer.status not in _PASSING:
        return "final", "", "", 0.0
    asked = next((value for name, value in answer.headers if name.lower() == "retry-after"), "")
    wait_s = float(asked) if asked.isascii() and asked.isdecimal() and len(asked) < 10 else 0.0
    return "passing", f"backend-status-{answer.status}", f"the provider's back end answered {answer.status}", wait_s


def defect(doing: str, service: str, error: Exception) -> errors.BusError:
    """Logs a defect and gives the failure that the caller sees; its own text could hold data and stays here."""
    _log.error("answering.failed", doing=doing, service=service, error=type(error).__name__, exc_info=error)
    return errors.InternalError("the provider's gateway failed; its operator finds the reason", acted="unknown")


def problem_particulars(error: errors.BusError) -> Particulars:
    """What goes beside a problem inside the seal."""
    return Particulars(status=error.status, content_type=CONTENT_TYPE, fault=error.code)
