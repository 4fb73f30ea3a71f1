"""The bundle for a machine without a network, made and installed for real. Needs a package index: `make test-all`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from console import bundle

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        os.environ.get("LIENTHONG_TEST_ALL") != "1", reason="downloads the locked packages: make test-all"
    ),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "out"
    bundle.build(folder)
    return folder


def install(folder: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """Runs the installer, without any network where this system can take it away."""
    offline = [shutil.which("unshare") or "unshare", "--net"] if os.geteuid() == 0 and shutil.which("unshare") else []
    environment = {
        "PYTHON": str(Path(sys.base_prefix) / "bin" / "python3"),
        "PATH": os.environ["PATH"],
        "HOME": "/nowhere",
    }
    return subprocess.run(
        [*offline, "sh", str(folder / "install.sh"), str(target)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_a_bundle_holds_the_locked_wheels_and_installs_without_a_network(made: Path, tmp_path: Path) -> None:
    wheels = {bundle.canonical(path.name.split("-")[0]) for path in (made / "wheels").iterdir()}
    assert wheels == set(bundle.read_lock((made / "requirements.lock").read_text(encoding="utf-8")))
    assert "lienthong" in wheels
    done = install(made, tmp_path / "target")
    assert done.returncode == 0, done.stderr
    said = subprocess.run(
        [tmp_path / "target/bin/lienthong", "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    assert said.stdout.startswith("Usage: ")
    where = "from console.data import data_folder as f; print(f('config') / 'gateway.toml')"
    found = subprocess.run(
        [tmp_path / "target/bin/python", "-I", "-c", where], capture_output=True, text=True, timeout=60, check=True
    )
    assert Path(found.stdout.strip()).read_bytes() == (ROOT / "config" / "gateway.toml").read_bytes()


def test_a_changed_wheel_is_refused_even_when_its_sum_was_changed_too(made: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    victim = next((copy / "wheels").glob("click-*.whl"))
    before = bundle.digest(victim)
    with victim.open("ab") as file:
        file.write(b"\0")
    assert "damaged" in install(copy, tmp_path / "first").stderr
    sums = copy / "SHA256SUMS"
    sums.write_text(sums.read_text(encoding="utf-8").replace(before, bundle.digest(victim)), encoding="utf-8")
    done = install(copy, tmp_path / "second")
    assert done.returncode != 0
    assert "HASH" in done.stderr.upper()
