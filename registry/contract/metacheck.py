"""The OpenAPI specification's own schema and semantics, by openapi-spec-validator.

It checks no budget: that comes before.

It is slow (tens of milliseconds and more), so it runs when a contract is published or tried, not at every start.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

from registry.contract import pointer
from registry.contract.errors import ContractRejected, Fault
from registry.contract.model import Json

_MOST = 20


def check_meta(document: dict[str, Json], *, legacy: bool) -> None:
    """Checks `document` against the specification.

    Preconditions: the document is within budget and every reference in it is local.

    Raises:
        ContractRejected: It does not conform; places and rules, at most 20.
    """
    # The library takes extensions of the Paths object for path items.
    paths = document.get("paths")
    items = paths.items() if isinstance(paths, dict) else ()
    document = {**document, "paths": {key: item for key, item in items if not key.startswith("x-")}}
    # Costs a tenth of a second to import, and most programs never publish a contract.
    from jsonschema_path import SchemaPath  # noqa: PLC0415
    from openapi_spec_validator import OpenAPIV30SpecValidator, OpenAPIV31SpecValidator  # noqa: PLC0415

    kind: Any = OpenAPIV30SpecValidator if legacy else OpenAPIV31SpecValidator
    try:
        errors = list(islice(kind(SchemaPath.from_dict(document)).iter_errors(), _MOST))
    except (ValueError, TypeError, KeyError, LookupError, AttributeError, RecursionError, OSError) as error:
        # The library assumes much of a document that its own schema has not passed yet.
        raise ContractRejected([Fault("", "openapi", f"not an OpenAPI document ({type(error).__name__})")]) from None
    if errors:
        raise ContractRejected([_fault(error) for error in errors])


def _fault(error: Any) -> Fault:
    at = pointer.render(getattr(error, "absolute_path", ()))
    rule = getattr(error, "validator", None) or type(error).__name__
    return Fault(at, "openapi", f"does not conform to the OpenAPI specification ({rule})")
