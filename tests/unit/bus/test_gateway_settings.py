"""Settings: every problem with its file and line, several at once."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.errors import SettingsInvalid
from bus.settings import GatewaySettings, absolute, load_settings, locate, named_files, parse_settings

GENESIS = "0f" * 32
GOOD = f"""node = "VN/GOV/H37/@n1"
genesis = "{GENESIS}"

[keys]
log = "keys/log.pem"
broker = "keys/broker.pem"
sealing = "keys/sealing"

[broker]
urls = ["tls://127.0.0.1:4222"]
ca = "ca.pem"
credentials = "keys/broker.jwt"

[front]
plain_http = true

[[client]]
name = "onedoor"
subsystems = ["VN/GOV/H37/onedoor"]
key = "keys/clients/onedoor.hash"

[[client]]
name = "tax"
subsystems = ["VN/GOV/H37/tax"]
certificate_sha256 = "{"ab" * 32}"

[[service]]
id = "VN/GOV/H37/population/citizens"
kind = "http"
settings = {{ base_url = "http://127.0.0.1:1" }}
"""
FILES = ("keys/log.pem", "keys/broker.pem", "keys/sealing", "ca.pem", "keys/clients/onedoor.hash")


def problems(text: str) -> list[tuple[int, str, str]]:
    with pytest.raises(SettingsInvalid) as caught:
        parse_settings(text, "gateway.toml")
    assert caught.value.path == "gateway.toml"
    for line, key, _ in caught.value.problems:
        assert f"gateway.toml:{line}: {key}: " in str(caught.value)
    return caught.value.problems


def line_of(text: str, part: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if part in line)


def test_good_settings_are_read():
    made = parse_settings(GOOD)
    assert isinstance(made, GatewaySettings)
    assert [client.name for client in made.client] == ["onedoor", "tax"]
    assert made.service[0].settings == {"base_url": "http://127.0.0.1:1"}
    assert made.keys.log == Path("keys/log.pem")
    assert made.keys.passphrase is None
    assert (made.limits.per_client, made.incarnation, made.data) == (256, 1, Path("data"))


@pytest.mark.parametrize(
    ("old", "new", "at", "key"),
    [
        ('node = "VN/GOV/H37/@n1"', 'node = "VN/GOV/H37"', "node =", "node"),
        ('node = "VN/GOV/H37/@n1"', "node = 7", "node =", "node"),
        (GENESIS, "0F" * 32, "genesis =", "genesis"),
        ('log = "keys/log.pem"', "log = 1", "log =", "keys.log"),
        ('log = "keys/log.pem"', 'log = "x"\nlogs = "y"', "logs =", "keys.logs"),
        ('log = "keys/log.pem"\n', "", "[keys]", "keys.log"),
        ('urls = ["tls://127.0.0.1:4222"]', 'urls = "tls://127.0.0.1:4222"', "urls =", "broker.urls"),
        ("plain_http = true", "plain_http = false", "[front]", "front"),
        ("plain_http = true", 'plain_http = true\nkey = "x"', "[front]", "front"),
        ("plain_http = true", 'plain_http = true\nlisten = "8443"', "listen =", "front.listen"),
        ("plain_http = true", 'plain_http = true\n[admin]\nlisten = "x:"', "listen =", "admin.listen"),
        ("plain_http = true", 'plain_http = true\n[limits]\nper_client = "many"', "per_client =", "limits.per_client"),
        ("plain_http = true", "plain_http = true\n[limits]\nper_clients = 1", "per_clients =", "limits.per_clients"),
        ('name = "tax"', 'name = "ta.x"', 'name = "ta.x"', "client[1].name"),
        ('name = "tax"', 'name = ""', 'name = ""', "client[1].name"),
        ('subsystems = ["VN/GOV/H37/tax"]', 'subsystems = ["tax"]', '["tax"]', "client[1].subsystems"),
        ("certificate_sha256", "certificate", "certificate =", "client[1].certificate"),
        (f'certificate_sha256 = "{"ab" * 32}"\n', "", 'name = "tax"', "client[1]"),
        ('id = "VN/GOV/H37/population/citizens"', 'id = "citizens"', 'id = "citizens"', "service[0].id"),
        ('kind = "http"\n', "", "[[service]]", "service[0].kind"),
        ('settings = { base_url = "http://127.0.0.1:1" }', "settings = []", "settings =", "service[0].settings"),
    ],
)
def test_a_problem_is_told_with_its_line(old, new, at, key):
    assert GOOD.count(old) >= 1
    text = GOOD.replace(old, new, 1)
    found = problems(text)
    assert key in [name for _, name, _ in found]
    (line,) = {line for line, name, _ in found if name == key}
    wanted = line_of(text, at)
    assert line in (wanted, wanted - 1)


def test_several_problems_are_told_at_once():
    text = GOOD.replace("node =", "knot =").replace("urls", "url").replace('kind = "http"', "kind = 1")
    keys = {key for _, key, _ in problems(text)}
    assert keys == {"knot", "node", "broker.url", "broker.urls", "service[0].kind"}


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("keys = 'x'\n" + GOOD.replace("[keys]", "[keis]"), "keys"),
        ("client = ['x']\n" + GOOD.replace("[[client]]", "[[clients]]"), "client[0]"),
        ("client = 'x'\n" + GOOD.replace("[[client]]", "[[clients]]"), "client"),
        ("service = [1]\n" + GOOD.replace("[[service]]", "[[services]]"), "service[0]"),
    ],
)
def test_a_value_where_a_table_belongs_is_told(text, key):
    assert (1, key) in [(line, name) for line, name, _ in problems(text)]


def test_what_is_not_toml_is_told_with_its_line():
    assert problems("a = 1\nb = \n")[0][0] == 2
    assert problems("a = '")[0][0] in (0, 1)


texts = st.text(st.characters(codec="utf-8"), max_size=10)


@given(st.lists(st.sampled_from([*GOOD.splitlines(), "x = 1", "[a.b]", "[[a]]", "y = [", "# c"]), max_size=30))
def test_any_lines_are_settings_or_problems(lines):
    text = "\n".join(lines)
    locate(text)
    try:
        parse_settings(text)
    except SettingsInvalid as error:
        for line, _, message in error.problems:
            assert line >= 0
            assert message


def test_lines_of_tables_and_keys_are_found():
    text = """a = 1
# b = 2
[ t ] # comment
  c-d = 2
[t.u]
e = 3
[[x]]
f = 1
[x.y]
g = 1
[[x]]
f = 2
"""
    assert locate(text) == {
        "a": 1,
        "t": 3,
        "t.c-d": 4,
        "t.u": 5,
        "t.u.e": 6,
        "x[0]": 7,
        "x[0].f": 8,
        "x[0].y": 9,
        "x[0].y.g": 10,
        "x[1]": 11,
        "x[1].f": 12,
    }
    assert tomllib.loads(text)["x"][1] == {"f": 2}


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path):
    for name in FILES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "gateway.toml").write_text(GOOD)
    (tmp_path / "gateway.d").mkdir()
    return tmp_path


def load_problems(home: Path) -> tuple[str, list[tuple[int, str, str]]]:
    with pytest.raises(SettingsInvalid) as caught:
        load_settings(home / "gateway.toml")
    return Path(caught.value.path).name, caught.value.problems


def test_paths_are_relative_to_the_file(home, monkeypatch):
    monkeypatch.chdir(home / "keys")
    for path in (home / "gateway.toml", Path("../gateway.toml")):
        made = load_settings(path)
        assert made.keys.log == home / "keys/log.pem"
        assert made.data == home / "data"
        assert made.client[0].key == home / "keys/clients/onedoor.hash"
    assert dict(named_files(made))["broker.ca"] == home / "ca.pem"


def test_an_absolute_path_stays(home):
    (home / "gateway.toml").write_text(GOOD.replace('"ca.pem"', f'"{home / "ca.pem"}"'))
    assert load_settings(home / "gateway.toml").broker.ca == home / "ca.pem"
    assert absolute(5, home) == 5


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_not_there_is_told(home, name):
    (home / name).unlink()
    where, ((line, key, message),) = load_problems(home)
    assert where == "gateway.toml"
    assert line == line_of(GOOD, name)
    assert key in {"keys.log", "keys.broker", "keys.sealing", "broker.ca", "client[0].key"}
    assert str(home / name) in message


def test_settings_that_cannot_be_read_are_told(home):
    (home / "gateway.toml").write_bytes(b"\xff")
    assert load_problems(home)[1][0][2] == "cannot be read: UnicodeDecodeError"
    (home / "gateway.toml").unlink()
    assert load_problems(home)[1][0][2] == "cannot be read: FileNotFoundError"


PART = """[[client]]
name = "{name}"
subsystems = ["VN/GOV/H37/{name}"]
certificate_sha256 = "abababababababababababababababababababababababababababababababab"
"""
SERVICE_PART = """[[service]]
id = "VN/GOV/H37/population/{name}"
kind = "http"
"""


def test_parts_are_read_in_order_and_relative_to_the_settings(home):
    (home / "keys" / "b.hash").touch()
    (home / "gateway.d" / "b.toml").write_text(
        PART.format(name="b").replace(
            'certificate_sha256 = "abababababababababababababababababababababababababababababababab"',
            'key = "keys/b.hash"',
        )
    )
    (home / "gateway.d" / "a.toml").write_text(PART.format(name="a") + SERVICE_PART.format(name="births"))
    (home / "gateway.d" / "ignored.toml.bak").write_text("nonsense")
    made = load_settings(home / "gateway.toml")
    assert [client.name for client in made.client] == ["onedoor", "tax", "a", "b"]
    assert [service.id.rpartition("/")[2] for service in made.service] == ["citizens", "births"]
    assert made.client[3].key == home / "keys" / "b.hash"


@pytest.mark.parametrize(
    ("part", "line", "key"),
    [
        ('node = "x"\n', 1, "node"),
        (PART.format(name="a.b"), 2, "client[0].name"),
        (
            PART.format(name="a").replace(
                'certificate_sha256 = "abababababababababababababababababababababababababababababababab"',
                'key = "keys/none"',
            ),
            4,
            "client[0].key",
        ),
        (PART.format(name="tax"), 1, "client.name"),
        (SERVICE_PART.format(name="citizens"), 1, "service.id"),
        ("[[client\n", 1, ""),
    ],
)
def test_a_problem_of_a_part_names_the_part(home, part, line, key):
    (home / "gateway.d" / "part.toml").write_text(part)
    where, found = load_problems(home)
    assert where == "part.toml"
    assert (line, key) in [(at, name) for at, name, _ in found]


@pytest.mark.parametrize(
    ("extra", "key"), [(PART.format(name="tax"), "client.name"), (SERVICE_PART.format(name="citizens"), "service.id")]
)
def test_a_name_that_appears_twice_is_told(home, extra, key):
    (home / "gateway.toml").write_text(GOOD + extra)
    where, ((_, name, message),) = load_problems(home)
    assert (where, name) == ("gateway.toml", key)
    assert "twice" in message
