"""The documentation says what the code does: codes, metrics, settings, commands, links."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest

import registry.decision
from bus.errors import DROP_CODES
from console.cli import main as lienthong
from evidence import note
from evidence.checkpoint import Checkpoint, key_name
from evidence.merkle import Frontier, leaf_hash
from evidence.note import VerifierKey
from evidence.proof import Proof
from evidence.signer import FileSigner

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


def page_id(path: Path) -> str:
    return str(path.relative_to(DOCS))


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lienthong_docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = load_generator()


# --- generated parts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_generated_parts_are_those_of_the_code(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert generate.render(text) == text, "run: python docs/generate.py"


def test_every_generated_part_has_its_place() -> None:
    texts = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for name in generate.PARTS:
        assert texts.count(f"<!-- begin: {name} -->") == 1, name
        assert texts.count(f"<!-- end: {name} -->") == 1, name


# --- errors ---------------------------------------------------------------------------------------------------------

ERRORS = (DOCS / "errors.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### `([a-z-]+)`\n(.*?)(?=^##|\Z)", ERRORS, flags=re.MULTILINE | re.DOTALL))


def decision_codes() -> set[str]:
    """The codes that the module names in its docstring, checked against those that its source uses."""
    listed = re.search(r"Codes: (.*?); `granted`", registry.decision.__doc__ or "", flags=re.DOTALL)
    assert listed is not None
    codes = set(re.split(r",\s+", listed[1]))
    source = Path(registry.decision.__file__).read_text(encoding="utf-8").partition('"""\n')[2]
    assert all(f'"{code}"' in source for code in codes)
    return codes


def test_every_code_has_a_section_and_every_section_a_code() -> None:
    known = set(generate.all_errors()) | set(generate.evidence_errors()) | DROP_CODES | decision_codes()
    assert set(generate.DECISIONS) == decision_codes()
    assert set(SECTIONS) == known
    assert ERRORS.count("\n### ") == len(SECTIONS)


@pytest.mark.parametrize("code", sorted(SECTIONS))
def test_a_section_says_the_facts_what_happened_and_what_to_do(code: str) -> None:
    section = SECTIONS[code]
    assert f"*{generate.facts(code)}*" in section
    assert generate.facts(code)
    assert "**Do:**" in section
    assert len(section) > 80


def test_outcome_classes_are_those_of_the_header() -> None:
    from typing import get_args

    from evidence.header import OutcomeClass

    assert set(generate.OUTCOMES) == set(get_args(OutcomeClass))
    for outcome in generate.OUTCOMES:
        assert f"| `{outcome}` |" in ERRORS


def test_codes_of_back_ends_are_those_of_the_adapters() -> None:
    from adapters import errors as adapters_errors

    codes = {
        value.code
        for value in vars(adapters_errors).values()
        if isinstance(value, type) and issubclass(value, adapters_errors.AdapterError)
    } - {"adapter-error"}
    listed = ERRORS.partition("## Codes of back ends")[2]
    assert codes == set(re.findall(r"`((?:backend|adapter)-[a-z-]+)`", listed.partition("| code |")[2]))


# --- links and commands ---------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """Anchors of a page as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found = set()
    for heading in re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE):
        found.add(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


def commands(text: str) -> list[str]:
    """Every `lienthong …` command line of a text: of code blocks, with continuation lines, and of code in sentences."""
    joined = text.replace("\\\n", " ")
    found = []
    for block in re.findall(r"^```sh\n(.*?)^```", joined, flags=re.MULTILINE | re.DOTALL):
        found += [line for line in block.splitlines() if line.startswith("lienthong ")]
    rest = re.sub(r"^```.*?^```", "", joined, flags=re.MULTILINE | re.DOTALL)
    found += [re.sub(r"\s+", " ", code) for code in re.findall(r"`(lienthong [^`]+)`", rest)]
    return found


def check_command(line: str) -> None:
    words = shlex.split(line.partition(" | ")[0], comments=True)[1:]
    command: click.Command = lienthong
    context = click.Context(lienthong)
    while isinstance(command, click.Group) and words and re.fullmatch(r"[a-z][a-z-]*", words[0]):
        found = command.get_command(context, words[0])
        assert found is not None, f"{line}: there is no command {words[0]}"
        command, words = found, words[1:]
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    if command.context_settings.get("ignore_unknown_options"):
        return  # passed on to `python -m evidence`
    for word in words:
        if word.startswith("-"):
            assert word in options | {"--help"}, f"{line}: {word} is no option"


COMMAND_LINES = sorted({line for page in PAGES for line in commands(page.read_text(encoding="utf-8"))})


def test_the_check_of_commands_finds_unknown_ones() -> None:
    with pytest.raises(AssertionError, match="no command polish"):
        check_command("lienthong member polish")
    with pytest.raises(AssertionError, match="--shiny is no option"):
        check_command("lienthong config check --home X --shiny")


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_commands_in_the_documentation_exist(line: str) -> None:
    check_command(line)


# --- what the pages promise -----------------------------------------------------------------------------------------


def test_stable_entry_points_are_there() -> None:
    text = (DOCS / "conformance.md").read_text(encoding="utf-8")
    for module, names in re.findall(
        r"^from (evidence[.\w]*|registry[.\w]*) import ([\w, ]+)", text, flags=re.MULTILINE
    ):
        loaded = importlib.import_module(module)
        for name in names.split(", "):
            assert hasattr(loaded, name) or importlib.import_module(f"{module}.{name}"), f"{module}.{name}"
    for dotted in re.findall(r"`((?:evidence|registry|bus)\.[\w.]+(?:/\w+)*)", text):
        module, _, names = dotted.rpartition(".")
        for name in names.split("/"):
            owner = importlib.import_module(module)
            assert hasattr(owner, name), dotted


def test_decision_records_are_numbered_and_say_context_choice_and_consequences() -> None:
    records = sorted((DOCS / "adr").glob("*.md"))
    numbers = [int(record.name[:4]) for record in records]
    assert len(set(numbers)) == len(numbers)
    for number, record in zip(numbers, records, strict=True):
        text = record.read_text(encoding="utf-8")
        assert record.name.startswith(f"{number:04d}-")
        assert text.startswith(f"# {number}. ")
        for part in ("**Context.**", "**Choice.**", "**Consequences.**"):
            assert part in text, record.name


@pytest.mark.skipif(
    not all(shutil.which(tool) for tool in ("bash", "openssl", "sha256sum", "od", "base64")),
    reason="bash, openssl or coreutils are missing",
)
@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13, 258])
def test_a_record_is_verified_with_standard_tools_alone(tmp_path: Path, size: int) -> None:
    signer, origin = FileSigner.generate("ed25519"), f"{'ab' * 32}/VN/GOV/H37/@n1/1"
    leaves = [b"lienthong/v1/exchange\n%d" % number for number in range(size)]
    grown = Frontier().extend([leaf_hash(leaf) for leaf in leaves])
    signed = note.sign(Checkpoint(origin, size, grown.root).text(), key_name(origin), signer)
    key = str(VerifierKey(key_name(origin), signer.public_bytes))
    index = size * 2 // 3
    leaf, proof = tmp_path / "leaf", tmp_path / "proof"

    def run(content: bytes, made: Proof, verifier_key: str) -> str:
        leaf.write_bytes(content)
        proof.write_text(made.format(), encoding="utf-8")
        command = [DOCS / "verify-record.sh", leaf, proof, verifier_key]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert (done.returncode == 0) == ("\nVERIFIED" in done.stdout), done
        return done.stdout.splitlines()[-1]

    good = Proof(index, grown.paths[index], signed)
    assert run(leaves[index], good, key) == f"VERIFIED: leaf {index} of {size} in {origin}"
    assert "signed root" in run(leaves[index] + b"!", good, key)
    other = str(VerifierKey(key_name(origin), FileSigner.generate("ed25519").public_bytes))
    assert "no signature of this key" in run(leaves[index], good, other)
    forged = signed.replace(f"\n{size}\n".encode(), f"\n{size + 1}\n".encode(), 1)
    assert "signature on the checkpoint is wrong" in run(leaves[index], Proof(index, grown.paths[index], forged), key)
    if size > 1:
        assert "too short" in run(leaves[index], Proof(index, grown.paths[index][:-32], signed), key)


def test_the_generator_can_be_run_and_changes_nothing(tmp_path: Path) -> None:
    copy = tmp_path / "docs"
    shutil.copytree(DOCS, copy)
    subprocess.run([sys.executable, copy / "generate.py"], check=True, timeout=60)
    for page in copy.glob("*.md"):
        assert page.read_bytes() == (DOCS / page.name).read_bytes()
