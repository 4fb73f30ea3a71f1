"""What can be done through the admin API of a node, and how each act is recorded."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path

import msgspec
from aiohttp import web

from bus import errors
from bus.front.adminapi import Deed, Deeds, Outcome
from bus.front.adminkeys import AdminSystem
from bus.gateway.commandacts import CommandActs
from bus.gateway.health import Health
from bus.gateway.lookup import Found, find_exchange
from bus.gateway.parts import Parts
from bus.settings import GatewaySettings
from evidence import header
from evidence.act import Act, encode_act
from evidence.errors import EvidenceError, IndexUnknown
from evidence.leaf import EXCHANGE, KIND_NAMES, unwrap
from evidence.log import ExchangeLog
from evidence.proof import Proof
from evidence.stamps import encode_time, is_uuid7, uuid7

SECURITY, REGISTRATION, SERVICES, SYSTEM, OBSERVER, AUDITOR = (
    "XROAD_SECURITY_OFFICER",
    "XROAD_REGISTRATION_OFFICER",
    "XROAD_SERVICE_ADMINISTRATOR",
    "XROAD_SYSTEM_ADMINISTRATOR",
    "XROAD_SECURITYSERVER_OBSERVER",
    "auditor",
)
_MAX_BODY_BYTES = 4096
_INDEX = re.compile(r"0|[1-9][0-9]{0,15}")


class _Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of `PUT /maintenance`."""

    notice: str
    until: datetime | None = None


class AdminActs:
    """The acts of one node.

    Args:
        parts: of the node.
        health: its status; has the log once it is open.
        settings: as they are now.
        status: facts for `GET /status`.
        reload: reads the settings again.
        commands: acts that are about commands.
    """

    def __init__(
        self,
        parts: Parts,
        health: Health,
        settings: Callable[[], GatewaySettings],
        status: Callable[[], dict[str, object]],
        reload: Callable[[], Awaitable[None]],
        commands: CommandActs,
    ) -> None:
        self._parts = parts
        self._health = health
        self._settings = settings
        self._status = status
        self._reload = reload
        self._commands = commands

    def deeds(self) -> Deeds:
        """Every act, with the roles that allow it."""
        everybody = frozenset({SECURITY, REGISTRATION, SERVICES, SYSTEM, OBSERVER, AUDITOR})
        return {
            ("GET", "/status"): Deed("status.read", everybody, "Facts about the node.", self._read_status),
            ("GET", "/clients"): Deed(
                "clients.read", frozenset({SECURITY, REGISTRATION, OBSERVER}), "Client systems.", self._read_clients
            ),
            ("GET", "/services"): Deed(
                "services.read", frozenset({SERVICES, SYSTEM, OBSERVER}), "Own services.", self._read_services
            ),
            ("GET", "/keys"): Deed("keys.read", frozenset({SECURITY}), "Admin keys and their roles.", self._read_keys),
            ("GET", "/maintenance"): Deed(
                "maintenance.read", frozenset({SYSTEM, OBSERVER}), "The notice, if any.", self._read_maintenance
            ),
            ("PUT", "/maintenance"): Deed(
                "maintenance.on", frozenset({SYSTEM}), "Take no calls; body: notice, until.", self._begin_maintenance
            ),
            ("DELETE", "/maintenance"): Deed(
                "maintenance.off", frozenset({SYSTEM}), "Take calls again.", self._end_maintenance
            ),
            ("POST", "/reload"): Deed(
                "settings.reload", frozenset({SYSTEM}), "Read the settings again.", self._read_settings
            ),
            ("GET", "/evidence/checkpoint"): Deed(
                "evidence.checkpoint", frozenset({AUDITOR}), "The newest signed checkpoint.", self._read_checkpoint
            ),
            ("GET", "/evidence/records/{index}"): Deed(
                "evidence.record", frozenset({AUDITOR}), "One record of the log.", self._read_record
            ),
            ("GET", "/evidence/records/{index}/proof"): Deed(
                "evidence.proof", frozenset({AUDITOR}), "Its inclusion proof (C2SP tlog-proof).", self._read_proof
            ),
            ("GET", "/evidence/exchanges/{id}"): Deed(
                "evidence.exchange", frozenset({AUDITOR}), "The records of an exchange.", self._read_exchange
            ),
            **self._commands.deeds(),
        }

    async def record(self, act: str, target: str, key: AdminSystem | None, outcome: Outcome, code: str) -> None:
        """Appends the record of an act; returns once it is durable.

        Raises:
            LogUnwritable, Starting: nothing may be done.
        """
        log, clock = self._log(), self._parts.clock
        now = clock.now()
        made = Act(
            id=uuid7(int(now.timestamp() * 1000), clock.random(10)),
            time=encode_time(now),
            node=self._parts.node,
            act=act,
            outcome=outcome,
            key="" if key is None else key.name,
            roles=() if key is None else key.roles,
            target=target,
            code=code,
        )
        try:
            await log.append([encode_act(made)])
        except EvidenceError as error:
            raise errors.LogUnwritable("the act cannot be recorded, so it is not done", acted="no") from error

    def _log(self) -> ExchangeLog:
        if self._health.log is None:
            raise errors.Starting("the exchange log is not open yet; nothing can be recorded")
        return self._health.log

    async def _read_status(self, _request: web.BaseRequest, _values: tuple[str, ...]) -> web.Response:
        return _json({**self._status(), "checks": self._health.checks()})

    async def _read_clients(self, _request: web.BaseRequest, _values: tuple[str, ...]) -> web.Response:
        return _json(
            {
                "clients": [
                    {
                        "name": system.name,
                        "subsystems": sorted(system.subsystems),
                        "keys": len(system.key_hashes),
                        "certificates": list(system.certificates_sha256),
                        "max_in_flight": system.max_in_flight,
                        "per_second": system.per_second,
                    }
                    for system in self._parts.credentials.systems()
                ]
            }
        )

    async def _read_services(self, _request: web.BaseRequest, _values: tuple[str, ...]) -> web.Response:
        now, view = self._parts.clock.now(), self._parts.own.view
        kinds = {service.id: service.kind for service in self._settings().service}
        found = [(id_, view.service(id_)) for id_ in sorted(kinds)]
        return _json(
            {
                "services": [
                    {"service": id_, "kind": kinds[id_], "published": False}
                    if entry is None
                    else {
                        "service": id_,
                        "kind": kinds[id_],
                        "published": True,
                        "version": entry.version,
                        "on": not entry.is_off(now),
                        "notice": entry.notice,
                        "resumes": entry.resumes_at,
                        "deprecated": sorted(entry.deprecated),
                    }
                    for id_, entry in found
                ]
            }
        )

    async def _read_keys(self, _request: web.BaseRequest, _values: tuple[str, ...]) -> web.Response:
        return _json({"keys": [{"name": one.name, "roles": list(one.roles)} for one in self._parts.admins.systems()]})

    async def _read_maintenance(self, _request: web.BaseRequest, _values: tuple[str, ...]) -> web.Response:
        notice = self._parts.maintenance.notice
        return _json({"on": notice is not None, "notice": notice})

    async def _begin_maintenance(self, request: web.BaseRequest, _values: tuple[str, ...]) -> web.Response:
        asked = await _body(request)
        if not 1 <= len(asked.notice) <= 512 or not asked.notice.isprintable():
            raise errors.RequestMalformed("notice: one line of 1 to 512 characters, for the clients")
        if asked.until is not None and asked.until.tzinfo is None:
            raise errors.RequestMalformed("until: an instant with its offset, like 2026-11-23T06:00:00Z")
        try:
            notice = self._parts.maintenance.begin(asked.notice, asked.until)
        except OSError as error:
            raise errors.InternalError(f"the notice cannot be stored ({error.strerror})") from error
        return _json({"on": True, "notice": notice})

    async def _end_maintenance(self, _request: web.BaseRequest, _values: tuple[str, ...]) -> web.Response:
        self._parts.maintenance.end()
        return _json({"on": False, "notice": None})

    async def _read_settings(self, _request: web.BaseRequest, _values: tuple[str, ...]) -> web.Response:
        try:
            await self._reload()
        except errors.SettingsInvalid as error:
            raise errors.SettingsRefused(str(error)) from error
        settings = self._settings()
        return _json({"reloaded": True, "services": len(settings.service), "clients": len(settings.client)})

    async def _read_checkpoint(self, _request: web.BaseRequest, _values: tuple[str, ...]) -> web.Response:
        return web.Response(body=self._log().note, headers={"Content-Type": "text/plain; charset=utf-8"})

    async def _read_record(self, _request: web.BaseRequest, values: tuple[str, ...]) -> web.Response:
        index = _index(values[0])
        try:
            leaf = await self._log().read(index)
        except EvidenceError as error:
            raise _evidence_error(error) from error
        return _json(_told(Found(index, leaf)))

    async def _read_proof(self, _request: web.BaseRequest, values: tuple[str, ...]) -> web.Response:
        index = _index(values[0])
        try:
            logged = await self._log().prove(index)
        except EvidenceError as error:
            raise _evidence_error(error) from error
        text = Proof(logged.index, logged.path, logged.note).format()
        return web.Response(body=text.encode(), headers={"Content-Type": "text/plain; charset=utf-8"})

    async def _read_exchange(self, _request: web.BaseRequest, values: tuple[str, ...]) -> web.Response:
        if not is_uuid7(values[0]):
            raise errors.RequestMalformed("an exchange is named by the id of its request, a lower-case UUIDv7")
        path: Path = self._settings().data / "log.db"
        try:
            found = await asyncio.to_thread(find_exchange, path, values[0])
        except EvidenceError as error:
            raise _evidence_error(error) from error
        if not found:
            raise errors.NotFound("this log has no record of that exchange")
        return _json({"records": [_told(one) for one in found]})


def _told(found: Found) -> dict[str, object]:
    kind, data = unwrap(found.leaf)
    told: dict[str, object] = {"index": found.index, "kind": KIND_NAMES[kind]}
    if kind == EXCHANGE:
        told["header"] = msgspec.to_builtins(header.decode(data))
    return told | {"leaf": base64.b64encode(found.leaf).decode()}


def _index(text: str) -> int:
    if not _INDEX.fullmatch(text):
        raise errors.RequestMalformed("a record is named by its index in the log, from 0")
    return int(text)


def _evidence_error(error: EvidenceError) -> errors.BusError:
    if isinstance(error, IndexUnknown):
        return errors.NotFound("this log has no such record")
    return errors.LogUnwritable(f"the log cannot be read now ({error.code})")


async def _body(request: web.BaseRequest) -> _Asked:
    try:
        async with asyncio.timeout(5):
            return msgspec.json.decode(await request.read(), type=_Asked)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise errors.RequestMalformed("the body is a JSON object: notice, and until if it is known") from error
    except (web.HTTPRequestEntityTooLarge, TimeoutError, ConnectionError, web.RequestPayloadError) as error:
        raise errors.RequestMalformed("the body is too large, or did not come") from error


def _json(body: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), headers={"Content-Type": "application/json"})
