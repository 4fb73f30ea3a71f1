"""Admin records: who did what at a node's admin port, and what was refused (protocol.md "Record").

The same rules as for exchange headers: one exact encoding, accepted only if encoding the decoded record again gives the
same bytes. Names keys and roles, never persons. Does not append or verify anything.
"""

import re
from collections.abc import Iterable
from typing import Literal

import msgspec

from evidence.errors import HeaderMalformed, LeafMalformed
from evidence.leaf import ADMIN, wrap
from evidence.stamps import decode_time, is_uuid7

_KEY = re.compile(r"[A-Za-z0-9-]{0,64}")
_ROLE = re.compile(r"[A-Za-z_]{1,64}")
_WORD = re.compile(r"[a-z][a-z0-9.-]{0,63}")
_TARGET = re.compile(r"[\x21-\x7e]{0,512}")
MAX_REASON_CHARS = 256


class Act(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One act; the order of the fields is the order on the wire.

    Attributes:
        id: UUIDv7 of the act.
        time: When, by the node's clock.
        node: The node at which it was done, slash form.
        key: Name of the admin key; absent when none was accepted.
        roles: Of that key, in order.
        act: What was asked, like `maintenance.on`.
        target: To what, where the act has one: an identifier or an index.
        outcome: `allowed` is written before the act is done, `failed` after it did not succeed.
        code: Why it was refused or failed.
        reason: What the operator gave as a reason, where the act asks for one.
    """

    id: str
    time: str
    node: str
    act: str
    outcome: Literal["allowed", "refused", "failed"]
    key: str = ""
    roles: tuple[str, ...] = ()
    target: str = ""
    code: str = ""
    reason: str = ""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Act)


def encode_act(act: Act) -> bytes:
    """The act as a leaf.

    Raises:
        LeafMalformed: A field is not in its form.
    """
    _check(act)
    return wrap(ADMIN, _encoder.encode(act))


def decode_act(data: bytes) -> Act:
    """Read the bytes of an admin leaf (without prefix); accepted only in the one exact encoding.

    Raises:
        LeafMalformed: Anything else.
    """
    try:
        act = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise LeafMalformed("an admin leaf is not an admin record") from None
    if encode_act(act) != ADMIN + data:
        raise LeafMalformed("an admin leaf is not in the exact encoding")
    return act


def is_reason(text: str) -> bool:
    """Whether the text can be a reason: one line, not too long."""
    return len(text) <= MAX_REASON_CHARS and (not text or text.isprintable())


def _check(act: Act) -> None:
    try:
        decode_time(act.time)
    except HeaderMalformed as error:
        raise LeafMalformed(str(error)) from None
    well = (
        is_uuid7(act.id)
        and _TARGET.fullmatch(act.node)
        and act.node
        and _KEY.fullmatch(act.key)
        and _WORD.fullmatch(act.act)
        and _TARGET.fullmatch(act.target)
        and _all(_ROLE, act.roles)
        and (not act.code or _WORD.fullmatch(act.code))
        and bool(act.code) == (act.outcome != "allowed")
        and is_reason(act.reason)
    )
    if not well:
        raise LeafMalformed("a field of an admin record is not in its form")


def _all(pattern: re.Pattern[str], words: Iterable[str]) -> bool:
    return all(pattern.fullmatch(word) for word in words)
