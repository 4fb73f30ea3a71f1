"""The gateway's own files: settings, stores, the log."""

from __future__ import annotations

from bus.errors.root import BusError, Rejected


class SettingsRefused(Rejected):
    """The settings on disk cannot be taken over; the gateway goes on with those that it has."""

    code = "settings-refused"
    status = 409
    title = "The settings are not valid; nothing was changed"


class SettingsInvalid(BusError):
    """The settings file cannot be used.

    Attributes:
        problems: one (line, key, message) per error; line 0 when unknown.
    """

    code = "settings-invalid"
    disposition = "halt"
    title = "The settings are not valid"

    def __init__(self, problems: list[tuple[int, str, str]], path: str = "") -> None:
        self.problems = problems
        self.path = path
        super().__init__("; ".join(f"{path}:{line}: {key}: {message}" for line, key, message in problems))


class StoreTooNew(BusError):
    """A file was written by a newer version of the program."""

    code = "store-too-new"
    disposition = "halt"
    title = "A store was written by a newer version"


class ContentsErased(BusError):
    """What was kept beside the log was erased; the log's evidence stays."""

    code = "contents-erased"
    disposition = "reject"
    title = "The contents were erased"


class CloneSuspected(BusError):
    """Others know a newer log of this node than this one: an old backup, or a second copy."""

    code = "clone-suspected"
    disposition = "halt"
    title = "This node's log is older than what others have seen of it"
