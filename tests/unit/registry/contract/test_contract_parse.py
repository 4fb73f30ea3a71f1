from __future__ import annotations

import copy
from typing import Any

import pytest
from contract_documents import JSON, answering, asking, document, encoded, operation, parsed

from registry.contract import ContractOverBudget, ContractRejected, parse_contract
from registry.contract.budget import Budget

ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}


def with_parameter(**members: Any) -> dict[str, Any]:
    parameter = {"name": "q", "in": "query", "schema": {"type": "string"}, **members}
    return document({"/things": {"get": operation(parameters=[parameter])}})


def with_content(content: Any) -> dict[str, Any]:
    return document({"/things": {"get": operation(responses={"200": {"description": "", "content": content}})}})


def with_schema(schema: Any, version: str = "3.1.0") -> dict[str, Any]:
    return document({"/things": {"get": answering(schema)}}, version=version)


P = "/paths/~1things/get"
PARAMETER = P + "/parameters/0"
RESPONSE = P + "/responses/200"
CONTENT = RESPONSE + "/content"
SCHEMA = CONTENT + "/application~1json/schema"

REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("another version", {**document(), "openapi": "2.0"}, "/openapi", "openapi-version"),
    ("version 3.2", {**document(), "openapi": "3.2.0"}, "/openapi", "openapi-version"),
    ("no version", {"info": {}}, "/openapi", "openapi-version"),
    ("no info", {"openapi": "3.1.0", "paths": {"/a": {}}}, "/info", "shape"),
    ("no title", document(info={"version": "1"}), "/info/title", "shape"),
    ("no paths", document({}), "/paths", "shape"),
    ("unknown root key", document(pahts={}), "/pahts", "unknown-key"),
    ("webhooks", document(webhooks={}), "/webhooks", "unsupported"),
    ("own dialect", document(jsonSchemaDialect="http://x.test/d"), "/jsonSchemaDialect", "dialect"),
    ("servers that are no list", document(servers={}), "/servers", "shape"),
    ("server variables", document(servers=[{"url": "/{v}", "variables": {}}]), "/servers/0/variables", "unsupported"),
    ("unknown component", document(components={"schemata": {}}), "/components/schemata", "unknown-key"),
    ("path without slash", document({"things": {}}), "/paths/things", "path-template"),
    ("dot segment", document({"/a/../b": {}}), "/paths/~1a~1..~1b", "path-template"),
    ("empty segment", document({"/a//b": {}}), "/paths/~1a~1~1b", "path-template"),
    ("half a segment", document({"/a{id}": {}}), "/paths/~1a{id}", "path-template"),
    ("percent in a template", document({"/a%20b": {}}), "/paths/~1a%20b", "path-template"),
    ("parameter twice in a template", document({"/{a}/{a}": {}}), "/paths/~1{a}~1{a}", "path-template"),
    ("path item that is no object", document({"/a": []}), "/paths/~1a", "shape"),
    ("path item by reference", document({"/a": {"$ref": "#/paths/~1b"}}), "/paths/~1a/$ref", "unsupported"),
    ("trace", document({"/a": {"trace": operation()}}), "/paths/~1a/trace", "unsupported"),
    ("head", document({"/a": {"head": operation()}}), "/paths/~1a/head", "unsupported"),
    ("no operationId", document({"/things": {"get": {"responses": {}}}}), P + "/operationId", "operation-id"),
    (
        "odd operationId",
        document({"/things": {"get": operation(operationId="a b")}}),
        P + "/operationId",
        "operation-id",
    ),
    (
        "operationId twice",
        document({"/things": {"get": operation(), "put": operation()}}),
        "/paths/~1things/put/operationId",
        "operation-id",
    ),
    ("callbacks", document({"/things": {"get": operation(callbacks={})}}), P + "/callbacks", "unsupported"),
    (
        "unknown extension of ours",
        document({"/things": {"get": operation(**{"x-lienthong-cache": 1})}}),
        P + "/x-lienthong-cache",
        "unknown-extension",
    ),
    ("no responses", document({"/things": {"get": {"operationId": "a"}}}), P + "/responses", "shape"),
    ("odd status", document({"/things": {"get": operation(responses={"20": {}})}}), P + "/responses/20", "status"),
    ("1xx", document({"/things": {"get": operation(responses={"100": {}})}}), P + "/responses/100", "status"),
    (
        "links",
        document({"/things": {"get": operation(responses={"200": {"description": "", "links": {}}})}}),
        RESPONSE + "/links",
        "unsupported",
    ),
    ("body of a GET", document({"/things": {"get": asking({})}}), P + "/requestBody", "unsupported"),
    (
        "body without content",
        document({"/things": {"post": operation(requestBody={"description": "x"})}}),
        "/paths/~1things/post/requestBody/content",
        "shape",
    ),
    ("content that is no object", with_content([]), CONTENT, "shape"),
    ("malformed media type", with_content({"json": {}}), CONTENT + "/json", "media-type"),
    (
        "media type parameters",
        with_content({"application/json; v=2": {}}),
        CONTENT + "/application~1json; v=2",
        "media-type",
    ),
    ("odd range", with_content({"*/json": {}}), CONTENT + "/*~1json", "media-type"),
    ("media type twice", with_content({JSON: {}, "Application/JSON": {}}), CONTENT + "/Application~1JSON", "duplicate"),
    (
        "encoding",
        with_content({"multipart/form-data": {"encoding": {}}}),
        CONTENT + "/multipart~1form-data/encoding",
        "unsupported",
    ),
    (
        "form with a schema",
        with_content({"multipart/form-data": {"schema": {"type": "object"}}}),
        CONTENT + "/multipart~1form-data/schema",
        "media-type-schema",
    ),
    (
        "schema for any file",
        with_content({"text/csv": {"schema": True}}),
        CONTENT + "/text~1csv/schema",
        "media-type-schema",
    ),
    ("XML without XSD", with_content({"application/xml": {}}), CONTENT + "/application~1xml", "media-type-schema"),
    (
        "XML by JSON schema",
        with_content({"text/xml": {"schema": {}}}),
        CONTENT + "/text~1xml/schema",
        "media-type-schema",
    ),
    (
        "XSD for JSON",
        with_content({JSON: {"x-lienthong-xsd": "<a/>"}}),
        CONTENT + "/application~1json/x-lienthong-xsd",
        "unsupported",
    ),
    (
        "odd size",
        with_content({"text/csv": {"x-lienthong-max-bytes": 0}}),
        CONTENT + "/text~1csv/x-lienthong-max-bytes",
        "shape",
    ),
    (
        "odd root name",
        with_content({"text/xml": {"x-lienthong-xsd": "<a/>", "x-lienthong-xsd-root": "a b"}}),
        CONTENT + "/text~1xml/x-lienthong-xsd-root",
        "shape",
    ),
    (
        "headers that are no object",
        document({"/things": {"get": operation(responses={"200": {"headers": []}})}}),
        RESPONSE + "/headers",
        "shape",
    ),
    (
        "parameters that are no list",
        document({"/things": {"get": operation(parameters={})}}),
        P + "/parameters",
        "shape",
    ),
    (
        "header without a schema",
        document({"/things": {"get": operation(responses={"200": {"headers": {"X-A": {}}}})}}),
        RESPONSE + "/headers/X-A",
        "parameter-untyped",
    ),
    (
        "headers that differ in case",
        document(
            {
                "/things": {
                    "get": operation(
                        responses={
                            "200": {
                                "headers": {
                                    "X-A": {"schema": {"type": "string"}},
                                    "x-a": {"schema": {"type": "string"}},
                                }
                            }
                        }
                    )
                }
            }
        ),
        RESPONSE + "/headers",
        "duplicate",
    ),
    (
        "parameter schema that is itself",
        document(
            {
                "/things": {
                    "get": operation(
                        parameters=[{"name": "q", "in": "query", "schema": {"$ref": "#/components/schemas/A"}}]
                    )
                }
            },
            {"A": {"$ref": "#/components/schemas/A"}},
        ),
        PARAMETER + "/schema",
        "parameter-untyped",
    ),
    ("cookie", with_parameter(**{"in": "cookie"}), PARAMETER + "/in", "unsupported"),
    ("nowhere", with_parameter(**{"in": "body"}), PARAMETER + "/in", "unsupported"),
    ("parameter by content", with_parameter(content={}), PARAMETER + "/content", "unsupported"),
    ("deepObject", with_parameter(style="deepObject"), PARAMETER + "/style", "unsupported"),
    ("pipeDelimited", with_parameter(style="pipeDelimited"), PARAMETER + "/style", "unsupported"),
    ("allowReserved", with_parameter(allowReserved=True), PARAMETER + "/allowReserved", "unsupported"),
    ("allowEmptyValue", with_parameter(allowEmptyValue=True), PARAMETER + "/allowEmptyValue", "unsupported"),
    (
        "no schema",
        document({"/things": {"get": operation(parameters=[{"name": "q", "in": "query"}])}}),
        PARAMETER,
        "parameter-untyped",
    ),
    ("object parameter", with_parameter(schema={"type": "object"}), PARAMETER + "/schema", "parameter-untyped"),
    (
        "nullable parameter",
        with_parameter(schema={"type": ["string", "null"]}),
        PARAMETER + "/schema",
        "parameter-untyped",
    ),
    ("array of what", with_parameter(schema={"type": "array"}), PARAMETER + "/schema", "parameter-untyped"),
    (
        "array of arrays",
        with_parameter(schema={"type": "array", "items": {"type": "array"}}),
        PARAMETER + "/schema",
        "parameter-untyped",
    ),
    ("any parameter", with_parameter(schema=True), PARAMETER + "/schema", "parameter-untyped"),
    (
        "slash in a query",
        with_parameter(**{"x-lienthong-allow-slash": True}),
        PARAMETER + "/x-lienthong-allow-slash",
        "unsupported",
    ),
    ("required that is no flag", with_parameter(required="yes"), PARAMETER + "/required", "shape"),
    ("name that is no text", with_parameter(name=1), PARAMETER + "/name", "shape"),
    (
        "Authorization",
        with_parameter(**{"in": "header", "name": "Authorization"}),
        PARAMETER + "/name",
        "header-reserved",
    ),
    ("X-Road header", with_parameter(**{"in": "header", "name": "X-Road-Id"}), PARAMETER + "/name", "header-reserved"),
    ("odd header name", with_parameter(**{"in": "header", "name": "a b"}), PARAMETER + "/name", "shape"),
    ("undeclared path parameter", document({"/{id}": {"get": operation()}}), "/paths/~1{id}/get", "path-parameters"),
    (
        "optional path parameter",
        document({"/{id}": {"get": operation(parameters=[{**ID, "required": False}])}}),
        "/paths/~1{id}/get/parameters/0/required",
        "shape",
    ),
    (
        "parameter twice",
        document(
            {"/things": {"get": operation(parameters=[{"name": "q", "in": "query", "schema": {"type": "string"}}] * 2)}}
        ),
        P,
        "parameter-duplicate",
    ),
    (
        "same name in two places",
        document({"/{id}": {"get": operation(parameters=[ID, {**ID, "in": "query"}])}}),
        "/paths/~1{id}/get",
        "parameter-duplicate",
    ),
    (
        "path's parameter twice",
        document({"/{id}": {"parameters": [ID, ID], "get": operation()}}),
        "/paths/~1{id}/get",
        "parameter-duplicate",
    ),
    (
        "ambiguous templates",
        document(
            {
                "/{a}/b": {"get": operation(parameters=[{**ID, "name": "a"}])},
                "/c/{d}": {"get": operation(operationId="x", parameters=[{**ID, "name": "d"}])},
            }
        ),
        "/paths/~1c~1{d}",
        "path-ambiguous",
    ),
    (
        "same template by another name",
        document(
            {
                "/{a}": {"get": operation(parameters=[{**ID, "name": "a"}])},
                "/{b}": {"put": operation(operationId="x", parameters=[{**ID, "name": "b"}])},
            }
        ),
        "/paths/~1{b}",
        "path-ambiguous",
    ),
    ("remote schema", with_schema({"$ref": "https://x.test/a.json"}), SCHEMA + "/$ref", "remote-reference"),
    ("schema in a file", with_schema({"$ref": "a.yaml#/A"}), SCHEMA + "/$ref", "remote-reference"),
    (
        "remote reference that nothing reaches",
        document(components={"schemas": {"A": {"$ref": "//x.test"}}}),
        "/components/schemas/A/$ref",
        "remote-reference",
    ),
    ("missing schema", with_schema({"$ref": "#/components/schemas/A"}), SCHEMA + "/$ref", "reference"),
    (
        "missing response",
        document({"/things": {"get": operation(responses={"200": {"$ref": "#/components/responses/A"}})}}),
        RESPONSE + "/$ref",
        "reference",
    ),
    (
        "remote response",
        document({"/things": {"get": operation(responses={"200": {"$ref": "r.json"}})}}),
        RESPONSE + "/$ref",
        "remote-reference",
    ),
    (
        "sibling of a reference",
        document(
            {"/things": {"get": operation(responses={"200": {"$ref": "#/components/responses/A", "content": {}}})}},
            components={"responses": {"A": {"description": ""}}},
        ),
        RESPONSE,
        "reference-sibling",
    ),
    (
        "responses without end",
        document(
            {"/things": {"get": operation(responses={"200": {"$ref": "#/components/responses/A"}})}},
            components={"responses": {"A": {"$ref": "#/components/responses/A"}}},
        ),
        "/components/responses/A",
        "reference-loop",
    ),
    ("unknown keyword", with_schema({"tpye": "string"}), SCHEMA + "/tpye", "unknown-keyword"),
    ("discriminator", with_schema({"discriminator": {}}), SCHEMA + "/discriminator", "unsupported-keyword"),
    ("$id", with_schema({"$id": "a"}), SCHEMA + "/$id", "unsupported-keyword"),
    ("$dynamicRef", with_schema({"$dynamicRef": "#a"}), SCHEMA + "/$dynamicRef", "unsupported-keyword"),
    ("contentMediaType", with_schema({"contentMediaType": JSON}), SCHEMA + "/contentMediaType", "unsupported-keyword"),
    ("contentEncoding", with_schema({"contentEncoding": "base32"}), SCHEMA + "/contentEncoding", "unsupported-keyword"),
    ("dialect of one schema", with_schema({"$schema": "http://x.test"}), SCHEMA + "/$schema", "dialect"),
    ("nullable in 3.1", with_schema({"nullable": True}), SCHEMA + "/nullable", "unknown-keyword"),
    ("definitions", with_schema({"definitions": {}}), SCHEMA + "/definitions", "unknown-keyword"),
    ("binary in JSON", with_schema({"format": "binary"}), SCHEMA + "/format", "format"),
    ("format that is no text", with_schema({"format": 1}), SCHEMA + "/format", "shape"),
    ("lookahead", with_schema({"pattern": "(?=a)"}), SCHEMA + "/pattern", "pattern"),
    ("wrong form", with_schema({"maxLength": "3"}), SCHEMA + "/maxLength", "shape"),
    ("readOnly that is no flag", with_schema({"readOnly": 1}), SCHEMA + "/readOnly", "shape"),
    ("properties that are no object", with_schema({"properties": 1}), SCHEMA + "/properties", "shape"),
    ("allOf that is no list", with_schema({"allOf": {}}), SCHEMA + "/allOf", "shape"),
    ("schema that is no object", with_schema({"items": 3}), SCHEMA + "/items", "shape"),
    (
        "extension of ours in a schema",
        with_schema({"x-lienthong-xsd": ""}),
        SCHEMA + "/x-lienthong-xsd",
        "unknown-extension",
    ),
    ("boolean schema in 3.0", with_schema({"items": True}, "3.0.3"), SCHEMA + "/items", "shape"),
    ("const in 3.0", with_schema({"const": 1}, "3.0.3"), SCHEMA + "/const", "unsupported-keyword"),
    ("types in 3.0", with_schema({"type": ["string"]}, "3.0.3"), SCHEMA + "/type", "shape"),
    ("null in 3.0", with_schema({"type": "null"}, "3.0.3"), SCHEMA + "/type", "shape"),
    ("number for a flag in 3.0", with_schema({"exclusiveMinimum": 3}, "3.0.3"), SCHEMA + "/exclusiveMinimum", "shape"),
    (
        "flag without a bound in 3.0",
        with_schema({"exclusiveMinimum": True}, "3.0.3"),
        SCHEMA + "/exclusiveMinimum",
        "shape",
    ),
    ("nullable without type", with_schema({"nullable": True}, "3.0.3"), SCHEMA + "/nullable", "nullable"),
    ("nullable that is no flag", with_schema({"nullable": 1}, "3.0.3"), SCHEMA + "/nullable", "shape"),
    ("array without items in 3.0", with_schema({"type": "array"}, "3.0.3"), SCHEMA, "shape"),
    (
        "sibling of a reference in 3.0",
        with_schema({"$ref": "#/info", "maxLength": 1}, "3.0.3"),
        SCHEMA + "/maxLength",
        "reference-sibling",
    ),
    (
        "extension of ours beside a reference in 3.0",
        with_schema({"$ref": "#/info", "x-lienthong-a": 1}, "3.0.3"),
        SCHEMA + "/x-lienthong-a",
        "unknown-extension",
    ),
    ("mark on a root", with_schema({"x-lienthong-field": "a"}), SCHEMA + "/x-lienthong-field", "field-mark-misplaced"),
    (
        "mark on items",
        with_schema({"items": {"x-lienthong-field": "a"}}),
        SCHEMA + "/items/x-lienthong-field",
        "field-mark-misplaced",
    ),
    (
        "mark in allOf",
        with_schema({"allOf": [{"x-lienthong-field": "a"}]}),
        SCHEMA + "/allOf/0/x-lienthong-field",
        "field-mark-misplaced",
    ),
    (
        "mark on a pattern",
        with_schema({"patternProperties": {"a": {"x-lienthong-field": "a"}}}),
        SCHEMA + "/patternProperties/a/x-lienthong-field",
        "field-mark-misplaced",
    ),
    (
        "mark without a name",
        with_schema({"properties": {"a": {"x-lienthong-field": ""}}}),
        SCHEMA + "/properties/a/x-lienthong-field",
        "field-mark",
    ),
    (
        "mark on a component",
        document(
            {"/things": {"get": answering({"$ref": "#/components/schemas/A"})}}, {"A": {"x-lienthong-field": "a"}}
        ),
        "/components/schemas/A/x-lienthong-field",
        "field-mark-misplaced",
    ),
    (
        "mark on the root of a request",
        document({"/things": {"post": asking({"x-lienthong-field": "a"})}}),
        "/paths/~1things/post/requestBody/content/application~1json/schema/x-lienthong-field",
        "field-mark-misplaced",
    ),
]


@pytest.mark.parametrize(("made", "place", "code"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_what_is_not_supported_is_refused_with_its_place(made: dict[str, Any], place: str, code: str) -> None:
    with pytest.raises(ContractRejected) as caught:
        parse_contract(encoded(made), meta=False)
    assert (place, code) in {(fault.pointer, fault.code) for fault in caught.value.errors}


def test_every_reason_is_reported_at_once() -> None:
    made = document(
        {"/things": {"get": operation(callbacks={}, parameters=[{"name": "q", "in": "cookie"}])}}, webhooks={}
    )
    with pytest.raises(ContractRejected) as caught:
        parse_contract(encoded(made))
    assert len(caught.value.errors) == 3


def test_a_document_full_of_faults_stops_early() -> None:
    made = with_schema({f"k{i}": 1 for i in range(1_000)})
    with pytest.raises(ContractRejected) as caught:
        parse_contract(encoded(made), Budget(faults=10))
    assert len(caught.value.errors) == 10


def test_a_rich_contract_is_accepted() -> None:
    contract = parsed(
        {
            "x-group": 1,
            "/": {"get": operation(operationId="root")},
            "/things/": {"get": operation(operationId="list")},
            "/again": {
                "get": operation(
                    operationId="again",
                    parameters=[
                        {"name": "c", "in": "query", "schema": {"$ref": "#/paths/~1again/get/parameters/1/schema"}},
                        {"name": "d", "in": "query", "schema": {"type": "string"}},
                    ],
                )
            },
            "/things/{id}": {
                "summary": "s",
                "servers": [{"url": "https://x.test"}],
                "parameters": [{"$ref": "#/components/parameters/Id", "description": "d"}],
                "get": operation(
                    operationId="one",
                    tags=["a"],
                    security=[{"key": []}],
                    responses={
                        "200": {
                            "description": "",
                            "headers": {"X-Total": {"schema": {"type": "integer"}, "required": True}},
                            "content": {JSON: {"schema": {"$ref": "#/components/schemas/Thing"}, "example": {"a": 1}}},
                        },
                        "4XX": {"$ref": "#/components/responses/Problem"},
                        "default": {"description": ""},
                        "x-note": 1,
                    },
                ),
                "put": operation(
                    operationId="replace",
                    requestBody={"$ref": "#/components/requestBodies/Thing"},
                    **{"x-lienthong-additional-query": True},
                ),
            },
            "/things/count": {"get": operation(operationId="count", **{"x-other": 1})},
        },
        components={
            "parameters": {"Id": {**ID, "schema": {"$ref": "#/components/schemas/Id"}}},
            "responses": {"Problem": {"description": "", "content": {"application/problem+json": {}}}},
            "requestBodies": {"Thing": {"content": {JSON: {"schema": {"$ref": "#/components/schemas/Thing"}}}}},
            "schemas": {
                "Id": {"$ref": "#/components/schemas/Code"},
                "Code": {"type": "string"},
                "Thing": {"type": "object", "properties": {"next": {"$ref": "#/components/schemas/Thing"}}},
            },
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-Key"}},
        },
        servers=[{"url": "https://x.test/v1", "description": "d"}],
        jsonSchemaDialect="https://spec.openapis.org/oas/3.1/dialect/base",
        tags=[{"name": "a"}],
    )
    assert list(contract.operations) == ["root", "list", "again", "one", "replace", "count"]
    one = contract.operations["one"]
    assert one.parameters[0].plain
    assert one.parameters[0].pointer == "/components/parameters/Id"
    assert [answer.status for answer in one.answers] == ["200", "4XX", "default"]
    assert contract.operations["replace"].additional_query
    assert (contract.openapi, contract.title, contract.version) == ("3.1", "Sample", "1")


def test_opaque_bodies_may_say_binary_and_a_size() -> None:
    binary = {"type": "string", "format": "binary", "maxLength": 10, "description": "d"}
    content = {"application/pdf": {"schema": binary}, "image/*": {"x-lienthong-max-bytes": 5}, "*/*": {"schema": {}}}
    contract = parsed({"/things": {"post": operation(requestBody={"content": content})}})
    assert [one.max_bytes for one in contract.operations["read"].request] == [10, 5, Budget().body_bytes]


def test_the_specifications_own_schema_is_asked_at_publication() -> None:
    made = document(info={"title": "t", "version": "1", "license": {"url": 3}})
    with pytest.raises(ContractRejected) as caught:
        parse_contract(encoded(made))
    assert caught.value.errors[0].code == "openapi"
    parse_contract(encoded(made), meta=False)


def test_a_document_that_breaks_the_specifications_checker_is_refused() -> None:
    made = document(components={"schemas": 3})
    with pytest.raises(ContractRejected):
        parse_contract(encoded(made))


def test_too_many_operations_are_refused() -> None:
    paths = {f"/p{i}": {"get": operation(operationId=f"o{i}")} for i in range(6)}
    with pytest.raises(ContractOverBudget):
        parse_contract(encoded(document(paths)), Budget(operations=5))


def test_too_many_schemas_are_refused_in_each_way() -> None:
    many = with_schema({"properties": {f"p{i}": {} for i in range(30)}})
    with pytest.raises(ContractOverBudget):
        parse_contract(encoded(many), Budget(schemas=20))
    schemas = {f"S{i}": {"properties": {"n": {"$ref": f"#/components/schemas/S{i + 1}"}}} for i in range(20)}
    paths = {f"/p{i}": {"get": answering({"$ref": "#/components/schemas/S0"}, operationId=f"o{i}")} for i in range(20)}
    shared = document(paths, {**schemas, "S20": {}})
    with pytest.raises(ContractOverBudget) as caught:
        parse_contract(encoded(shared), Budget(compiled_schemas=100))
    assert caught.value.errors[0].code == "over-budget-compiled"


def test_places_in_components_are_named_as_the_author_wrote_them() -> None:
    base = with_schema({"$ref": "#/components/schemas/A"})
    for schema, place in [
        ({"enum": list(range(50))}, "/components/schemas/A/enum"),
        ({"properties": {"a": {"pattern": "(a{1,900}){1,900}"}}}, "/components/schemas/A/properties/a/pattern"),
    ]:
        made = copy.deepcopy(base)
        made["components"] = {"schemas": {"A": schema}}
        with pytest.raises(ContractOverBudget) as caught:
            parse_contract(encoded(made), Budget(enum_values=20))
        assert caught.value.errors[0].pointer == place


def test_recursion_that_multiplies_is_refused_at_the_operation() -> None:
    twice = {"properties": {"a": {"allOf": [{"$ref": "#/components/schemas/A"}] * 2}}}
    with pytest.raises(ContractOverBudget) as caught:
        parsed({"/things": {"get": answering({"$ref": "#/components/schemas/A"})}}, {"A": twice})
    assert caught.value.errors[0].pointer == SCHEMA


def test_a_property_that_refers_to_itself_is_refused() -> None:
    with pytest.raises(ContractOverBudget) as caught:
        parsed(
            {"/things": {"post": asking({"properties": {"a": {"$ref": "#/components/schemas/A"}}})}},
            {"A": {"$ref": "#/components/schemas/A"}},
        )
    assert caught.value.errors[0].code == "reference-loop"


def test_a_message_shows_at_most_three_reasons() -> None:
    with pytest.raises(ContractRejected, match=r"and 2 more"):
        parse_contract(encoded(with_schema({f"k{i}": 1 for i in range(5)})))


@pytest.mark.parametrize(
    ("method", "stated", "query", "command"),
    [
        ("get", None, True, False),
        ("post", None, True, True),
        ("get", "both", True, True),
        ("get", "command", False, True),
        ("post", "query", True, False),
        ("post", "command", False, True),
    ],
)
def test_a_contract_says_whether_an_operation_is_a_query_or_a_command(method, stated, query, command) -> None:
    more = {} if stated is None else {"x-lienthong-delivery": stated}
    found = parsed({"/things": {method: operation(**more)}}).operations["read"]
    assert (found.offers("query"), found.offers("command")) == (query, command)


@pytest.mark.parametrize("stated", ["", "Query", "event", 1, None, ["query"]])
def test_another_way_of_delivery_is_refused(stated) -> None:
    with pytest.raises(ContractRejected) as caught:
        parsed({"/things": {"post": operation(**{"x-lienthong-delivery": stated})}})
    assert {fault.pointer for fault in caught.value.errors} == {"/paths/~1things/post/x-lienthong-delivery"}
