"""Small OpenAPI documents for the tests beside this file."""

from __future__ import annotations

import json
from typing import Any

from registry.contract import Contract, parse_contract

JSON = "application/json"


def operation(**members: Any) -> dict[str, Any]:
    return {"operationId": "read", "responses": {"200": {"description": "done"}}, **members}


def answering(schema: Any, **members: Any) -> dict[str, Any]:
    content = {JSON: {"schema": schema}}
    return operation(responses={"200": {"description": "done", "content": content}}, **members)


def asking(schema: Any, **members: Any) -> dict[str, Any]:
    body = {"required": True, "content": {JSON: {"schema": schema}}}
    return operation(requestBody=body, **members)


def document(paths: Any = None, schemas: Any = None, *, version: str = "3.1.0", **members: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "openapi": version,
        "info": {"title": "Sample", "version": "1"},
        "paths": {"/things": {"get": operation()}} if paths is None else paths,
        **members,
    }
    if schemas is not None:
        made["components"] = {"schemas": schemas, **made.get("components", {})}
    return made


def encoded(made: dict[str, Any]) -> bytes:
    return json.dumps(made).encode()


def parsed(paths: Any = None, schemas: Any = None, *, version: str = "3.1.0", **members: Any) -> Contract:
    return parse_contract(encoded(document(paths, schemas, version=version, **members)))


def answer_contract(schema: Any, schemas: Any = None, *, version: str = "3.1.0") -> Contract:
    return parsed({"/things": {"get": answering(schema)}}, schemas, version=version)


def request_contract(schema: Any, schemas: Any = None, *, version: str = "3.1.0") -> Contract:
    return parsed({"/things": {"post": asking(schema)}}, schemas, version=version)


def parameter_contract(*parameters: dict[str, Any], path: str = "/things", **members: Any) -> Contract:
    return parsed({path: {"get": operation(parameters=list(parameters), **members)}})
