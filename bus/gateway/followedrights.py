"""The member's services and rights at a further node: followed from the directory, by the member's own signature.

Has no store. Who may sign for the member is said by a file that the member's home gave to this node.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import structlog

from bus.errors import SettingsInvalid
from bus.metrics import GatewayMetrics
from registry.followed import FollowedWord
from registry.follower import Follower
from registry.own import OwnView, compare

_log = structlog.get_logger("lienthong.gateway")
_KEY_IDS = msgspec.json.Decoder(frozenset[str])


def read_signers(path: Path) -> frozenset[str]:
    """Key ids whose signature counts as the member's.

    Raises:
        SettingsInvalid: the file is missing, empty, or something else.
    """
    try:
        found = _KEY_IDS.decode(path.read_bytes())
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SettingsInvalid([(0, "keys.member_signers", f"{path} is not a JSON array of key ids")]) from error
    if not found:
        raise SettingsInvalid([(0, "keys.member_signers", f"{path} names no key: nothing would be served")])
    return found


class FollowedRights:
    """The followed word and the view that decides.

    Args:
        path: of the file with the key ids.
        member: own member.
        follower: the directory with its leaves.

    Raises:
        SettingsInvalid: the file cannot be used.
    """

    def __init__(self, path: Path, member: str, follower: Follower) -> None:
        self._path = path
        self._member = member
        self._follower = follower
        self._alarmed: set[tuple[str, str]] = set()
        self._signers = read_signers(path)
        self._begin()

    def _begin(self) -> None:
        directory = self._follower.directory
        self._word = FollowedWord(directory, self._member, self._signers, self._follower.leaf)
        self._word.take_over(directory.folded_size)
        self.view = OwnView(self._word, directory)

    def take_over(self) -> None:
        """Takes what is new in the directory, and another file of key ids; an unreadable one changes nothing."""
        try:
            signers = read_signers(self._path)
        except SettingsInvalid as error:
            _log.error("member-signers.unreadable", detail=str(error))
            signers = self._signers
        if signers != self._signers:
            self._signers = signers
            self._begin()
            _log.info("member-signers.taken", keys=len(signers))
        elif self._word.take_over(self._follower.directory.folded_size):
            _log.info("own-word.followed")

    def report_differences(self, metrics: GatewayMetrics) -> None:
        """Alarms once for each document in the member's name that none of its keys signed."""
        for alarm in compare(self._word, self._follower.directory):
            if (alarm.code, alarm.subject) not in self._alarmed:
                self._alarmed.add((alarm.code, alarm.subject))
                metrics.alarm(alarm.code, self._member)
                _log.warning("own-word.alarm", code=alarm.code, subject=alarm.subject)

    def close(self) -> None:
        """Nothing is open."""
