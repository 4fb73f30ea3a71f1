"""Texts that commands write for the gateway."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.errors import SettingsInvalid
from bus.settings import parse_settings
from console.homes import HomeInvalid, MemberFacts, MemberHome
from console.rights import access_subject
from console.services import absolute_paths, hand_written, render_service, service_id
from evidence.errors import IdentifierInvalid

texts = st.text(st.characters(codec="utf-8"), max_size=12)
scalars = texts | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)


@given(texts, texts, st.dictionaries(texts, values, max_size=4))
def test_a_service_survives_its_text(identifier, kind, told):
    found = tomllib.loads(render_service(identifier, kind, told))
    assert found == {"service": [{"id": identifier, "kind": kind, "settings": told}]}


def test_dates_and_times_survive_too():
    told = tomllib.loads("a = 2026-11-23\nb = 2026-11-23T01:02:03Z\nc = 01:02:03\nd = 2026-11-23T01:02:03\n")
    assert tomllib.loads(render_service("x", "y", told))["service"][0]["settings"] == told


def test_a_service_is_a_part_of_the_settings():
    text = render_service("VN/GOV/H37/a/b", "http", {"base_url": "http://127.0.0.1:1"})
    head = f'node = "VN/GOV/H37/@n1"\ngenesis = "{"0f" * 32}"\n'
    rest = '[keys]\nlog = "l"\nbroker = "b"\nsealing = "s"\n[broker]\nurls = []\nca = "c"\ncredentials = "d"\n'
    assert parse_settings(f"{head}{rest}[front]\nplain_http = true\n{text}").service[0].kind == "http"


def test_files_and_databases_do_not_depend_on_the_working_folder():
    told = {
        "password_file": "secrets/p",
        "key_file": "/etc/key",
        "file": "x",
        "url": "sqlite:///data/x.db",
        "other": "sqlite:////var/x.db",
        "remote": "postgresql://h/x",
        "depth_file": 7,
        "inner": {"token_file": "../t"},
    }
    assert absolute_paths(told, Path("/srv/home/conf")) == {
        "password_file": "/srv/home/conf/secrets/p",
        "key_file": "/etc/key",
        "file": "x",
        "url": "sqlite:////srv/home/conf/data/x.db",
        "other": "sqlite:////var/x.db",
        "remote": "postgresql://h/x",
        "depth_file": 7,
        "inner": {"token_file": "/srv/home/token_file".replace("token_file", "t")},
    }
    assert "password_file" in told


@given(st.dictionaries(texts, values, max_size=4))
def test_making_paths_absolute_twice_changes_nothing_more(told):
    once = absolute_paths(told, Path("/srv"))
    assert absolute_paths(once, Path("/elsewhere")) == once


def test_the_subject_of_a_right_is_one_per_client_and_service():
    service = "VN/GOV/G01/population/citizens"
    subject = access_subject(service, "VN/GOV/H37/onedoor")
    assert subject.startswith(f"{service}#GOV-H37-onedoor-")
    assert subject == access_subject(service, "VN/GOV/H37/onedoor")
    assert subject != access_subject(service, "VN/GOV/H37-onedoor")


@given(texts, texts)
def test_subjects_of_different_clients_differ_and_are_plain(one, other):
    first, second = access_subject("s", one), access_subject("s", other)
    assert (first == second) == (one == other)
    code = first.partition("#")[2]
    assert code.isascii()
    assert len(code) <= 57
    assert all(character.isalnum() or character == "-" for character in code)


@pytest.fixture
def home(tmp_path):
    made = MemberHome(tmp_path)
    made.write_facts(MemberFacts(member="VN/GOV/H37", genesis="0f" * 32, instance="VN", registry="http://127.0.0.1:1"))
    return made


def test_a_service_is_named_by_its_subsystem_and_code(home):
    assert service_id(home, "population/citizens") == "VN/GOV/H37/population/citizens"
    for code in ("citizens", "a/b/c", ""):
        with pytest.raises(HomeInvalid):
            service_id(home, code)
    for code in ("a/b c", "/b", "a/", "@n1/x", "a/ộ"):
        with pytest.raises(IdentifierInvalid):
            service_id(home, code)


def test_what_was_written_by_hand_into_a_service_file_stays(tmp_path: Path) -> None:
    part = tmp_path / "service.toml"
    assert hand_written(part, "VN/GOV/H37/a/b") == {}
    part.write_text(
        render_service("VN/GOV/H37/a/b", "http", {"base_url": "http://old"})
        + "\n[service.commands]\nattempt_s = 1.5\nattempts = 9\n"
    )
    kept = hand_written(part, "VN/GOV/H37/a/b")
    assert kept == {"commands": {"attempt_s": 1.5, "attempts": 9}}
    assert hand_written(part, "VN/GOV/H37/a/other") == {}
    again = tomllib.loads(render_service("VN/GOV/H37/a/b", "http", {"base_url": "http://new"}, kept))["service"][0]
    assert again["commands"] == kept["commands"]
    assert again["settings"] == {"base_url": "http://new"}


def test_a_broken_service_file_is_said_and_not_overwritten(tmp_path: Path) -> None:
    part = tmp_path / "service.toml"
    part.write_text("[[service]\n")
    with pytest.raises(SettingsInvalid):
        hand_written(part, "VN/GOV/H37/a/b")
