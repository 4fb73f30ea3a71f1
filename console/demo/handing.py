"""What the scenes tell the command client, and what that tells back. Pure data, JSON on both ways."""

from __future__ import annotations

import msgspec


class Command(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One command.

    Attributes:
        gateway: Member code of the client system's gateway.
        client: Subsystem that it says it is.
        key: Which of the plan's keys it shows.
        service: Called service.
        operation: Operation of the contract that this is meant to be.
        path: Raw path after the service.
        body: JSON.
        order_key: Commands under it are done in their order; empty for none.
        number: Its place under the order key.
        name: Idempotency key; empty for none.
        purpose: Stated purpose.
        id: Exchange id of a command that is already accepted: it is not sent, only followed.
    """

    gateway: str
    client: str
    key: str
    service: str
    operation: str
    path: str = ""
    body: str = ""
    order_key: str = ""
    number: int = 0
    name: str = ""
    purpose: str = ""
    id: str = ""


class HandingPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of the command client does.

    Attributes:
        listening: Member code to the file in which its gateway tells where it listens; it changes at each start.
        authorities: Member code to the file with the front's authority.
        keys: Name to file with an API key.
        headers: Sent with every command.
        notes: File that gets one line for each thing that is known of a command.
        per_s: New commands a second, over all lanes.
        keep: Whether each command is told with its result, or they are only counted.
        lanes: Lists of commands; in a lane, the next is sent when the one before is accepted or refused.
        in_turn: In a lane, the next is sent when the one before has ended or is dead.
    """

    listening: dict[str, str]
    authorities: dict[str, str]
    keys: dict[str, str]
    headers: dict[str, str]
    notes: str
    per_s: float
    keep: bool
    lanes: list[list[Command]]
    in_turn: bool = False


class Fate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a command, as the sender's gateway tells it.

    Attributes:
        id: Exchange id; empty when it was refused at once.
        state: Of the command; `refused` when it was not accepted.
        code: Why, where the bus says so.
        times: State to instant.
        records: Kind of record to its index in the log of the sender's gateway.
        status: HTTP status of the result, or of what was said instead of 202; 0 while there is none.
        body: Of the result.
    """

    id: str = ""
    state: str = ""
    code: str = ""
    times: dict[str, str] = {}
    records: dict[str, int] = {}
    status: int = 0
    body: str = ""


class Handed(msgspec.Struct, frozen=True, kw_only=True):
    """What a run gave.

    Attributes:
        fates: In the order of the plan; empty unless it keeps them.
        accepted: Commands with a 202.
        refused: Commands that were refused at once.
        again: Attempts that broke off or were told to come again, each repeated under its idempotency key.
        states: Final state to number of commands.
        seconds: From the first attempt to the last final state.
    """

    fates: list[Fate]
    accepted: int
    refused: int
    again: int
    states: dict[str, int]
    seconds: float
