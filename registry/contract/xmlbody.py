"""XML bodies by XSD 1.0 (lxml), without document types, entities, network or files.

It signs and transforms nothing.

libxml2 loads what an XSD imports and unrolls what it counts: so an XSD is one self-contained document of bounded
size, with bounded ``maxOccurs`` and regular expressions, before libxml2 compiles it.
"""

from __future__ import annotations

import re
from typing import Any, Final

from lxml import etree

from registry.contract.budget import Budget
from registry.contract.errors import Violation

_XS: Final = "{http://www.w3.org/2001/XMLSchema}"
_FOREIGN: Final = frozenset(
    _XS + name
    for name in ("import", "include", "redefine", "override", "key", "keyref", "unique", "group", "attributeGroup")
)
_MAX_OCCURS: Final = 1_000
_MAX_ELEMENTS: Final = 5_000
_MAX_REPORTED: Final = 20
_MAX_PATTERN: Final = 256
_MAX_MULTIPLIED: Final = 10_000
_TOKEN: Final = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]|\{[^}]*\}|.", re.DOTALL)
_COUNTED: Final = re.compile(r"\{([0-9]+)(?:,([0-9]*))?\}")
# Everything that may stand before the document element, atomically, so that it is linear.
_PROLOG: Final = re.compile(rb"(?>\xef\xbb\xbf)?(?>\s+|<!--.*?-->|<\?.*?\?>)*+", re.DOTALL)
_ENCODING: Final = re.compile(rb"(?>\xef\xbb\xbf)?<\?xml\s[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9._\-]*)[\"']")


class XmlMalformed(ValueError):
    """The bytes are not XML as this bus wants it.

    Attributes:
        rule: ``xml``, ``doctype``, ``encoding`` or ``depth``.
    """

    def __init__(self, rule: str, message: str) -> None:
        self.rule = rule
        super().__init__(message)


def parse_xml(body: bytes, depth: int) -> etree._Element:
    """Returns the document element of UTF-8 XML.

    Raises:
        XmlMalformed: Not well-formed, another encoding, a document type, too deep.
    """
    declared = _ENCODING.match(body)
    if declared is not None and declared.group(1).lower() not in {b"utf-8", b"us-ascii"}:
        raise XmlMalformed("encoding", "XML must be UTF-8")
    prolog = _PROLOG.match(body)
    if prolog is not None and body.startswith(b"<!", prolog.end()):
        raise XmlMalformed("doctype", "a document type is not allowed")
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False, huge_tree=False, encoding="utf-8"
    )
    try:
        root = etree.fromstring(body, parser)
    except (etree.XMLSyntaxError, ValueError):
        raise XmlMalformed("xml", "not well-formed XML") from None
    info = root.getroottree().docinfo
    if info.internalDTD is not None or info.doctype:  # pragma: no cover - a second look, should the first one miss
        raise XmlMalformed("doctype", "a document type is not allowed")
    _refuse_depth(root, depth)
    return root


def _refuse_depth(root: etree._Element, depth: int) -> None:
    level = 0
    for event, _ in etree.iterwalk(root, events=("start", "end")):
        level += 1 if event == "start" else -1
        if level > depth:
            raise XmlMalformed("depth", f"XML nests deeper than {depth} levels")


class XmlValidator:
    """A compiled XSD with the document element it must start from.

    Raises (from the constructor):
        ValueError: The XSD does not compile.
    """

    __slots__ = ("_depth", "_root", "_schema")

    def __init__(self, xsd: str, root: str | None, depth: int) -> None:
        self._root = root
        self._depth = depth
        self._schema = _compile(xsd, depth)

    def validate(self, body: bytes) -> list[Violation]:
        """Returns what is wrong with `body`; rules and lines, never values."""
        try:
            element = parse_xml(body, self._depth)
        except XmlMalformed as error:
            return [Violation("body", "", error.rule, str(error))]
        if self._root is not None and element.tag != self._root:
            return [Violation("body", "", "root", "the document element is not the declared one")]
        if self._schema.validate(element):
            return []
        return [
            Violation("body", f"line {entry.line}", entry.type_name, "does not satisfy the XSD")
            for entry in _first(self._schema.error_log)
        ]


def _first(log: Any) -> list[Any]:
    return list(log)[:_MAX_REPORTED]


def _compile(xsd: str, depth: int) -> etree.XMLSchema:
    try:
        return etree.XMLSchema(parse_xml(xsd.encode("utf-8"), depth))
    except (etree.XMLSchemaParseError, XmlMalformed):
        raise ValueError("the XSD does not compile") from None


def xsd_refusal(text: str, budget: Budget) -> tuple[str, str] | None:
    """Returns (code, message) when the XSD cannot be used, else None; it is compiled only when every bound held."""
    if len(text) > budget.xsd_bytes:
        return "over-budget-xsd", f"the XSD has more than {budget.xsd_bytes} characters"
    try:
        root = parse_xml(text.encode("utf-8", "surrogatepass"), budget.depth)
    except XmlMalformed as error:
        return "xsd", f"the XSD is refused: {error}"
    if root.tag != _XS + "schema":
        return "xsd", "the text is not an XML Schema"
    refusal = _elements_refusal(root)
    if refusal is not None:
        return refusal
    try:
        _compile(text, budget.depth)
    except ValueError as error:
        return "xsd", str(error)
    return None


def _elements_refusal(root: etree._Element) -> tuple[str, str] | None:
    multiplied: dict[etree._Element, int] = {}
    for count, element in enumerate(root.iter(etree.Element)):
        if count > _MAX_ELEMENTS:
            return "over-budget-xsd", f"the XSD has more than {_MAX_ELEMENTS} elements"
        if element.tag in _FOREIGN:
            return "xsd", "import, include, redefine, groups and identity constraints are not supported"
        times = 1
        for bound in ("maxOccurs", "minOccurs"):
            text = element.get(bound, "1").strip()
            if text != "unbounded":
                if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) > _MAX_OCCURS:
                    return "over-budget-xsd", f"{bound} must be unbounded or at most {_MAX_OCCURS}"
                times = max(times, int(text))
        parent = element.getparent()
        multiplied[element] = times * (multiplied.get(parent, 1) if parent is not None else 1)
        if multiplied[element] > _MAX_MULTIPLIED:
            return "over-budget-xsd", "nested repetitions multiply too much"
        if element.tag == _XS + "pattern" and _pattern_too_big(element.get("value", "")):
            return "over-budget-xsd", "a pattern is too long or repeats too much"
    return None


def _pattern_too_big(pattern: str) -> bool:
    return len(pattern) > _MAX_PATTERN or _expanded_size(pattern) > _MAX_OCCURS


def _expanded_size(pattern: str) -> int:
    """Returns how many atoms a pattern has with its repetitions written out: in a row they add, nested multiply."""
    sizes, last = [0], 0
    for token in _TOKEN.finditer(pattern):
        text = token[0]
        if text == "(":
            sizes.append(0)
            last = 0
        elif text == ")" and len(sizes) > 1:
            last = sizes.pop()
            sizes[-1] += last
        elif counted := _COUNTED.fullmatch(text):
            bound = counted[2] or counted[1]
            times = max(1, int(bound)) if len(bound) < 6 else _MAX_OCCURS + 1
            sizes[-1] += last * (times - 1)
            last *= times
        elif text not in "?*+|":
            last = 1
            sizes[-1] += 1
    return sum(sizes)
