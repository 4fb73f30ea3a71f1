"""What a parsed contract is: plain immutable data. It parses, compiles and validates nothing.

Every schema in it is a self-contained JSON Schema 2020-12 document: references point to its own ``$defs``, whose keys
are the JSON pointers of the original document, so that a place can always be named as its author knows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
Schema: TypeAlias = "dict[str, Json] | bool"
Scalar = Literal["string", "integer", "number", "boolean"]
Location = Literal["path", "query", "header"]
Kind = Literal["json", "xml", "opaque"]
Delivery = Literal["", "query", "command", "both"]
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods that change nothing (RFC 9110 section 9.2.1)."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One declared parameter.

    Attributes:
        name: As declared; compared case-insensitively for headers.
        scalar: Type of the value, or of each item when ``array``.
        explode: For query arrays: the key is repeated (true) or the items are comma-separated (false).
        allow_slash: A path parameter that may carry ``%2F``.
        schema: The full schema of the decoded value.
        plain: The schema says nothing beyond the type, so that decoding is validation enough.
        pointer: Where it was declared.
    """

    name: str
    location: Location
    required: bool
    scalar: Scalar
    array: bool
    explode: bool
    allow_slash: bool
    schema: Schema
    plain: bool
    pointer: str


@dataclass(frozen=True, slots=True)
class Representation:
    """One media type of a body.

    Attributes:
        media_type: Lower case, no parameters; ``type/*`` and ``*/*`` only for opaque ones.
        schema: For JSON; None means any JSON.
        xsd: For XML: the inline XSD text.
        xsd_root: For XML: the name the document element must have, ``{namespace}local``; None for any global element.
        max_bytes: Largest body.
    """

    media_type: str
    kind: Kind
    schema: Schema | None
    xsd: str | None
    xsd_root: str | None
    max_bytes: int
    pointer: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One declared answer.

    Attributes:
        status: ``200``, ``2XX`` or ``default``.
        only_json: Fields were withheld from this operation: no other representation may pass.
    """

    status: str
    representations: tuple[Representation, ...]
    headers: tuple[Parameter, ...]
    pointer: str
    only_json: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """One OpenAPI operation.

    Attributes:
        id: ``operationId``.
        method: Upper case.
        path_template: As in the contract, for example ``/citizens/{id}``.
        additional_query: Undeclared query parameters are let through (``x-lienthong-additional-query``).
        request: Representations of the request body; empty when there is none.
        request_required: The body must be there.
        deprecated: The contract says that callers should leave it.
        delivery: How it may be called (``x-lienthong-delivery``): as a query, as a command, both; empty: not stated.
    """

    id: str
    method: str
    path_template: str
    summary: str
    parameters: tuple[Parameter, ...]
    additional_query: bool
    request: tuple[Representation, ...]
    request_required: bool
    answers: tuple[Answer, ...]
    pointer: str
    deprecated: bool = False
    delivery: Delivery = ""

    def offers(self, way: Literal["query", "command"]) -> bool:
        """Whether it may be called that way. Not stated: as a query, and as a command unless its method is safe."""
        stated = self.delivery or ("query" if self.method in SAFE_METHODS else "both")
        return stated in (way, "both")


@dataclass(frozen=True, slots=True)
class Contract:
    """A contract that passed every check.

    Attributes:
        openapi: ``3.0`` or ``3.1``.
        operations: By ``operationId``, in document order.
        withheld: By ``operationId``: marked field names that :func:`derive_granted` removed.
    """

    openapi: str
    title: str
    version: str
    operations: Mapping[str, Operation]
    withheld: Mapping[str, frozenset[str]] = field(default_factory=dict)
