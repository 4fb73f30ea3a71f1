import stat

import pytest

from console.homes import (
    HomeInvalid,
    InstanceFacts,
    InstanceHome,
    MemberFacts,
    MemberHome,
    read_facts,
    replace_file,
    write_new,
)

INSTANCE = InstanceFacts(
    instance="VN-TEST", genesis="0f" * 32, registry_listen="127.0.0.1:1", broker_listen="127.0.0.1:2"
)
MEMBER = MemberFacts(member="VN-TEST/GOV/H37", genesis="0f" * 32, instance="VN-TEST", registry="http://127.0.0.1:1")


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_that_nests_without_end_is_refused(tmp_path):
    path = tmp_path / "carried.json"
    path.write_bytes(b'{"x":' + b"[" * 100_000)
    with pytest.raises(HomeInvalid, match="is not what"):
        read_facts(path, MemberFacts, "lienthong operator invite")


@pytest.mark.parametrize("wanted", [0o600, 0o644])
def test_a_new_file_has_its_mode_and_its_folder_is_closed(tmp_path, wanted):
    path = tmp_path / "made" / "file"
    write_new(path, b"data", wanted)
    assert path.read_bytes() == b"data"
    assert mode(path) == wanted
    assert mode(path.parent) == 0o700


def test_a_new_file_is_secret_unless_it_is_said(tmp_path):
    write_new(tmp_path / "a", b"")
    replace_file(tmp_path / "b", b"")
    assert mode(tmp_path / "a") == mode(tmp_path / "b") == 0o600


def test_a_file_is_never_written_over(tmp_path):
    write_new(tmp_path / "a", b"first")
    with pytest.raises(HomeInvalid, match="exists already"):
        write_new(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"first"


def test_a_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "made" / "a"
    replace_file(path, b"first", 0o644)
    replace_file(path, b"second")
    assert path.read_bytes() == b"second"
    assert mode(path) == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["a"]


@pytest.mark.parametrize(("home", "facts"), [(InstanceHome, INSTANCE), (MemberHome, MEMBER)])
def test_facts_are_settled_once(tmp_path, home, facts):
    made = home(tmp_path / "home")
    made.write_facts(facts)
    assert home(tmp_path / "home").facts == facts
    with pytest.raises(HomeInvalid):
        made.write_facts(facts)


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"{}", b"\xff", b'{"instance":"\xff"}', b'{"member":7}'])
@pytest.mark.parametrize("home", [InstanceHome, MemberHome])
def test_a_folder_that_is_no_home_is_told(tmp_path, home, content):
    for name in ("instance.json", "member.json"):
        if content is not None:
            (tmp_path / name).write_bytes(content)
    with pytest.raises(HomeInvalid, match=r"lienthong (init|join)"):
        _ = home(tmp_path).facts
