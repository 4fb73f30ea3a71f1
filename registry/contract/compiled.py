"""A contract compiled for the exchange: route, validate a request, validate and cut an answer.

Everything that can be decided beforehand is: the calls here look up, decode and ask a compiled validator. It forwards
nothing and changes no request; what was decided on are the caller's own bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from registry.contract.bodies import AnswerBody, Body, choose
from registry.contract.errors import (
    AnswerInvalid,
    AnswerUndeclared,
    MediaTypeUnsupported,
    OperationUnknown,
    RequestInvalid,
    Violation,
)
from registry.contract.model import Answer, Contract, Operation
from registry.contract.query import split_query
from registry.contract.routing import Router
from registry.contract.values import ValueReader


class Match(msgspec.Struct, frozen=True, gc=False):
    """Where a call goes.

    Attributes:
        operation: The declared operation.
        raw: Path parameters as they stand in the path, still percent-encoded.
        head: The call is a HEAD, which follows GET.
    """

    operation: Operation
    raw: dict[str, str]
    head: bool


class Parameters(msgspec.Struct, frozen=True, gc=False):
    """What a valid request says.

    Attributes:
        values: Decoded path, query and header parameters by declared name; absent ones are absent.
        json_body: The decoded body when it is JSON, else None.
    """

    values: dict[str, object]
    json_body: object | None


class AnswerCheck(msgspec.Struct, frozen=True, gc=False):
    """What is known of a valid answer.

    Attributes:
        declared: The contract declares the status; if not, it is an error status that may pass uncut and unchecked.
        json: The decoded body when it is declared JSON, else None.
    """

    declared: bool
    json: object | None


_UNDECLARED = AnswerCheck(declared=False, json=None)
_BODILESS = AnswerCheck(declared=True, json=None)


class CompiledContract:
    """A contract ready for calls. Immutable from outside; caches are bounded.

    Attributes:
        contract: What was compiled, as granted.
        operations: By operationId.
    """

    def __init__(self, contract: Contract, compiled: Mapping[str, CompiledOperation]) -> None:
        self.contract = contract
        self.operations: Mapping[str, Operation] = contract.operations
        self._compiled = compiled
        self._router = Router(contract.operations.values())

    def withheld(self, operation_id: str) -> frozenset[str]:
        """Returns the field names that are withheld from this operation's answers."""
        return self.contract.withheld.get(operation_id, frozenset())

    def route(self, method: str, raw_path: str) -> Match:
        """Finds the operation for a raw path (after the service code; it begins with ``/`` or is empty).

        Raises:
            PathRefused: The path is not in a form that every server reads alike.
            OperationUnknown: No template matches.
            MethodNotAllowed: A template matches, the method does not.
        """
        operation, raw = self._router.route(method, raw_path)
        return Match(operation, raw, method == "HEAD")

    def declares(self, operation_id: str, status: int) -> bool:
        """Says whether the contract declares an answer of `status` (exactly, by range or by ``default``).

        Raises:
            OperationUnknown: No such operation.
        """
        compiled = self._compiled.get(operation_id)
        if compiled is None:
            raise OperationUnknown
        return compiled.answer(status) is not None

    def validate_request(
        self, match: Match, raw_query: str, headers: Sequence[tuple[str, str]], content_type: str, body: bytes
    ) -> Parameters:
        """Validates a request against its operation.

        Args:
            match: From :meth:`route`.
            raw_query: Without the ``?``.
            headers: As received; only declared ones are looked at.
            content_type: The value of ``Content-Type``, or empty.
            body: Decoded from any content coding.

        Raises:
            RequestInvalid: With what does not fit; never with values.
            MediaTypeUnsupported: There is a body of an undeclared media type.
        """
        compiled = self._compiled[match.operation.id]
        found: list[Violation] = []
        values = compiled.parameters(match.raw, raw_query, headers, found) if compiled.takes_values(raw_query) else {}
        json_body = compiled.request_body(content_type, body, found)
        if found:
            raise RequestInvalid(found)
        return Parameters(values, json_body)

    def validate_answer(
        self,
        operation_id: str,
        status: int,
        content_type: str,
        body: bytes,
        *,
        head: bool = False,
        headers: Sequence[tuple[str, str]] | None = None,
    ) -> AnswerCheck:
        """Validates an answer against the contract as granted.

        Args:
            operation_id: The operation that was called.
            status: The exact status.
            content_type: The value of ``Content-Type``, or empty.
            body: The whole body.
            head: The call was a HEAD: there is no body to validate.
            headers: Declared answer headers are validated too when given.

        Returns:
            Whether the status is declared; an undeclared 4xx or 5xx is not an error here.

        Raises:
            AnswerInvalid: It does not fit.
            AnswerUndeclared: The contract declares no such status, or no such media type where fields are withheld.
            OperationUnknown: No such operation.
        """
        answer = self._answer(operation_id, status)
        if answer is None:
            return _UNDECLARED
        found: list[Violation] = []
        if headers is not None and answer.headers:
            _read_headers(answer.headers, headers, {}, found)
        representation = answer.representation(content_type, body, found, head=head)
        if representation is None:
            value = None
        else:
            value, _ = representation.read(body, found)
        if found:
            raise AnswerInvalid(found)
        return AnswerCheck(declared=True, json=value) if value is not None else _BODILESS

    def cut_answer(
        self, operation_id: str, status: int, content_type: str, body: bytes, *, head: bool = False
    ) -> bytes:
        """Removes the fields that are not granted and validates the rest against the contract as granted.

        Returns:
            The same object when nothing had to be removed.

        Raises:
            AnswerInvalid: It does not fit.
            AnswerUndeclared: As :meth:`validate_answer`; also for an undeclared error status when fields are withheld
                from this operation: such a body cannot be cut, the caller replaces it.
            OperationUnknown: No such operation.
        """
        answer = self._answer(operation_id, status)
        if answer is None:
            if operation_id in self.contract.withheld and body:
                raise AnswerUndeclared([Violation("status", str(status), "undeclared", "fields are withheld")])
            return body
        found: list[Violation] = []
        representation = answer.representation(content_type, body, found, head=head)
        if representation is not None and not found:
            body = representation.cut(body, found)
        if found:
            raise AnswerInvalid(found)
        return body

    def _answer(self, operation_id: str, status: int) -> CompiledAnswer | None:
        compiled = self._compiled.get(operation_id)
        if compiled is None:
            raise OperationUnknown
        answer = compiled.answer(status)
        if answer is None and not 400 <= status <= 599:
            message = "the contract declares no such status"
            raise AnswerUndeclared([Violation("status", str(status), "undeclared", message)])
        return answer


class CompiledAnswer:
    """One declared answer compiled."""

    __slots__ = ("_by_content_type", "_only_json", "_representations", "headers")

    def __init__(self, answer: Answer, bodies: Sequence[AnswerBody], headers: tuple[ValueReader, ...]) -> None:
        self._representations = {body.media_type: body for body in bodies}
        self._by_content_type: dict[str, AnswerBody] = {}
        self._only_json = answer.only_json
        self.headers = headers

    def representation(
        self, content_type: str, body: bytes, found: list[Violation], *, head: bool
    ) -> AnswerBody | None:
        """Returns who judges the body, or None when there is nothing to judge."""
        cached = self._by_content_type.get(content_type)
        if cached is not None and body and not head:
            return cached
        if head or not body:
            if head and body:
                found.append(Violation("body", "", "undeclared", "an answer to HEAD has no body"))
            elif not head and self._representations:
                found.append(Violation("body", "", "required", "the declared body is missing"))
            return None
        chosen = choose(self._representations, content_type)
        if chosen is None and self._only_json:
            message = "fields are withheld from this operation, and only JSON can be cut"
            raise AnswerUndeclared([Violation("body", "", "media-type", message)])
        if chosen is None:
            rule = "media-type" if self._representations else "undeclared"
            found.append(Violation("body", "", rule, "the answer's media type is not declared for this status"))
        elif len(self._by_content_type) < 32:
            self._by_content_type[content_type] = chosen
        return chosen


class CompiledOperation:
    """One operation compiled."""

    def __init__(
        self,
        operation: Operation,
        readers: Sequence[ValueReader],
        bodies: Sequence[Body],
        answers: Mapping[str, CompiledAnswer],
    ) -> None:
        places = {parameter.name: parameter.location for parameter in operation.parameters}
        self._path = tuple(reader for reader in readers if places[reader.name] == "path")
        self._query = {reader.name: reader for reader in readers if places[reader.name] == "query"}
        self._query_required = tuple(reader.name for reader in self._query.values() if reader.required)
        self._header = tuple(reader for reader in readers if places[reader.name] == "header")
        self._additional_query = operation.additional_query
        self._bodies = {body.media_type: body for body in bodies}
        self._by_content_type: dict[str, Body] = {}
        self._body_required = operation.request_required
        self._no_values = not (self._path or self._header or self._query_required)
        self._answers = {int(status): answer for status, answer in answers.items() if status.isdigit()}
        self._ranges = {int(status[0]): answer for status, answer in answers.items() if status.endswith("XX")}
        self._default = answers.get("default")

    def answer(self, status: int) -> CompiledAnswer | None:
        """Returns the answer declared for `status`, for its range, or the default one."""
        found = self._answers.get(status) or self._ranges.get(status // 100)
        if found is None and 200 <= status <= 599:
            return self._default
        return found

    def takes_values(self, raw_query: str) -> bool:
        """Says whether there is any parameter to read."""
        return bool(raw_query) or not self._no_values

    def parameters(
        self, raw: dict[str, str], raw_query: str, headers: Sequence[tuple[str, str]], found: list[Violation]
    ) -> dict[str, object]:
        """Returns the decoded parameters; adds to `found` what is wrong with them."""
        values: dict[str, object] = {}
        for reader in self._path:
            values[reader.name] = reader.read([raw[reader.name]], found)
        if raw_query:
            self._read_query(raw_query, values, found)
        for name in self._query_required:
            if name not in values:
                found += [Violation("query", name, "required", "is required")]
        if self._header:
            _read_headers(self._header, headers, values, found)
        return values

    def _read_query(self, raw_query: str, values: dict[str, object], found: list[Violation]) -> None:
        for name, texts in split_query(raw_query, found).items():
            reader = self._query.get(name)
            if reader is not None:
                values[name] = reader.read(texts, found)
            elif not self._additional_query:
                found.append(Violation("query", "*", "undeclared", "a query parameter is not declared"))
                return

    def request_body(self, content_type: str, body: bytes, found: list[Violation]) -> object | None:
        """Returns the decoded JSON body or None; adds to `found` what is wrong with it."""
        if not body:
            if self._body_required:
                found.append(Violation("body", "", "required", "a body is required"))
            return None
        chosen = self._by_content_type.get(content_type)
        if chosen is None:
            if not self._bodies:
                found.append(Violation("body", "", "undeclared", "the operation takes no body"))
                return None
            chosen = choose(self._bodies, content_type)
            if chosen is None:
                raise MediaTypeUnsupported(tuple(self._bodies))
            if len(self._by_content_type) < 32:
                self._by_content_type[content_type] = chosen
        value, _ = chosen.read(body, found)
        return value


def _read_headers(
    readers: Sequence[ValueReader],
    headers: Sequence[tuple[str, str]],
    values: dict[str, object],
    found: list[Violation],
) -> None:
    texts: dict[str, list[str]] = {}
    for name, text in headers:
        texts.setdefault(name.lower(), []).append(text)
    for reader in readers:
        given = texts.get(reader.key)
        if given is not None:
            values[reader.name] = reader.read(given, found)
        elif reader.required:
            found.append(Violation("header", reader.name, "required", "is required"))
