"""Finds the rooms of data: `schemas/` (contracts, examples) and `config/` (profiles, dashboards, alert rules, units).

An installed copy carries them as `console/_data/…`; an editable one uses the repository's own folders. Nothing is read
here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from bus.errors import BusError

Room = Literal["schemas", "config"]


class DataMissing(BusError):
    """A room of data is not where an installation has it."""

    code = "data-missing"
    title = "The installation is incomplete"
    disposition = "halt"


def data_folder(room: Room) -> Path:
    """Folder of a room of data.

    Raises:
        DataMissing: the installation was damaged or put together by hand.
    """
    here = Path(__file__).resolve().parent
    # Packaged data first: a stranger may put a folder called `config` beside an installed package.
    for folder in (here / "_data" / room, here.parent / room):
        if folder.is_dir():
            return folder
    raise DataMissing(f"there is no folder {room!r} beside {here}; install the package again from its wheel")
