"""A front for one-door systems in their own form: they post dossiers, progress and states, and the bus carries them.

It keeps nothing: what it acknowledges (`error_code` 00) was accepted by the gateway, which is durable; everything else
is answered as not accepted, and can be sent again as it is. All elements of a request are read before the first is
sent, so a request with a fault changes nothing. Elements go in the order in which they stand.

`POST /login` `{username, password}`, `POST /service` `{session, madonvi, service, isUpdating, data[]}`; `GET /livez`
and `/readyz` for whoever watches it.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import ssl
import time
from collections.abc import Mapping
from typing import Protocol

import msgspec
from aiohttp import web

from adapters.agency.gatewayclient import GatewayClient, judged
from adapters.agency.onedoorforms import (
    AGENCY,
    DATA,
    FORM,
    LATER,
    LOOK_UP,
    MISSING,
    OK,
    SERVICES,
    SESSION,
    UNKNOWN,
    Call,
    Fault,
    answer_of,
    read_item,
)
from adapters.agency.onedoorsettings import DeskSettings, OneDoorSettings
from adapters.agency.sessions import Sessions
from adapters.errors import SettingsInvalid
from adapters.kinds.settings import read_secret

_BODY_S, _DRAIN_S = 30.0, 25.0


class OneDoorObserver(Protocol):
    """Hears what happens, to log and count it. Never gets a person or a dossier code."""

    def handled(self, service: str, code: str, items: int, seconds: float) -> None:
        """One request was answered.

        Args:
            service: Its `service`, `login`, or empty when it was not read that far.
            code: `error_code`.
            items: Elements that were accepted.
            seconds: How long it took.
        """

    def failed(self, error: str) -> None:
        """A defect, by the name of the exception."""


class OneDoor:
    """The front of one agency.

    Args:
        settings: From `onedoorsettings.load`.
        observer: Hears what happens.
    """

    def __init__(self, settings: OneDoorSettings, observer: OneDoorObserver) -> None:
        self._settings = settings
        self._observer = observer
        self._desks = {desk.name: desk for desk in settings.desk}
        passwords = {desk.name: read_secret(desk.password_file, "password_file") for desk in settings.desk}
        self._sessions = Sessions(passwords, settings.session_s, time.monotonic, lambda: secrets.token_urlsafe(32))
        self._gateway = GatewayClient(settings)
        self._runner: web.ServerRunner | None = None
        self._under_way = 0
        self._counts: dict[str, int] = {}
        self.port = 0

    async def start(self) -> None:
        """Listen.

        Raises:
            SettingsInvalid: A certificate or the address cannot be used.
        """
        await self._gateway.open()
        context = self._tls()
        server = web.Server(
            self._handle, access_log=None, max_line_size=4096, max_field_size=8192, keepalive_timeout=30
        )
        self._runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=_DRAIN_S)
        await self._runner.setup()
        host, _, port = self._settings.listen.rpartition(":")
        try:
            await web.TCPSite(self._runner, host.strip("[]"), int(port), ssl_context=context).start()
        except OSError as error:
            await self.stop()
            raise SettingsInvalid("listen", f"cannot be listened on: {error.strerror}") from error
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Take no more requests, finish those that are under way, close."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        await self._gateway.close()

    def _tls(self) -> ssl.SSLContext | None:
        if not self._settings.certificate_file:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self._settings.certificate_file, self._settings.certificate_key_file)
        except (OSError, ssl.SSLError) as error:
            raise SettingsInvalid("certificate_file", "cannot be used with certificate_key_file") from error
        return context

    # --- requests -------------------------------------------------------------------------------------------------

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method in {"GET", "HEAD"}:
            return await self._watched(request.path)
        began_s, heard = time.monotonic(), _Heard()
        try:
            answer = await self._answered(request, heard)
        except Fault as fault:
            answer = {"error_code": fault.code, "message": fault.message}
        except Exception as error:
            self._observer.failed(type(error).__name__)
            answer = {"error_code": LATER, "message": "lỗi hệ thống; hãy gửi lại đúng nội dung này"}
        code = str(answer["error_code"])
        self._counts[code] = self._counts.get(code, 0) + 1
        self._observer.handled(heard.service, code, heard.accepted, time.monotonic() - began_s)
        response = web.Response(body=msgspec.json.encode(answer), content_type="application/json", charset="utf-8")
        response.headers["Cache-Control"] = "no-store"
        return response

    async def _watched(self, path: str) -> web.Response:
        if path not in {"/livez", "/readyz"}:
            return web.Response(status=404, text="POST /login, POST /service\n")
        well = path == "/livez" or await self._gateway.reachable()
        told = {"ok": well, "sessions": len(self._sessions), "under_way": self._under_way, "answers": self._counts}
        return web.Response(
            status=200 if well else 503, body=msgspec.json.encode(told), content_type="application/json"
        )

    async def _answered(self, request: web.BaseRequest, heard: _Heard) -> dict[str, object]:
        if self._under_way >= self._settings.max_requests:
            raise Fault(LATER, "hệ thống đang bận; hãy gửi lại đúng nội dung này")
        self._under_way += 1
        try:
            told = await self._body(request)
            if request.path == "/login":
                heard.service = "login"
                return self._log_in(told, request.remote or "")
            if request.path == "/service":
                return await self._serve(told, heard)
        finally:
            self._under_way -= 1
        raise Fault(FORM, "địa chỉ không đúng; dùng /login hoặc /service")

    async def _body(self, request: web.BaseRequest) -> Mapping[str, object]:
        limit, data = self._settings.max_body_bytes, b""
        if (request.content_length or 0) > limit:
            raise Fault(FORM, f"nội dung dài hơn {limit} byte")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_BODY_S):
                while len(data) <= limit and (more := await request.content.readany()):
                    data += more
                return _object(data, limit)
        raise Fault(FORM, "nội dung không đến đủ trong thời gian cho phép")

    def _log_in(self, told: Mapping[str, object], address: str) -> dict[str, object]:
        session = self._sessions.log_in(_text(told, "username"), _text(told, "password"), address)
        if session is None:
            raise Fault(SESSION, "tên đăng nhập hoặc mật khẩu không đúng, hoặc sai quá nhiều lần; thử lại sau 1 phút")
        return {"error_code": OK, "message": "", "session": session, "expires_in": int(self._settings.session_s)}

    async def _serve(self, told: Mapping[str, object], heard: _Heard) -> dict[str, object]:
        name = self._sessions.desk_of(_text(told, "session"))
        if name is None:
            raise Fault(SESSION, "phiên làm việc không đúng hoặc đã hết hạn; hãy đăng nhập lại")
        service = _text(told, "service")
        if service not in SERVICES:
            raise Fault(FORM, "service phải là một trong: " + ", ".join(SERVICES))
        heard.service = service
        desk = self._desks[name]
        if not _speaks_for(desk, _text(told, "madonvi")):
            raise Fault(AGENCY, "madonvi không thuộc hệ thống đã đăng nhập")
        calls = self._read(desk, service, told)
        return await self._sent(name, service, calls, heard)

    def _read(self, desk: DeskSettings, service: str, told: Mapping[str, object]) -> list[Call]:
        """All elements; when one has a fault, all faults are told and nothing is sent."""
        data = told.get("data")
        if not isinstance(data, list) or not 0 < len(data) <= self._settings.max_items:
            raise Fault(MISSING, f"data phải có từ 1 đến {self._settings.max_items} phần tử")
        updating = told.get("isUpdating") in {True, "true", "True", "1"}
        calls, faults = [], []
        for place, item in enumerate(data, 1):
            try:
                call = read_item(service, item, updating=updating)
                if service != LOOK_UP and not _speaks_for(desk, call.code.agency):
                    raise Fault(AGENCY, "mã đơn vị trong mã hồ sơ không thuộc hệ thống đã đăng nhập")
                calls.append(call)
            except Fault as fault:
                faults.append((place, fault))
        if faults:
            named = "; ".join(f"phần tử {place}: {fault.message}" for place, fault in faults[:10])
            raise Fault(faults[0][1].code, f"chưa nhận phần tử nào. {named}")
        return calls

    async def _sent(self, name: str, service: str, calls: list[Call], heard: _Heard) -> dict[str, object]:
        made: list[dict[str, object]] = []
        first: Fault | None = None
        held: dict[str, Fault] = {}  # by dossier: what is behind an element that was not accepted must not overtake it
        for call in calls:
            one: dict[str, object] = {"MaHoSo": call.code.text}
            fault = first if first is not None and first.code == LATER else held.get(call.code.text)
            try:
                if fault is not None:
                    raise fault
                one |= await self._one(name, service, call)
                heard.accepted += 1
            except Fault as found:
                first = first or found
                held[call.code.text] = found
                one |= {"error_code": found.code, "message": found.message}
            made.append(one)
        if first is None:
            return {"error_code": OK, "message": "", "data": made}
        told = f"đã {'tra cứu' if service == LOOK_UP else 'nhận'} {heard.accepted}/{len(calls)}: {first.message}"
        return {"error_code": first.code, "message": told, "data": made}

    async def _one(self, name: str, service: str, call: Call) -> dict[str, object]:
        answered = judged(await self._gateway.call(call, name), asks=service == LOOK_UP)
        if service == LOOK_UP:
            if answered.status == 404:
                raise Fault(UNKNOWN, "không tìm thấy hồ sơ")
            return {"error_code": OK, **answer_of(_json(answered.body))}
        told = _json(answered.body)
        if answered.status != 202 or not isinstance(told, dict) or not isinstance(told.get("id"), str):
            raise Fault(DATA, "dịch vụ tiếp nhận không nhận hồ sơ này; kiểm tra lại cấu hình dịch vụ")
        return {"error_code": OK, "MaGiaoDich": told["id"]}


class _Heard:
    """What a request turned out to be, for the observer."""

    __slots__ = ("accepted", "service")

    def __init__(self) -> None:
        self.service, self.accepted = "", 0


def _speaks_for(desk: DeskSettings, agency: str) -> bool:
    return any(agency == code or agency.startswith(f"{code}.") for code in desk.agencies)


def _text(told: Mapping[str, object], name: str) -> str:
    value = told.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 200:
        raise Fault(MISSING, f"thiếu {name}")
    return value


def _object(data: bytes, limit: int) -> Mapping[str, object]:
    if len(data) > limit:
        raise Fault(FORM, f"nội dung dài hơn {limit} byte")
    told = _json(data)
    if not isinstance(told, dict):
        raise Fault(FORM, "nội dung phải là một đối tượng JSON, mã hoá UTF-8")
    return told


def _json(data: bytes) -> object:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
