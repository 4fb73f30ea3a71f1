"""Whose word a home speaks: a member's, or the operator's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from console.homes import HomeInvalid, InstanceHome, MemberHome
from console.membership import Speaker


def speaker_of(home: Path, folders: Sequence[Path] = ()) -> tuple[Speaker, str]:
    """The speaker of a home, and what its subjects begin with: the member, or the instance.

    Args:
        home: Of a member or of an instance.
        folders: With further operator keys.

    Raises:
        HomeInvalid: it is neither a member's home nor an operator's; or operator keys were named for a member's word.
    """
    if (home / "instance.json").exists():
        instance = InstanceHome(home)
        return Speaker.operator(instance, folders), instance.facts.instance
    if folders:
        raise HomeInvalid(f"--operator-home is for the operator's word, and {home} is not the home of an instance")
    member = MemberHome(home)
    return Speaker.member(member), member.facts.member
