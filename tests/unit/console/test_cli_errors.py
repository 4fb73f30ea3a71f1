"""Bad input never ends in a traceback: one line with a code, exit code 1."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from console_world import CONTRACT, fails, free_port, run, run_json

from console.homes import InstanceFacts, InstanceHome, MemberFacts, MemberHome

GENESIS = "0f" * 32


@pytest.fixture
def member(tmp_path):
    """A member's home whose registry does not run."""
    home = tmp_path / "member"
    MemberHome(home).write_facts(
        MemberFacts(
            member="VN-TEST/GOV/H37",
            genesis=GENESIS,
            instance="VN-TEST",
            registry=f"http://127.0.0.1:{free_port()}",
        )
    )
    return home


@pytest.fixture
def instance(tmp_path):
    home = tmp_path / "instance"
    InstanceHome(home).write_facts(
        InstanceFacts(instance="VN-TEST", genesis=GENESIS, registry_listen="127.0.0.1:1", broker_listen="127.0.0.1:2")
    )
    return home


@pytest.fixture
def contract(tmp_path):
    path = tmp_path / "contract.json"
    path.write_text(CONTRACT)
    return path


HOME_COMMANDS = [
    ("catalogue",),
    ("config", "check"),
    ("node", "add", "n1"),
    ("subsystem", "add", "onedoor"),
    ("client", "add", "onedoor", "--subsystem", "onedoor"),
    ("service", "enable", "a/b"),
    ("service", "disable", "a/b", "--notice", "x"),
    ("access", "grant", "VN-TEST/GOV/H38/x", "a/b"),
    ("access", "revoke", "VN-TEST/GOV/H38/x", "a/b"),
    ("access", "why", "VN-TEST/GOV/H38/x", "VN-TEST/GOV/H37/a/b", "read"),
    ("join", "--status"),
    ("operator", "show"),
    ("operator", "invite", "--out", "never-written"),
    ("operator", "anchor", "--threshold", "1"),
    ("member", "list"),
    ("member", "approve", "0"),
    ("member", "refuse", "0", "--reason", "x"),
    ("gateway",),
    ("registry",),
    ("broker",),
    ("broker", "--write-config"),
]


@pytest.mark.parametrize("command", HOME_COMMANDS, ids=" ".join)
def test_a_folder_that_is_no_home_is_told(tmp_path, command):
    assert fails(*command, "--home", tmp_path) in {"home-invalid", "settings-invalid"}


@pytest.mark.parametrize("command", HOME_COMMANDS, ids=" ".join)
def test_a_damaged_home_is_told(tmp_path, command):
    for name in ("member.json", "instance.json", "gateway.toml"):
        (tmp_path / name).write_bytes(b'{"\xff')
    assert fails(*command, "--home", tmp_path) in {"home-invalid", "settings-invalid"}


@pytest.mark.parametrize("command", HOME_COMMANDS, ids=" ".join)
def test_a_home_that_does_not_exist_is_wrong_usage(tmp_path, command):
    assert "does not exist" in run(*command, "--home", tmp_path / "none", code=2).output


@pytest.mark.parametrize("genesis", ["", "0f" * 32, "sha256:0F", "sha256:" + "0f" * 31, "md5:" + "0f" * 32])
def test_a_genesis_in_another_form_is_told(tmp_path, genesis):
    home = tmp_path / "member"
    args = ("join", "--member", "VN-TEST/GOV/H37", "--home", home, "--registry", "http://127.0.0.1:1", "--name", "vi=x")
    assert fails(*args, "--genesis", genesis) == "home-invalid"
    assert not home.exists()


@pytest.mark.parametrize("identifier", ["", "H37", "VN/GOV", "VN/GOV/H37/sub", "VN/GOV/%", "VN:GOV"])
def test_a_bad_member_identifier_is_told(tmp_path, identifier):
    args = ("join", "--member", identifier, "--home", tmp_path / "m", "--registry", "http://127.0.0.1:1")
    args = (*args, "--name", "vi=x")
    assert fails(*args, "--genesis", f"sha256:{GENESIS}") == "identifier-invalid"


@pytest.mark.parametrize("url", ["nonsense", "http://127.0.0.1:1", "ftp://127.0.0.1", "http://[", "http://127.0.0.1:x"])
def test_a_registry_that_cannot_be_asked_is_told(tmp_path, url):
    args = ("join", "--member", "VN-TEST/GOV/H37", "--home", tmp_path / "m", "--registry", url, "--name", "vi=x")
    assert fails(*args, "--genesis", f"sha256:{GENESIS}").startswith(("registry", "home"))


@pytest.mark.parametrize("name", ["", "a/b", "VN TEST", "..", "x" * 65, "Việt"])
def test_a_bad_instance_name_leaves_nothing_behind(tmp_path, name):
    home = tmp_path / "instance"
    assert fails("init", "instance", name, "--home", home) == "identifier-invalid"
    assert not home.exists()


def test_a_long_instance_name_is_fine(tmp_path):
    home = tmp_path / "instance"
    assert run_json("init", "instance", "x" * 64, "--home", home)["instance"] == "x" * 64


@pytest.mark.parametrize("host", ["999.1.1.1", "1.2.3", "::x", "miền.vn"])
def test_a_bad_host_leaves_nothing_behind(tmp_path, host):
    home = tmp_path / "instance"
    assert fails("init", "instance", "VN-TEST", "--home", home, "--host", host) == "home-invalid"
    assert not home.exists()


@pytest.mark.parametrize("option", ["--registry-listen", "--broker-listen"])
@pytest.mark.parametrize("listen", ["8470", "127.0.0.1:", "127.0.0.1:x", ":1", "127.0.0.1:99999"])
def test_a_bad_address_leaves_nothing_behind(tmp_path, option, listen):
    home = tmp_path / "instance"
    assert fails("init", "instance", "VN-TEST", "--home", home, option, listen) == "home-invalid"
    assert not home.exists()


def test_a_member_without_a_certificate_is_told(member):
    for command in (("node", "add", "n1"), ("subsystem", "add", "x")):
        result = run(*command, "--home", member, code=1)
        assert "join --status" in result.stderr


def test_the_directory_that_never_came_is_told(member):
    assert "when the gateway runs" in run("catalogue", "--home", member, code=1).stderr


@pytest.mark.parametrize("code", ["citizens", "a/b/c", "a/ộ", "@n1/x"])
def test_a_bad_service_code_is_told(member, contract, code):
    args = ("service", "publish", code, "--home", member, "--contract", contract, "--kind", "http")
    assert fails(*args) in {"home-invalid", "identifier-invalid"}


def test_a_contract_that_is_none_is_told(member, tmp_path):
    for content in (b"", b"{", b"\xff", b'{"openapi":"3.1.0"}'):
        (tmp_path / "bad").write_bytes(content)
        args = ("service", "publish", "a/b", "--home", member, "--contract", tmp_path / "bad", "--kind", "http")
        assert fails(*args) == "contract-rejected"
        assert fails("service", "diff", tmp_path / "bad", tmp_path / "bad") == "contract-rejected"


def test_an_unknown_kind_is_told(member, contract):
    args = ("service", "publish", "a/b", "--home", member, "--contract", contract)
    assert fails(*args, "--kind", "telepathy") == "adapter-kind-unknown"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"a = ", "settings-invalid"),
        (b"\xff", "settings-invalid"),
        (b"nonsense = 1", "adapter-settings-invalid"),
        (b"", "adapter-settings-invalid"),
    ],
)
def test_settings_of_a_source_that_cannot_be_used_are_told(member, contract, tmp_path, content, code):
    (tmp_path / "settings.toml").write_bytes(content)
    args = ("service", "publish", "a/b", "--home", member, "--contract", contract, "--kind", "http")
    assert fails(*args, "--settings", tmp_path / "settings.toml") == code
    error = run_json(*args, "--settings", tmp_path / "settings.toml", code=1)["error"]
    if code == "settings-invalid":
        assert error["problems"][0]["file"] == str(tmp_path / "settings.toml")


def test_settings_problems_are_objects_with_lines(member):
    (member / "gateway.toml").write_text("node = 7\nknot = 1\n")
    found = run_json("config", "check", "--home", member, code=1)["error"]["problems"]
    assert {(item["line"], item["key"]) for item in found} >= {(1, "node"), (2, "knot")}
    assert {item["file"] for item in found} == {str(member / "gateway.toml")}


@pytest.mark.parametrize("name", ["", "a.b", "a b", "../x", "a/b", 'a"b'])
def test_a_bad_client_name_leaves_nothing_behind(member, name):
    assert fails("client", "add", name, "--home", member, "--subsystem", "x") in {"home-invalid", "identifier-invalid"}
    assert not (member / "keys").exists()
    assert not (member / "gateway.d").exists()


@pytest.mark.parametrize("code", ["", "a b", "../x", 'a"b', "a'b\\", "@n1"])
def test_a_bad_subsystem_of_a_client_leaves_nothing_behind(member, code):
    assert fails("client", "add", "app", "--home", member, "--subsystem", code) == "identifier-invalid"
    assert not (member / "keys").exists()


def test_a_certificate_that_is_none_is_told(member, tmp_path):
    (tmp_path / "x.crt").write_text("nonsense")
    args = ("client", "add", "app", "--home", member, "--subsystem", "x", "--certificate", tmp_path / "x.crt")
    assert fails(*args).startswith("certificate")


@pytest.mark.parametrize("name", ["vi", "=x", "vi="])
def test_a_name_without_its_language_is_wrong_usage(member, name):
    (member / "keys").mkdir()
    result = run("subsystem", "add", "x", "--home", member, "--name", name, code=1)
    assert result.stderr.startswith("error [home-invalid]")


def test_a_public_key_that_is_none_is_told(instance, tmp_path):
    (tmp_path / "x.pub").write_text("nonsense")
    args = ("certificate", "issue", "VN-TEST/GOV/H37", "--home", instance, "--out", tmp_path / "x.crt")
    assert fails(*args, "--public-key", tmp_path / "x.pub") == "home-invalid"
    assert not (tmp_path / "x.crt").exists()


def test_a_log_that_is_none_is_told(tmp_path):
    (tmp_path / "log.db").write_bytes(b"nonsense" * 100)
    assert fails("audit", "tiles", tmp_path / "log.db", "--out", tmp_path / "out")
    for command in ("verify", "proof", "reconcile"):
        assert run("audit", command, tmp_path / "none", code=2).output


def test_an_empty_home_is_never_ready(tmp_path):
    assert fails("wait", tmp_path, "--timeout", "0") == "not-ready"


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "key"
    path.write_text("onedoor.s3cret\n")
    return path


@pytest.mark.parametrize(
    ("url", "more"),
    [
        ("http://127.0.0.1:1", ()),
        ("nonsense", ()),
        ("http://[", ()),
        ("ftp://127.0.0.1", ()),
        ("http://127.0.0.1:1", ("--data", "@/none")),
        ("http://127.0.0.1:1", ("--official", "a\nb")),
        ("http://127.0.0.1:1", ("-X", "G E T")),
        ("https://127.0.0.1:1", ("--ca", "KEY")),
    ],
)
def test_a_call_that_cannot_be_made_is_told(key, url, more):
    more = tuple(key if item == "KEY" else item for item in more)
    args = ("call", "VN/GOV/H37/a/b", "/x", "--gateway", url, "--client", "VN/GOV/H37/c", "--key-file", key, *more)
    assert run(*args, code=1).stderr.startswith("error [")


def test_a_key_file_that_is_no_text_is_told(tmp_path):
    (tmp_path / "key").write_bytes(b"\xff")
    args = (
        "call",
        "VN/GOV/H37/a/b",
        "--gateway",
        "http://127.0.0.1:1",
        "--client",
        "x",
        "--key-file",
        tmp_path / "key",
    )
    assert run(*args, code=1).stderr.startswith("error [")


class Gateway(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        told = {name: self.headers[name] for name in ("X-Road-Client", "X-LienThong-Key", "Content-Type")}
        self.send_response(404 if "missing" in self.path else 200)
        self.end_headers()
        self.wfile.write(json.dumps({"path": self.path, "body": body.decode(), **told}).encode())

    def log_message(self, *args):
        return


@pytest.fixture
def gateway():
    server = HTTPServer(("127.0.0.1", 0), Gateway)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_call_is_sent_as_a_client_system_sends_it(gateway, key, tmp_path):
    (tmp_path / "body").write_text('{"a":1}')
    args = ("call", "VN/GOV/H37/a/b", "--gateway", gateway, "--client", "VN/GOV/H37/c", "--key-file", key, "-X", "POST")
    sent = json.loads(run(*args, "--data", f"@{tmp_path / 'body'}").output)
    assert sent == {
        "path": "/r1/VN/GOV/H37/a/b",
        "body": '{"a":1}',
        "X-Road-Client": "VN/GOV/H37/c",
        "X-LienThong-Key": "onedoor.s3cret",
        "Content-Type": "application/json",
    }
    shown = run(*args[:2], "/missing", *args[2:], "--data", "{}", "-i", code=1).output
    assert shown.startswith("HTTP 404\n")


@pytest.mark.parametrize("option", [("--wait", "5"), ("--idempotency-key", "a"), ("--order-key", "b")])
def test_what_belongs_to_commands_is_refused_without_command(key, option):
    args = ("call", "VN/GOV/H37/a/b", "--gateway", "http://127.0.0.1:1", "--client", "x", "--key-file", key, *option)
    assert "--command" in run(*args, code=2).stderr


def test_errors_are_one_object_with_a_stable_code(member):
    found = run_json("catalogue", "--home", member, code=1)
    assert set(found) == {"error"}
    assert set(found["error"]) == {"code", "message"}
    assert json.dumps(found)
