"""Identifiers of members, subsystems, services and nodes, and the origins of logs (protocol.md "Identifiers").

Two text forms are read: the slash form with percent-encoded parts (`VN/GOV/H37/onedoor`) and the plain colon form
(`VN:GOV:H37:onedoor`). `str()` gives the slash form, always in one canonical encoding.

What may be *read* is wider than what may be *created*: foreign callers send whatever X-Road allows, and such an
identifier is simply unknown afterwards. `check_creatable` holds the narrow rule.

This module does not know whether an identifier is registered, nor any alias.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from evidence.errors import IdentifierInvalid

MAX_PART_CHARS = 255
MAX_CREATED_PART_CHARS = 64
MAX_IDENTIFIER_CHARS = 2048

RESERVED_SERVICE_CODES = frozenset(
    {
        "listClients",
        "listMethods",
        "allowedMethods",
        "getOpenAPI",
        "getWsdl",
        "getSecurityServerMetrics",
        "getSecurityServerOperationalData",
        "getSecurityServerHealthData",
        "api",
        "pub",
        "pull",
    }
)
"""Service codes that X-Road and GovStack metaservices use; they cannot be registered."""

_CREATABLE = re.compile(r"[A-Za-z0-9'()+,\-.=]+")
_LITERAL = re.compile(r"[A-Za-z0-9'()+,\-.=_~]+")
_LITERAL_BYTES = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789'()+,-.=_~")
# X-Road identifiers exclude separators, "%", control characters, the zero-width space and the byte order mark.
_FORBIDDEN = re.compile("[/\\\\:;%\x00-\x1f\x7f-\x9f\u200b\ufeff\ud800-\udfff]")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_GENESIS = re.compile(r"[0-9a-f]{64}")
_INCARNATION = re.compile(r"[1-9][0-9]{0,8}")


def _check_part(part: str) -> None:
    if not part or len(part) > MAX_PART_CHARS:
        raise IdentifierInvalid(
            f"an identifier part has {len(part)} characters; 1 to {MAX_PART_CHARS} are allowed: correct the identifier"
        )
    if part in {".", ".."} or _FORBIDDEN.search(part):
        raise IdentifierInvalid(
            "an identifier part is a dot segment or contains a separator, '%' or a control character: "
            "such parts exist on no instance, correct the identifier"
        )


def check_creatable(part: str) -> None:
    """Refuse a part that may be read but must not be registered.

    Args:
        part: One decoded part of an identifier.

    Raises:
        IdentifierInvalid: It is empty, longer than 64, a dot segment, or has other characters than ASCII letters,
            digits and `'()+,-.=`; nothing may be registered under it.
    """
    if len(part) > MAX_CREATED_PART_CHARS or part in {".", ".."} or not _CREATABLE.fullmatch(part):
        raise IdentifierInvalid(
            f"this part cannot be registered: use 1 to {MAX_CREATED_PART_CHARS} ASCII letters, digits and '()+,-.= "
            "(and not only dots)"
        )


def check_service_creatable(service: str) -> None:
    """Refuse a service code that may not be registered.

    Raises:
        IdentifierInvalid: See `check_creatable`; or the code belongs to a metaservice (`RESERVED_SERVICE_CODES`).
    """
    check_creatable(service)
    if service in RESERVED_SERVICE_CODES:
        raise IdentifierInvalid(f"the service code {service!r} belongs to a metaservice: choose another code")


@lru_cache(maxsize=4096)
def encode_part(part: str) -> str:
    """Percent-encode one part canonically: UTF-8, upper-case hex, everything but `A-Za-z0-9'()+,-.=_~`."""
    if _LITERAL.fullmatch(part):
        return part
    return "".join(chr(b) if b in _LITERAL_BYTES else f"%{b:02X}" for b in part.encode())


def decode_part(text: str) -> str:
    """Percent-decode one part.

    Raises:
        IdentifierInvalid: A `%` without two hex digits, bytes that are not UTF-8, or a character that no part may have.
    """
    if "%" in text:
        if _BAD_ESCAPE.search(text):
            raise IdentifierInvalid("an identifier has a '%' without two hex digits: encode it as RFC 3986 section 2.1")
        try:
            text = unquote_to_bytes(text).decode()
        except UnicodeDecodeError:
            raise IdentifierInvalid(
                "a percent-encoded identifier part is not UTF-8: encode the text as UTF-8"
            ) from None
    _check_part(text)
    return text


def _check_length(text: str) -> None:
    # before the memory of parsed identifiers, so that nobody can fill it with long texts
    if len(text) > MAX_IDENTIFIER_CHARS:
        raise IdentifierInvalid(f"an identifier of {len(text)} characters exceeds {MAX_IDENTIFIER_CHARS}")


def _split(text: str, count: int, form: str) -> list[str]:
    """Split into raw parts; slash parts are still percent-encoded, colon parts are plain."""
    separator = "/" if "/" in text else ":"
    parts = text.split(separator)
    if len(parts) != count:
        raise IdentifierInvalid(f"{len(parts)} parts found where {form} has {count}: write it as {form}")
    return parts


def _decode_all(text: str, parts: list[str]) -> list[str]:
    if "/" in text:
        return [decode_part(part) for part in parts]
    for part in parts:
        _check_part(part)
    return parts


def _refuse_node_mark(part: str) -> None:
    if part.startswith("@"):
        raise IdentifierInvalid("a part with a leading '@' names a node, not a subsystem: give the subsystem")


@dataclass(frozen=True, slots=True)
class MemberId:
    """An organisation: `INSTANCE/CLASS/MEMBER`, e.g. `VN/GOV/H37`. Parts are kept decoded."""

    instance: str
    member_class: str
    member: str

    def __post_init__(self) -> None:
        for part in (self.instance, self.member_class, self.member):
            _check_part(part)

    @classmethod
    def parse(cls, text: str) -> "MemberId":
        """Read the slash or colon form.

        Raises:
            IdentifierInvalid: Not three valid parts.
        """
        _check_length(text)
        return _parse_member(text)

    @property
    def parts(self) -> tuple[str, ...]:
        """The decoded parts, outermost first."""
        return (self.instance, self.member_class, self.member)

    def __str__(self) -> str:
        return "/".join(map(encode_part, self.parts))


@dataclass(frozen=True, slots=True)
class SubsystemId:
    """A client system of a member: `INSTANCE/CLASS/MEMBER/SUBSYSTEM`."""

    member: MemberId
    subsystem: str

    def __post_init__(self) -> None:
        _check_part(self.subsystem)

    @classmethod
    def parse(cls, text: str) -> "SubsystemId":
        """Read the slash or colon form.

        Raises:
            IdentifierInvalid: Not four valid parts, or the fourth names a node.
        """
        _check_length(text)
        return _parse_subsystem(text)

    @property
    def parts(self) -> tuple[str, ...]:
        """The decoded parts, outermost first."""
        return (*self.member.parts, self.subsystem)

    def __str__(self) -> str:
        return "/".join(map(encode_part, self.parts))


@dataclass(frozen=True, slots=True)
class ServiceId:
    """A service of a subsystem: `INSTANCE/CLASS/MEMBER/SUBSYSTEM/SERVICE`."""

    subsystem: SubsystemId
    service: str

    def __post_init__(self) -> None:
        _check_part(self.service)

    @classmethod
    def parse(cls, text: str) -> "ServiceId":
        """Read the slash or colon form.

        Raises:
            IdentifierInvalid: Not five valid parts, or the fourth names a node.
        """
        _check_length(text)
        return _parse_service(text)

    @property
    def member(self) -> MemberId:
        """The member that provides the service."""
        return self.subsystem.member

    @property
    def parts(self) -> tuple[str, ...]:
        """The decoded parts, outermost first."""
        return (*self.subsystem.parts, self.service)

    def __str__(self) -> str:
        return "/".join(map(encode_part, self.parts))


@dataclass(frozen=True, slots=True)
class NodeId:
    """One gateway node of a member, with its own log and keys: `INSTANCE/CLASS/MEMBER/@NODE`.

    `node` is kept without the mark and always obeys `check_creatable`: nodes are never foreign.
    """

    member: MemberId
    node: str

    def __post_init__(self) -> None:
        check_creatable(self.node)

    @classmethod
    def parse(cls, text: str) -> "NodeId":
        """Read the slash or colon form.

        Raises:
            IdentifierInvalid: Not four valid parts, or the fourth has no leading `@`.
        """
        _check_length(text)
        return _parse_node(text)

    @property
    def parts(self) -> tuple[str, ...]:
        """The decoded parts, outermost first; the last one with its `@`."""
        return (*self.member.parts, "@" + self.node)

    def __str__(self) -> str:
        return f"{self.member}/@{encode_part(self.node)}"


# Identifiers repeat on every message; the memory of parsed ones is bounded, a flood of strange ones only evicts.


@lru_cache(maxsize=4096)
def _parse_member(text: str) -> MemberId:
    parts = _decode_all(text, _split(text, 3, "INSTANCE/CLASS/MEMBER"))
    return MemberId(*parts)


@lru_cache(maxsize=4096)
def _parse_subsystem(text: str) -> SubsystemId:
    raw = _split(text, 4, "INSTANCE/CLASS/MEMBER/SUBSYSTEM")
    _refuse_node_mark(raw[3])
    parts = _decode_all(text, raw)
    return SubsystemId(MemberId(*parts[:3]), parts[3])


@lru_cache(maxsize=4096)
def _parse_service(text: str) -> ServiceId:
    raw = _split(text, 5, "INSTANCE/CLASS/MEMBER/SUBSYSTEM/SERVICE")
    _refuse_node_mark(raw[3])
    parts = _decode_all(text, raw)
    return ServiceId(SubsystemId(MemberId(*parts[:3]), parts[3]), parts[4])


@lru_cache(maxsize=4096)
def _parse_node(text: str) -> NodeId:
    raw = _split(text, 4, "INSTANCE/CLASS/MEMBER/@NODE")
    if not raw[3].startswith("@"):
        raise IdentifierInvalid("a node is written INSTANCE/CLASS/MEMBER/@NODE: the '@' is missing")
    parts = _decode_all(text, [*raw[:3], raw[3][1:]])
    return NodeId(MemberId(*parts[:3]), parts[3])


@dataclass(frozen=True, slots=True)
class Origin:
    """The parsed origin of an exchange log.

    Attributes:
        genesis: 64 lower-case hex digits, the identity of the instance.
        node: The node whose log it is.
        incarnation: 1 for the first log of the node; one more after every declared restore.
    """

    genesis: str
    node: NodeId
    incarnation: int

    def __str__(self) -> str:
        return f"{self.genesis}/{self.node}/{self.incarnation}"


def log_origin(genesis_hex: str, node: NodeId, incarnation: int) -> str:
    """Name a node's exchange log: `<genesis>/VN/GOV/H37/@n1/1` (protocol.md "Exchange log").

    Raises:
        IdentifierInvalid: `genesis_hex` is not 64 lower-case hex digits, or `incarnation` is not 1 to 999,999,999.
    """
    if not _GENESIS.fullmatch(genesis_hex) or not _INCARNATION.fullmatch(str(incarnation)):
        raise IdentifierInvalid("an origin needs 64 lower-case hex digits of genesis and an incarnation from 1 upwards")
    return f"{genesis_hex}/{node}/{incarnation}"


@lru_cache(maxsize=4096)
def parse_origin(text: str) -> Origin:
    """Read what `log_origin` wrote; only that one spelling is accepted.

    Raises:
        IdentifierInvalid: Any other text.
    """
    genesis, _, rest = text.partition("/")
    node_text, _, incarnation = rest.rpartition("/")
    if not _GENESIS.fullmatch(genesis) or not _INCARNATION.fullmatch(incarnation):
        raise IdentifierInvalid(
            "not the origin of an exchange log: <genesis>/INSTANCE/CLASS/MEMBER/@node/<incarnation>"
        )
    origin = Origin(genesis, NodeId.parse(node_text), int(incarnation))
    if str(origin) != text:
        raise IdentifierInvalid("an origin must be in canonical spelling: write each part as `str()` of the node does")
    return origin
