"""Paths, path items and operations of OpenAPI to :class:`Operation`. It routes nothing."""

from __future__ import annotations

import re
from typing import Final

from registry.contract import pointer
from registry.contract.body_objects import read_answers, read_request_body
from registry.contract.errors import ContractOverBudget, Fault
from registry.contract.model import Delivery, Json, Operation, Parameter
from registry.contract.parameter_objects import read_parameters
from registry.contract.reader import Reader
from registry.contract.templates import ambiguous, split_template

_ADDITIONAL: Final = "x-lienthong-additional-query"
_DELIVERY: Final = "x-lienthong-delivery"
_WAYS: Final[dict[Json, Delivery]] = {"query": "query", "command": "command", "both": "both"}
_METHODS: Final = ("get", "put", "post", "delete", "options", "patch")
_ITEM_KNOWN: Final = frozenset({"summary", "description", "servers", "parameters", *_METHODS})
_ITEM_UNSUPPORTED: Final = {
    "$ref": "references to path items are not supported",
    "trace": "TRACE is not supported",
    "head": "HEAD follows GET and is not declared",
}
_OPERATION_KNOWN: Final = frozenset(
    [
        "tags",
        "summary",
        "description",
        "externalDocs",
        "operationId",
        "parameters",
        "requestBody",
        "responses",
        "deprecated",
        "security",
        "servers",
    ]
)
_EXTENSIONS: Final = frozenset({_ADDITIONAL, _DELIVERY})
_OPERATION_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-]{0,127}")
_BODILESS: Final = frozenset({"get", "options"})


def read_paths(reader: Reader, value: Json) -> dict[str, Operation]:
    """Returns every operation of the document by its id."""
    at = "/paths"
    if not isinstance(value, dict) or not value:
        reader.faults.add(at, "shape", "a contract must declare paths")
        return {}
    found: dict[str, Operation] = {}
    for template, item in value.items():
        place = pointer.join(at, template)
        if template.startswith("x-"):
            continue
        for operation in _path_item(reader, template, item, place):
            if operation.id in found:
                message = "operationId must be unique"
                reader.faults.add(pointer.join(operation.pointer, "operationId"), "operation-id", message)
            found[operation.id] = operation
            if len(found) > reader.budget.operations:
                message = f"more than {reader.budget.operations} operations"
                raise ContractOverBudget([Fault(at, "over-budget-operations", message)])
    _refuse_ambiguous(reader, [key for key in value if not key.startswith("x-")])
    return found


def _path_item(reader: Reader, template: str, value: Json, at: str) -> list[Operation]:
    if split_template(template) is None:
        message = "a path is /-separated plain segments; a parameter fills a whole segment, once"
        reader.faults.add(at, "path-template", message)
        return []
    item = reader.members(value, at, _ITEM_KNOWN, unsupported=_ITEM_UNSUPPORTED)
    read_servers(reader, item.get("servers"), pointer.join(at, "servers"))
    shared = read_parameters(reader, item.get("parameters"), pointer.join(at, "parameters"))
    return [
        _operation(reader, method, template, item[method], pointer.join(at, method), shared)
        for method in _METHODS
        if method in item
    ]


def _operation(reader: Reader, method: str, template: str, value: Json, at: str, shared: list[Parameter]) -> Operation:
    unsupported = {"callbacks": "callbacks are not supported"}
    members = reader.members(value, at, _OPERATION_KNOWN, extensions=_EXTENSIONS, unsupported=unsupported)
    own = read_parameters(reader, members.get("parameters"), pointer.join(at, "parameters"))
    body_at = pointer.join(at, "requestBody")
    if method in _BODILESS and "requestBody" in members:
        reader.faults.add(body_at, "unsupported", f"{method.upper()} has no request body")
    read_servers(reader, members.get("servers"), pointer.join(at, "servers"))
    request, required = read_request_body(reader, members.get("requestBody"), body_at)
    identifier = reader.text(members, "operationId", at, required=True)
    if not _OPERATION_ID.fullmatch(identifier):
        message = "operationId is required: letters, digits, . _ - (at most 128)"
        reader.faults.add(pointer.join(at, "operationId"), "operation-id", message)
    return Operation(
        id=identifier or at,
        method=method.upper(),
        path_template=template,
        summary=reader.text(members, "summary", at),
        parameters=_effective(reader, template, shared, own, at),
        additional_query=reader.flag(members, _ADDITIONAL, at),
        request=request,
        request_required=required,
        answers=read_answers(reader, members.get("responses"), pointer.join(at, "responses")),
        pointer=at,
        deprecated=reader.flag(members, "deprecated", at),
        delivery=_delivery(reader, members, at),
    )


def _delivery(reader: Reader, members: dict[str, Json], at: str) -> Delivery:
    stated = reader.text(members, _DELIVERY, at)
    if _DELIVERY in members and stated not in _WAYS:
        reader.faults.add(pointer.join(at, _DELIVERY), "shape", "must be query, command or both")
    return _WAYS.get(stated, "")


def _effective(
    reader: Reader, template: str, shared: list[Parameter], own: list[Parameter], at: str
) -> tuple[Parameter, ...]:
    """The operation's parameters over the path's; a name occurs once, whatever the location, so values do too."""
    merged = {(parameter.location, parameter.name.lower()): parameter for parameter in shared}
    if len(merged) != len(shared):
        reader.faults.add(at, "parameter-duplicate", "a parameter of the path is declared twice")
    merged.update({(parameter.location, parameter.name.lower()): parameter for parameter in own})
    if len({(parameter.location, parameter.name.lower()) for parameter in own}) != len(own):
        reader.faults.add(at, "parameter-duplicate", "a parameter is declared twice, or differs in case only")
    names = [parameter.name.lower() for parameter in merged.values()]
    if len(set(names)) != len(names):
        reader.faults.add(at, "parameter-duplicate", "two parameters of different places have the same name")
    wanted = {name for literal, name in split_template(template) or () if literal is None}
    declared = {parameter.name for parameter in merged.values() if parameter.location == "path"}
    if wanted != declared:
        message = "the path's parameters and the declared path parameters are not the same"
        reader.faults.add(at, "path-parameters", message)
    return tuple(merged.values())


def _refuse_ambiguous(reader: Reader, templates: list[str]) -> None:
    by_length: dict[int, list[tuple[str, tuple[tuple[str | None, str], ...]]]] = {}
    for template in templates:
        segments = split_template(template)
        if segments is None:
            continue
        for earlier, other in by_length.setdefault(len(segments), []):
            if ambiguous(segments, other):
                message = f"a path could match this template and {earlier}"
                reader.faults.add(pointer.join("/paths", template), "path-ambiguous", message)
                break
        by_length[len(segments)].append((template, segments))


def read_servers(reader: Reader, value: Json, at: str) -> None:
    """Checks ``servers``, which only inform: the bus knows where a service is."""
    for i, server in enumerate(value if isinstance(value, list) else []):
        members = reader.members(
            server,
            pointer.join(at, i),
            frozenset({"url", "description", "name"}),
            unsupported={"variables": "server variables are not supported"},
        )
        reader.text(members, "url", pointer.join(at, i), required=True)
    if value is not None and not isinstance(value, list):
        reader.faults.add(at, "shape", "servers must be a list")
