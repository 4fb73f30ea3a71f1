"""The README's code blocks, verbatim, in an empty folder: what a newcomer types."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from walkthrough import ROOT, blocks, skip_unless_free, typed

PORTS = (4222, 8470, 8443, 8444, 9443, 9444)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    skip_unless_free(PORTS)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    script = "".join(blocks(text[text.index("## Put your own database") :]))
    return typed(script, tmp_path_factory.mktemp("newcomer"))


@pytest.mark.slow
def test_the_granted_call_is_answered_without_the_field_that_is_not_granted(output: str) -> None:
    assert '{"plate":"29A-123.45","make":"Sao Mai","firstRegistered":"2019-04-02"}' in output


@pytest.mark.slow
def test_the_call_for_another_purpose_is_refused_with_the_rule(output: str) -> None:
    assert '"code":"access-denied"' in output
    assert "refused   purpose-not-granted" in output


@pytest.mark.slow
def test_the_evidence_of_both_sides_matches(output: str) -> None:
    assert "RECONCILED: 4 matched, 0 explained, 0 unmatched, 0 malformed" in output


def test_every_option_shown_in_the_readme_exists() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for noun in sorted(set(re.findall(r"^\s*lienthong ([a-z]+)", "\n".join(blocks(text)), re.MULTILINE))):
        shown = subprocess.run(
            [sys.executable, "-m", "console.cli", noun, "--help"], capture_output=True, text=True, check=False, cwd=ROOT
        )
        assert shown.returncode == 0, noun
