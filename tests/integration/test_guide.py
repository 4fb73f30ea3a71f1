"""The integrator's guide, as it is written: every block is typed in an empty folder, or read by the kind that it is for."""

from __future__ import annotations

import re
import tomllib

import pytest
from walkthrough import ROOT, blocks, languages, missing_lines, skip_unless_free, typed

from adapters.kinds import known_kinds, load_kind
from adapters.port import SilentObserver

PAGE = (ROOT / "docs" / "integrators.md").read_text(encoding="utf-8")
PORTS = (18470, 14222, 18443, 18444, 19443, 19444, 18080)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> str:
    skip_unless_free(PORTS)
    return typed("".join(blocks(PAGE)), tmp_path_factory.mktemp("integrator"))


@pytest.mark.slow
def test_every_line_that_the_guide_shows_was_printed(printed: str) -> None:
    assert missing_lines(PAGE, printed) == [], printed


@pytest.mark.slow
def test_a_marked_field_is_delivered_under_the_right_that_grants_it_only(printed: str) -> None:
    assert printed.count('"owner":') == printed.count('"owner":"Lê Văn Mẫu"') == 1


@pytest.mark.slow
def test_both_logs_of_the_guide_match(printed: str) -> None:
    assert re.search(r"^RECONCILED: [0-9]+ matched, 0 explained, 0 unmatched, 0 malformed$", printed, re.MULTILINE)


def test_no_block_of_the_guide_is_decoration() -> None:
    assert languages(PAGE) == {"sh", "toml", ""}


@pytest.mark.parametrize("block", blocks(PAGE, "toml"), ids=lambda block: block.partition("\n")[0])
def test_settings_that_the_guide_shows_are_read_by_their_kind(block: str) -> None:
    kind = re.match(r"# kind: ([\w-]+)\n", block)
    assert kind is not None
    load_kind(kind[1]).build(tomllib.loads(block), SilentObserver())


def test_every_kind_is_in_the_guide() -> None:
    for kind in known_kinds():
        assert f"# kind: {kind}\n" in PAGE
        assert f"\n### {kind}\n" in PAGE


def test_no_command_of_the_guide_edits_a_file_of_a_home() -> None:
    for line in "".join(blocks(PAGE)).splitlines():
        assert not re.search(r"(>|sed|tee|cp)\s.*\b(G20|H01|instance)/", line), line
