"""The container image, and what it relies on: the locked set runs from a read-only folder as another user.

The image itself is built where a container engine answers. Everywhere the same set of packages is put into a folder
that nobody may write, and run by a user who owns nothing.
"""

from __future__ import annotations

import http.server
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import distribution
from pathlib import Path

import pytest

from console import bundle

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
NOBODY = 65534
TEST_ALL = os.environ.get("LIENTHONG_TEST_ALL") == "1"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


# --- the locked set, read-only, as another user ---------------------------------------------------------------------


def copy_python(target: Path) -> Path:
    """The interpreter of this environment with its standard library, where everybody can reach it."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    base = Path(sys.base_prefix)
    tools = ("idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "config-*")
    skipped = shutil.ignore_patterns("test", "tests", "site-packages", "__pycache__", *tools)
    shutil.copytree(base / "lib" / version, target / "lib" / version, ignore=skipped, symlinks=True)
    for library in (base / "lib").glob("libpython*.so*"):
        shutil.copy2(library, target / "lib" / library.name)
    (target / "bin").mkdir()
    shutil.copy2(Path(sys.executable).resolve(), target / "bin" / version)
    return target / "bin" / version


def copy_locked_set(site: Path) -> None:
    """The project's own wheel, unpacked, and the files of every package of the runtime lock."""
    with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(bundle.build_wheel(ROOT, Path(scratch))) as wheel:
        wheel.extractall(site)
    locked = bundle.read_lock(bundle.runtime_lock((ROOT / "requirements.lock").read_text(encoding="utf-8")))
    for name in locked:
        for file in distribution(name).files or []:
            if ".." not in file.parts and "__pycache__" not in file.parts:
                target = site / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(Path(str(file.locate())), target)


def reachable(python: Path) -> bool:
    """Whether the other user can run an interpreter, with the library that belongs to it."""
    environment = {"LD_LIBRARY_PATH": str(python.parent.parent / "lib")}
    command = [python, "-c", "import ssl, sqlite3"]
    try:
        done = subprocess.run(
            command, user=NOBODY, group=NOBODY, env=environment, cwd="/", timeout=30, check=False, capture_output=True
        )
    except OSError:
        return False
    return done.returncode == 0


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder below the system's temporary one that everybody can enter (pytest's own belongs to one user)."""
    made = Path(tempfile.mkdtemp(prefix="lienthong-image-"))
    made.chmod(0o755)
    yield made
    for path in [made, *made.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    """Runs `lienthong …` (or `python …`) from the read-only copy as a user who owns nothing but `folder/var`."""
    if os.geteuid() != 0:
        user = {}
        python = Path(sys.executable)
    else:
        user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        python = Path(sys.executable).resolve()
        if not reachable(python):
            python = copy_python(folder / "python")
        if not reachable(python):
            pytest.skip(f"another user cannot run {python}: is the temporary folder mounted noexec?")
    site = folder / "site"
    copy_locked_set(site)
    launcher = folder / "lienthong"
    launcher.write_text(f"#!{python}\nimport sys\nfrom console.cli import main\nsys.exit(main())\n", encoding="utf-8")
    launcher.chmod(0o755)
    for path in [*site.rglob("*"), site, launcher]:
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH) | stat.S_IROTH)
    var = folder / "var"
    var.mkdir(mode=0o700)
    if user:
        os.chown(var, NOBODY, NOBODY)
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(site),
        "PYTHONNOUSERSITE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": str(var),
        "LC_ALL": "C.UTF-8",
        "LD_LIBRARY_PATH": str(python.parent.parent / "lib"),
    }

    def execute(
        *arguments: str | Path, program: Sequence[str | Path] = (launcher,)
    ) -> subprocess.CompletedProcess[str]:
        command = [str(part) for part in (*program, *arguments)]
        return subprocess.run(  # type: ignore[call-overload,no-any-return]
            command, env=environment, cwd=site, capture_output=True, text=True, timeout=60, check=False, **user
        )

    execute.python = python  # type: ignore[attr-defined]
    return execute


def test_the_version_is_shown(run: Run) -> None:
    done = run("--version")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"lienthong, version \d+\.\d+\.\d+\n", done.stdout)


@pytest.mark.parametrize("command", [(), ("gateway",), ("registry",), ("broker",), ("init", "instance"), ("call",)])
def test_help_is_shown(run: Run, command: tuple[str, ...]) -> None:
    done = run(*command, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: ")


def test_the_packages_of_every_process_can_be_imported(run: Run) -> None:
    modules = "bus.gateway, console.processes.gateway, console.processes.registry, console.processes.broker"
    done = run("-c", f"import {modules}", program=(run.python,))  # type: ignore[attr-defined]
    assert done.returncode == 0, done.stderr


def test_an_instance_can_be_made_where_writing_is_allowed_and_nowhere_else(run: Run, folder: Path) -> None:
    done = run("init", "instance", "VN-IMAGE", "--home", folder / "var" / "instance", "--json")
    assert done.returncode == 0, done.stderr
    refused = run("init", "instance", "VN-IMAGE", "--home", folder / "site" / "instance")
    if os.geteuid() == 0:
        assert refused.returncode == 1
        assert "error [file]" in refused.stderr


class _Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/readyz" else 503)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_args: object) -> None:
        return


def test_the_health_command_tells_ready_from_not_ready(run: Run) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Ready) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        program = (run.python, "-m", "console.health")  # type: ignore[attr-defined]
        assert run(f"{url}/readyz", program=program).returncode == 0
        assert run(f"{url}/livez", program=program).returncode == 1
        server.shutdown()


def test_nothing_was_written_beside_the_one_folder(run: Run, folder: Path) -> None:
    run("--help")
    assert not list((folder / "site").rglob("__pycache__"))


# --- the Dockerfile, read -------------------------------------------------------------------------------------------


def test_the_last_stage_runs_the_command_as_a_user_without_rights() -> None:
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER lienthong$", last, flags=re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["lienthong"\]$', last, flags=re.MULTILINE)
    assert 'CMD python -m console.health "$LIENTHONG_HEALTH"' in last
    assert re.findall(r"^VOLUME (.+)$", last, flags=re.MULTILINE) == ["/var/lib/lienthong"]
    assert "requirements.lock" not in last, "nothing is installed in the last stage"


def test_everything_is_installed_by_hash() -> None:
    joined = DOCKERFILE.replace("\\\n", " ")
    installs = re.findall(r"pip\b[^&\n]*\binstall\b[^&\n]*", joined)
    assert installs
    for line in installs:
        local = "-e ." in line or "/dist/*.whl" in line
        assert "--require-hashes" in line or (local and "--no-deps" in line), line


def test_what_is_copied_is_there_and_let_in() -> None:
    let_in = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), flags=re.MULTILINE))
    copied: set[str] = set()
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, flags=re.MULTILINE):
        copied |= set(line.split()[:-1])
    assert copied == let_in
    assert all((ROOT / name).exists() for name in copied)


# --- the image ------------------------------------------------------------------------------------------------------


def find_engine() -> tuple[str, str]:
    """A container engine that answers, or why there is none."""
    reasons = []
    for name in ("docker", "podman"):
        path = shutil.which(name)
        if path is None:
            reasons.append(f"{name} is not installed")
            continue
        try:
            done = subprocess.run([path, "info"], capture_output=True, text=True, timeout=30, check=False)
        except subprocess.TimeoutExpired:
            reasons.append(f"{name} does not answer")
            continue
        if done.returncode == 0:
            return path, ""
        reasons.append(f"{name}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
    return "", "no container engine (" + "; ".join(reasons) + ")"


@pytest.fixture(scope="module")
def image() -> Iterator[list[str]]:
    """Builds the image; the command that runs it with a read-only root."""
    engine, reason = find_engine()
    if not engine:
        (pytest.fail if TEST_ALL else pytest.skip)(reason)
    tag = f"lienthong-test-{os.getpid()}"
    subprocess.run(
        [engine, "build", "--quiet", "--tag", tag, str(ROOT)], check=True, timeout=1500, stdout=subprocess.DEVNULL
    )
    yield [engine, "run", "--rm", "--read-only", "--cap-drop", "ALL", "--network", "none", tag]
    subprocess.run([engine, "image", "rm", "--force", tag], check=False, timeout=60, stdout=subprocess.DEVNULL)


@pytest.mark.container
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_image_runs_with_a_read_only_root_and_as_a_user(image: list[str]) -> None:
    def inside(*arguments: str, entrypoint: str = "") -> subprocess.CompletedProcess[str]:
        command = [*image[:-1], *(["--entrypoint", entrypoint] if entrypoint else []), image[-1], *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert inside("--version").stdout.startswith("lienthong, version ")
    assert inside().stdout.startswith("Usage: ")
    assert inside("-u", entrypoint="id").stdout.strip() == "10001"
    made = inside("init", "instance", "VN-IMAGE", "--home", "/var/lib/lienthong/instance")
    assert made.returncode == 0, made.stderr
    assert inside("init", "instance", "VN-IMAGE", "--home", "/opt/lienthong/instance").returncode == 1
    health = inside("-m", "console.health", "http://127.0.0.1:9443/readyz", entrypoint="python")
    assert (health.returncode, health.stderr) == (1, "unreachable: ConnectionRefusedError\n")
    tools = inside("-c", "import pytest", entrypoint="python")
    assert "ModuleNotFoundError" in tools.stderr
