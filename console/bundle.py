"""`python -m console.bundle DIR`: an installation for a machine without a network.

The folder holds the locked wheels of this platform, the project's own wheel, `requirements.lock` with all hashes (its
own wheel included), `install.sh` and `SHA256SUMS`. Building needs a repository and a network; installing needs neither.
`--runtime-lock` only prints the part of the lock that runs the program (no test or build tools): the image uses it.

Does not sign anything: publish the digest of `SHA256SUMS` where the receivers can check it.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import click

from bus.errors import BusError
from console.output import reports_errors

PROJECT = "lienthong"
_PIN = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[^\s;\\]+)")
_CHUNK_BYTES = 1 << 20
_DEADLINE_S = 1800


class BundleFailed(BusError):
    """The bundle could not be made."""

    code = "bundle-failed"
    title = "The bundle could not be made"
    disposition = "halt"


# --- the lock: pure -------------------------------------------------------------------------------------------------


def canonical(name: str) -> str:
    """Package name as indexes compare it (packaging specification, name normalisation)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_lock(text: str) -> dict[str, str]:
    """Blocks of a lock file by canonical name: the pin with its hashes, as they stand.

    Raises:
        BundleFailed: a line belongs to no pin, or a pin has no hash.
    """
    blocks: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if pin := _PIN.match(line):
            current = blocks.setdefault(canonical(pin["name"]), [])
        elif not line.startswith((" ", "\t")) or current is None:
            raise BundleFailed(f"the lock has a line that is no pin: {line[:60]!r}")
        current.append(line)
    for name, lines in blocks.items():
        if not any("--hash=sha256:" in line for line in lines):
            raise BundleFailed(f"the lock has no hash for {name}; make it again with `make lock`")
    return {name: "\n".join(lines) for name, lines in blocks.items()}


def closure(roots: Iterable[str], needs: Callable[[str], Iterable[str]]) -> frozenset[str]:
    """The roots and everything they need, by canonical name."""
    found: set[str] = set()
    waiting = [canonical(name) for name in roots]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(canonical(needed) for needed in needs(name))
    return frozenset(found)


def part_of_lock(blocks: Mapping[str, str], names: Iterable[str]) -> str:
    """The blocks of these packages, sorted, as a lock file.

    Raises:
        BundleFailed: the lock does not pin one of them.
    """
    missing = sorted(name for name in names if name not in blocks)
    if missing:
        raise BundleFailed(f"the lock does not pin {', '.join(missing)}; make it again with `make lock`")
    return "".join(f"{blocks[name]}\n" for name in sorted(names))


def render_sums(digests: Mapping[str, str]) -> str:
    """`SHA256SUMS` as `sha256sum -c` reads it, sorted by path."""
    return "".join(f"{digests[path]}  {path}\n" for path in sorted(digests))


def render_install(python_version: str, platform: str) -> str:
    """`install.sh` for the Python version (like 3.11) and platform (like linux-x86_64) that the wheels are for."""
    return (
        _INSTALL.replace("@PYTHON@", python_version)
        .replace("@PLATFORM@", platform)
        .replace("@MACHINE@", platform.rpartition("-")[2])
    )


_INSTALL = """#!/bin/sh
# Installs from this folder alone: sh install.sh TARGET  (a new folder, like /opt/lienthong)
# Made for Python @PYTHON@ on @PLATFORM@. PYTHON=/path/to/python3 chooses another interpreter.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
target=${1:?usage: sh install.sh TARGET}
python=${PYTHON:-python3}
case $target in /*) ;; *) target=$PWD/$target ;; esac
[ ! -e "$target" ] || { echo "$target exists already; nothing was changed" >&2; exit 1; }
found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || {
    echo "missing: $python (Python @PYTHON@)" >&2; exit 1; }
[ "$found" = "@PYTHON@" ] || {
    echo "$python is Python $found; these wheels are for @PYTHON@: set PYTHON=/path/to/python@PYTHON@" >&2; exit 1; }
machine=$(uname -m)
[ "$machine" = "@MACHINE@" ] || { echo "this machine is $machine; these wheels are for @MACHINE@" >&2; exit 1; }
(cd "$here" && sha256sum --quiet -c SHA256SUMS) || {
    echo "the bundle is damaged or was changed; do not install it" >&2; exit 1; }
if "$python" -m pip --version >/dev/null 2>&1; then
    "$python" -m venv --without-pip "$target"
    pip="$python -m pip --python $target/bin/python"
else
    "$python" -m venv "$target" || { echo "missing: pip or venv (Debian: python3-pip or python3-venv)" >&2; exit 1; }
    pip="$target/bin/python -m pip"
fi
PIP_CONFIG_FILE=/dev/null $pip install --quiet --disable-pip-version-check --no-index --find-links "$here/wheels" \\
    --only-binary :all: --require-hashes -r "$here/requirements.lock"
"$target/bin/lienthong" --version
echo "installed in $target; next: $target/bin/lienthong --help"
"""


# --- making it ------------------------------------------------------------------------------------------------------


def runtime_needs(name: str) -> list[str]:
    """What an installed package needs on this platform, without its extras; nothing for one that is not installed."""
    from packaging.requirements import Requirement

    try:
        declared = requires(name) or []
    except PackageNotFoundError:
        return []
    wanted = [Requirement(text) for text in declared]
    return [one.name for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]


def runtime_lock(lock_text: str) -> str:
    """The part of the lock that runs the program.

    Raises:
        BundleFailed: see `part_of_lock`.
    """
    blocks = read_lock(lock_text)
    return part_of_lock(blocks, closure([PROJECT], runtime_needs) - {PROJECT})


def digest(path: Path) -> str:
    """SHA-256 of a file, lower-case hex."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            found.update(chunk)
    return found.hexdigest()


def find_pip() -> list[str]:
    """A command that is pip for this interpreter; the environment itself may have none.

    Raises:
        BundleFailed: there is no pip on this machine.
    """
    base = str(Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}")
    for command in ([sys.executable, "-m", "pip"], [base, "-m", "pip", "--python", sys.executable]):
        try:
            tried = subprocess.run(  # noqa: S603  our own interpreter
                [*command, "--version"], capture_output=True, timeout=60, check=False
            )
        except OSError:
            continue
        if tried.returncode == 0:
            return command
    raise BundleFailed("pip was not found, neither in this environment nor in the Python it is made of")


def repository() -> Path:
    """The repository that this module belongs to.

    Raises:
        BundleFailed: this is an installed copy.
    """
    root = Path(__file__).resolve().parent.parent
    if not (root / "pyproject.toml").is_file() or not (root / "requirements.lock").is_file():
        raise BundleFailed("a bundle is made from a repository; this is an installed copy")
    return root


def prepare(folder: Path) -> None:
    """Makes the folder, or empties an earlier bundle.

    Raises:
        BundleFailed: it holds something else.
    """
    if folder.exists() and any(folder.iterdir()):
        if not (folder / "SHA256SUMS").is_file() or not (folder / "install.sh").is_file():
            raise BundleFailed(f"{folder} holds something that is not a bundle; choose another folder")
        shutil.rmtree(folder)
    (folder / "wheels").mkdir(parents=True, exist_ok=True)


def build_wheel(root: Path, out: Path) -> Path:
    """Builds the project's wheel from a tree, without a network; returns its path.

    Raises:
        BundleFailed: with the end of what the builder printed.
    """
    _run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)], root)
    return next(out.glob(f"{PROJECT}-*.whl"))


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(  # noqa: S603  fixed commands
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_DEADLINE_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise BundleFailed(f"{command[-1]}: not done within {_DEADLINE_S} s") from error
    if done.returncode:
        raise BundleFailed(f"{' '.join(command[:5])} … failed:\n{(done.stdout + done.stderr)[-2000:]}")


def build(folder: Path) -> dict[str, str]:
    """Makes the bundle; digests of its files by path.

    Raises:
        BundleFailed: nothing usable is left in the folder.
    """
    root = repository()
    lock = runtime_lock((root / "requirements.lock").read_text(encoding="utf-8"))
    prepare(folder)
    wheels = folder / "wheels"
    with tempfile.TemporaryDirectory() as scratch:
        locked = Path(scratch) / "requirements.lock"
        locked.write_text(lock, encoding="utf-8")
        choice = ["--require-hashes", "--no-deps", "--only-binary", ":all:", "--disable-pip-version-check"]
        _run([*find_pip(), "download", "--quiet", *choice, "-r", str(locked), "-d", str(wheels.resolve())], root)
    own = build_wheel(root, wheels.resolve())
    version = own.name.split("-")[1]
    pin = f"{PROJECT}=={version} \\\n    --hash=sha256:{digest(own)}\n"
    (folder / "requirements.lock").write_text(lock + pin, encoding="utf-8")
    python_version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    (folder / "install.sh").write_text(render_install(python_version, sysconfig.get_platform()), encoding="utf-8")
    (folder / "install.sh").chmod(0o755)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    digests = {str(path.relative_to(folder)): digest(path) for path in files}
    (folder / "SHA256SUMS").write_text(render_sums(digests), encoding="utf-8")
    return digests


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), required=False)
@click.option(
    "--runtime-lock", "only_lock", is_flag=True, help="Only print the part of the lock that runs the program."
)
@reports_errors
def main(folder: Path | None, only_lock: bool) -> None:
    """Make an installation for a machine without a network in FOLDER."""
    if only_lock:
        click.echo(runtime_lock((repository() / "requirements.lock").read_text(encoding="utf-8")), nl=False)
        return
    if folder is None:
        raise click.UsageError("name a folder")
    digests = build(folder)
    click.echo(f"{len(digests)} files in {folder}\nSHA256SUMS  {digest(folder / 'SHA256SUMS')}")
    click.echo(f"next      carry the folder over, then: sh install.sh /opt/{PROJECT}")


if __name__ == "__main__":
    main()
