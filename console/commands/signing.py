"""Options that several commands share: whose keys sign, and where their passphrase is."""

from __future__ import annotations

from pathlib import Path

import click

operator_homes_option = click.option(
    "--operator-home",
    "folders",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder with a further operator key; those in the home are found. Too few keep a proposal.",
)
PASSPHRASE_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
