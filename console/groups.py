"""Whose word a home speaks: a member's, or the operator's."""

from __future__ import annotations

from pathlib import Path

from console.homes import InstanceHome, MemberHome
from console.membership import Speaker


def speaker_of(home: Path) -> tuple[Speaker, str]:
    """The speaker of a home, and what its subjects begin with: the member, or the instance.

    Raises:
        HomeInvalid: it is neither a member's home nor an operator's.
    """
    if (home / "instance.json").exists():
        instance = InstanceHome(home)
        return Speaker.operator(instance), instance.facts.instance
    member = MemberHome(home)
    return Speaker.member(member), member.facts.member
