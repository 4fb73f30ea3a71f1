"""Bodies by media type: JSON by schema, XML by XSD, everything else by type and size. It knows no operations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeVar

from registry.contract.cut import Cutter
from registry.contract.errors import Violation
from registry.contract.jsonbytes import JsonMalformed, decode_json
from registry.contract.mediatype import parse_media_type
from registry.contract.model import Json, Representation
from registry.contract.schema import SchemaValidator
from registry.contract.xmlbody import XmlValidator


class Body:
    """Validates bodies of one declared representation.

    Attributes:
        media_type: The declared essence or range.
        kind: ``json``, ``xml`` or ``opaque``.
    """

    __slots__ = ("_depth", "_json", "_max_bytes", "_schema", "_xml", "kind", "media_type")

    def __init__(
        self, representation: Representation, schema: SchemaValidator | None, xml: XmlValidator | None, depth: int
    ) -> None:
        self.media_type = representation.media_type
        self.kind = representation.kind
        self._json = representation.kind == "json"
        self._schema = schema
        self._xml = xml
        self._max_bytes = representation.max_bytes
        self._depth = depth

    def read(self, body: bytes, found: list[Violation]) -> tuple[Json, bytes]:
        """Returns the decoded value and its compact encoding (None and the body when it is not JSON)."""
        if len(body) > self._max_bytes:
            found.append(Violation("body", "", "size", f"has more than {self._max_bytes} bytes"))
            return None, body
        if not self._json:
            if self._xml is not None:
                found.extend(self._xml.validate(body))
            return None, body
        try:
            value, encoded = decode_json(body, self._depth)
        except JsonMalformed as error:
            found.append(Violation("body", "", error.rule, str(error)))
            return None, body
        self.judge(value, found)
        return value, encoded

    def judge(self, value: Json, found: list[Violation]) -> None:
        """Adds to `found` why a decoded `value` is not valid."""
        schema = self._schema
        if schema is not None and not schema.accepts(value):
            found.extend(schema.explain(value, "body"))


class AnswerBody(Body):
    """A body of an answer, which may have to be cut."""

    __slots__ = ("_cutter",)

    def __init__(
        self,
        representation: Representation,
        schema: SchemaValidator | None,
        xml: XmlValidator | None,
        depth: int,
        cutter: Cutter | None,
    ) -> None:
        super().__init__(representation, schema, xml, depth)
        self._cutter = cutter

    def cut(self, body: bytes, found: list[Violation]) -> bytes:
        """Returns the body without what is withheld, validated; the same object when nothing was removed."""
        if self._cutter is None:
            self.read(body, found)
            return body
        if len(body) > self._max_bytes:
            found.append(Violation("body", "", "size", f"has more than {self._max_bytes} bytes"))
            return body
        try:
            value, encoded = decode_json(body, self._depth)
        except JsonMalformed as error:
            found.append(Violation("body", "", error.rule, str(error)))
            return body
        shorter = self._cutter.cut(value, encoded)
        self.judge(value, found)
        return body if shorter is None else shorter


class _Typed(Protocol):
    @property
    def kind(self) -> str: ...


_Chosen = TypeVar("_Chosen", bound=_Typed)


def choose(declared: Mapping[str, _Chosen], content_type: str) -> _Chosen | None:
    """Returns the declared representation for a ``Content-Type``: exact, then ``type/*``, then ``*/*``; or None.

    JSON and XML take no parameter but ``charset=utf-8``; opaque bodies may have any, but no other charset.
    """
    parsed = parse_media_type(content_type)
    if parsed is None:
        return None
    essence, parameters = parsed
    chosen = declared.get(essence) or declared.get(essence.partition("/")[0] + "/*") or declared.get("*/*")
    if chosen is None or parameters.get("charset", "utf-8").lower() != "utf-8":
        return None
    if chosen.kind != "opaque" and parameters.keys() - {"charset"}:
        return None
    return chosen
