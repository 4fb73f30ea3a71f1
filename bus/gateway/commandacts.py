"""What an operator does with commands through the admin API: look, bring back, end. Contents are never shown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from bus import errors
from bus.delivery.deadletters import Act, DeadLetters, Letter
from bus.delivery.ending import OutgoingEnd
from bus.delivery.outgoing import OutgoingCommand, find_outgoing
from bus.delivery.statuses import STATES, Statuses
from bus.delivery.store import Command
from bus.delivery.tasks import Wanted
from bus.front.adminapi import ASKING_KEY, Deed, Deeds
from bus.ports import Clock
from evidence import header
from evidence.act import MAX_REASON_CHARS, encode_act, is_reason
from evidence.act import Act as ActRecord
from evidence.errors import EvidenceError
from evidence.stamps import encode_time, is_uuid7, uuid7

MOST = 100
"""Commands that one question or act is about; more are asked for with `after`."""
_LISTED = frozenset({"direction", "state", "service", "code", "older_than_s", "limit", "after"})
_STATES = {"incoming": ("waiting", "dead"), "outgoing": STATES}
_SYSTEM, _SERVICES, _OBSERVER = (
    "XROAD_SYSTEM_ADMINISTRATOR",
    "XROAD_SERVICE_ADMINISTRATOR",
    "XROAD_SECURITYSERVER_OBSERVER",
)


class _Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of `POST /commands/redrive` and `/commands/discard`; either ids, or all that the other fields say."""

    reason: str
    ids: tuple[str, ...] = ()
    all: bool = False
    service: str = ""
    state: str = "dead"
    code: str = ""
    older_than_s: float | None = None
    after: int = -1
    dry_run: bool = False


class CommandActs:
    """The acts of one node that are about commands.

    Args:
        node: own node identifier.
        clock: time.
        log: database of the exchange log.
        letters: commands that were taken; None while the node starts.
        outgoing: ends those of own client systems; None while the node starts.
        statuses: as own client systems are told of theirs; None while the node starts.
    """

    def __init__(
        self,
        node: str,
        clock: Clock,
        log: Path,
        letters: Callable[[], DeadLetters | None],
        outgoing: Callable[[], OutgoingEnd | None],
        statuses: Callable[[], Statuses | None],
    ) -> None:
        self._node = node
        self._clock = clock
        self._log = log
        self._letters = letters
        self._outgoing = outgoing
        self._statuses = statuses

    def deeds(self) -> Deeds:
        """Every act, with the roles that allow it."""
        looking, acting = frozenset({_SYSTEM, _SERVICES, _OBSERVER}), frozenset({_SYSTEM})
        return {
            ("GET", "/commands"): Deed(
                "commands.list", looking, "Commands without an end: taken from others, or of own clients.", self._list
            ),
            ("POST", "/commands/redrive"): Deed(
                "commands.redrive", acting, "Try again, with the same ids; body: reason, and ids or all.", self._redrive
            ),
            ("POST", "/commands/discard"): Deed(
                "commands.discard",
                acting,
                "End without a result, or cancel own ones that are not delivered; body: reason, and ids or all.",
                self._discard,
            ),
        }

    def _open(self) -> DeadLetters:
        letters = self._letters()
        if letters is None:
            raise errors.Starting("the gateway is starting: its commands are not read yet")
        return letters

    async def _list(self, request: web.BaseRequest, _values: tuple[str, ...]) -> web.Response:
        query = _listing(request)
        wanted = Wanted(
            service=query.get("service", ""),
            state=query.get("state", ""),
            code=query.get("code", ""),
            taken_before_s=self._before(_number(query.get("older_than_s", ""))),
            after_idx=int(_number(query.get("after", "")) or -1),
            limit=min(int(_number(query.get("limit", "")) or MOST), MOST),
        )
        try:
            if query["direction"] == "outgoing":
                rows = [_sent(one) for one in await self._find_outgoing(wanted)]
            else:
                rows = [_letter(one) for one in await self._open().find(wanted)]
        except EvidenceError as error:
            raise errors.LogUnwritable(f"the commands cannot be read now ({error.code})") from error
        return _json({"commands": rows, "more": len(rows) == wanted.limit})

    async def _find_outgoing(self, wanted: Wanted) -> list[OutgoingCommand]:
        """What was sent and has no receipt is stored as accepted: only the outbox knows which of these it is."""
        statuses, found, after_idx = self._statuses(), list[OutgoingCommand](), wanted.after_idx
        stored = msgspec.structs.replace(wanted, state="accepted" if wanted.state == "sent" else wanted.state)
        while len(found) < wanted.limit:
            page = await asyncio.to_thread(
                find_outgoing, self._log, msgspec.structs.replace(stored, after_idx=after_idx)
            )
            told = page if statuses is None else [statuses.standing(one) for one in page]
            found += [one for one in told if wanted.state in ("", one.state)]
            if len(page) < wanted.limit:
                break
            after_idx = page[-1].idx
        return found[: wanted.limit]

    def _before(self, older_than_s: float | None) -> int | None:
        return None if older_than_s is None else int(self._clock.now().timestamp() - older_than_s)

    async def _redrive(self, request: web.BaseRequest, _values: tuple[str, ...]) -> web.Response:
        return await self._do("redrive", request)

    async def _discard(self, request: web.BaseRequest, _values: tuple[str, ...]) -> web.Response:
        return await self._do("discard", request)

    async def _do(self, act: Act, request: web.BaseRequest) -> web.Response:
        asked = await _body(request)
        wanted = Wanted(
            ids=asked.ids,
            service="" if asked.ids else asked.service,
            state="" if asked.ids else asked.state,
            code="" if asked.ids else asked.code,
            taken_before_s=None if asked.ids else self._before(asked.older_than_s),
            after_idx=asked.after,
            limit=MOST,
        )
        key = request[ASKING_KEY]

        def write(record_id: str) -> bytes:
            now = self._clock.now()
            return encode_act(
                ActRecord(
                    id=uuid7(int(now.timestamp() * 1000), self._clock.random(10)),
                    time=encode_time(now),
                    node=self._node,
                    act=f"commands.{act}",
                    outcome="allowed",
                    key=key.name,
                    roles=key.roles,
                    target=record_id,
                    reason=asked.reason,
                )
            )

        done = await self._open().do(act, wanted, asked.reason, write, dry=asked.dry_run)
        rows: list[dict[str, Any]] = [{**_letter(letter), "fate": fate} for letter, fate in done]
        known = {row["id"] for row in rows}
        if act == "discard":
            sent = [await self._end(one, write, dry=asked.dry_run) for one in asked.ids if one not in known]
            rows += [row for row in sent if row is not None]
            known = {row["id"] for row in rows}
        return _json(
            {
                "commands": rows,
                "unknown": [one for one in asked.ids if one not in known],
                "more": not asked.ids and len(rows) == MOST,
            }
        )

    async def _end(self, record_id: str, write: Callable[[str], bytes], *, dry: bool) -> dict[str, Any] | None:
        """A command of an own client system; None when there is none with this id."""
        outgoing = self._outgoing()
        ended = None if outgoing is None else await outgoing.end(record_id, write, dry=dry)
        return None if ended is None else _ended(*ended)


def _ended(command: Command, fate: str) -> dict[str, Any]:
    head = command.header
    return {
        "index": command.idx,
        "id": head.id,
        "direction": "outgoing",
        "client": head.source,
        "service": head.to,
        "operation": head.operation,
        "state": command.state,
        "since": head.time,
        "fate": fate,
    }


def _letter(letter: Letter) -> dict[str, Any]:
    task, made, head = letter.task, letter.made, letter.header
    return {
        "index": task.idx,
        "id": task.id,
        "direction": "incoming",
        "client": head.source,
        "service": task.service,
        "operation": head.operation,
        "state": "doing" if letter.doing else task.state,
        "since": _time(task.taken_s),
        "changed": _time(task.changed_s),
        "attempts": made.attempts,
        "next": _time(made.due_s) if task.state == "waiting" and made.due_s and not letter.doing else None,
        "code": made.code or task.code,
        "detail": made.detail or task.detail,
        "told": task.told or None,
    }


def _sent(one: OutgoingCommand) -> dict[str, Any]:
    head = one.header
    return {
        "index": one.idx,
        "id": head.id,
        "direction": "outgoing",
        "client": head.source,
        "service": head.to,
        "operation": head.operation,
        "state": one.state,
        "since": head.time,
        "sent": one.sent_at,
        "delivered": one.delivered_at,
        "expires": head.expires,
        "code": one.code,
        "waits_for": one.waits_for or None,
    }


def _listing(request: web.BaseRequest) -> dict[str, str]:
    """The query of a list: a word that is not known is refused, because an empty list would look like good news."""
    query = dict(request.query)
    if unknown := set(query) - _LISTED:
        raise errors.RequestMalformed(f"commands are listed by {', '.join(sorted(_LISTED))}, not {min(unknown)[:40]}")
    states = _STATES.get(query.setdefault("direction", "incoming"))
    if states is None:
        raise errors.RequestMalformed(f"direction is one of {', '.join(_STATES)}")
    if query.get("state") and query["state"] not in states:
        raise errors.RequestMalformed(f"state is one of {', '.join(states)} for {query['direction']} commands")
    return query


def _time(at_s: float) -> str:
    return header.encode_time(datetime.fromtimestamp(at_s, UTC))


def _number(text: str) -> float | None:
    try:
        number = float(text) if text else None
    except ValueError as error:
        raise errors.RequestMalformed("older_than_s, after and limit are numbers") from error
    if number is not None and not 0 <= number < 1e15:
        raise errors.RequestMalformed("older_than_s, after and limit are numbers from 0")
    return number


async def _body(request: web.BaseRequest) -> _Asked:
    try:
        async with asyncio.timeout(5):
            asked = msgspec.json.decode(await request.read(), type=_Asked)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise errors.RequestMalformed("the body is a JSON object: reason, and ids or all; see /openapi.json") from error
    except (web.HTTPRequestEntityTooLarge, TimeoutError, ConnectionError, web.RequestPayloadError) as error:
        raise errors.RequestMalformed("the body is too large, or did not come") from error
    if not asked.reason.strip() or not is_reason(asked.reason):
        raise errors.RequestMalformed(
            f"say why, in one line of at most {MAX_REASON_CHARS} characters; it stays in the log, so name no persons"
        )
    if bool(asked.ids) == asked.all:
        raise errors.RequestMalformed("name ids, or say all with what it is about: service, code, state, older_than_s")
    if asked.all and not (asked.service or asked.code or asked.older_than_s is not None):
        raise errors.RequestMalformed("all needs a service, a code or an age: nobody ends everything by accident")
    if len(asked.ids) > MOST or not all(is_uuid7(one) for one in asked.ids):
        raise errors.RequestMalformed(f"ids are those of commands, lower-case UUIDv7, at most {MOST}")
    return asked


def _json(body: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), headers={"Content-Type": "application/json"})
