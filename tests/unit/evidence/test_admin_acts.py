"""Admin records: one exact encoding, nothing else is read."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.act import Act, decode_act, encode_act
from evidence.errors import EvidenceError, LeafMalformed
from evidence.leaf import ADMIN, unwrap

GOOD = {
    "id": "01234567-89ab-7def-8123-456789abcdef",
    "time": "2026-11-23T01:02:03.000004Z",
    "node": "VN/GOV/H37/@n1",
    "act": "maintenance.on",
    "outcome": "allowed",
    "key": "ops",
    "roles": ("XROAD_SYSTEM_ADMINISTRATOR",),
}
acts = st.builds(
    lambda **changes: Act(**{**GOOD, **changes}),
    act=st.from_regex(r"[a-z][a-z0-9.-]{0,63}", fullmatch=True),
    key=st.from_regex(r"[A-Za-z0-9-]{0,64}", fullmatch=True),
    target=st.from_regex(r"[\x21-\x7e]{0,60}", fullmatch=True),
    roles=st.lists(st.from_regex(r"[A-Za-z_]{1,64}", fullmatch=True), max_size=6).map(tuple),
)


@given(acts)
def test_what_is_written_is_read(act):
    kind, data = unwrap(encode_act(act))
    assert kind == ADMIN
    assert decode_act(data) == act


@given(acts, st.integers(0, 400), st.binary(min_size=1, max_size=3))
def test_changed_bytes_are_refused_or_read_as_exactly_what_they_say(act, at, inserted):
    data = encode_act(act)[len(ADMIN) :]
    changed = data[:at] + inserted + data[at:]
    try:
        read = decode_act(changed)
    except EvidenceError:
        return
    assert encode_act(read) == ADMIN + changed


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "x"},
        {"time": "2026-11-23T01:02:03Z"},
        {"time": "2026-13-23T01:02:03.000004Z"},
        {"node": ""},
        {"act": "Maintenance On"},
        {"key": "a person's name"},
        {"target": "two words"},
        {"roles": ("",)},
        {"code": "why"},
        {"outcome": "refused"},
        {"outcome": "refused", "code": "NOT A CODE"},
    ],
)
def test_a_field_out_of_its_form_is_refused(changes):
    with pytest.raises(LeafMalformed):
        encode_act(Act(**{**GOOD, **changes}))


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b'"act"', b' "act"'),
        lambda data: data.replace(b"{", b'{"more":1,'),
        lambda data: data.replace(b"}", b',"target":""}'),
        lambda data: data.replace(b'"allowed"', b'"tolerated"'),
        lambda data: b"\xff" + data,
        lambda _: b"",
        lambda data: msgspec.json.encode(dict(reversed(list(msgspec.json.decode(data).items())))),
    ],
)
def test_another_spelling_is_refused(change):
    data = encode_act(Act(**GOOD))[len(ADMIN) :]
    with pytest.raises(LeafMalformed):
        decode_act(change(data))
