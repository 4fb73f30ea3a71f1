"""Calls of the own gateway, as any client system makes them. It keeps nothing and repeats nothing."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from urllib.parse import quote

import aiohttp
import msgspec

from adapters.agency.onedoorforms import DATA, GATEWAY_REFUSES, LATER, Call, Fault
from adapters.agency.onedoorsettings import OneDoorSettings
from adapters.errors import SettingsInvalid
from adapters.kinds.settings import read_secret

_MAX_ANSWER_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answered:
    """What the gateway said.

    Attributes:
        status: HTTP status.
        body: Of the answer.
    """

    status: int
    body: bytes


class GatewayClient:
    """One gateway's front.

    Args:
        settings: Address, credentials and deadlines.
    """

    def __init__(self, settings: OneDoorSettings) -> None:
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None
        self._base = f"{settings.gateway.rstrip('/')}/r1/{quote(settings.service, safe='/')}"

    async def open(self) -> None:
        """Read the authority's file; the gateway need not be there.

        Raises:
            SettingsInvalid: It cannot be used.
        """
        try:
            context = ssl.create_default_context(cafile=self._settings.ca_file or None)
        except (OSError, ssl.SSLError) as error:
            raise SettingsInvalid("ca_file", "cannot be read as PEM certificates") from error
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=self._settings.max_requests),
            timeout=aiohttp.ClientTimeout(total=self._settings.deadline_s),
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(self, call: Call, desk: str) -> Answered:
        """One call; what is not a query goes as a command.

        Args:
            call: What to ask.
            desk: Name of the desk system, the acting official as far as it is known here.

        Raises:
            Fault: No answer in time, or one that is not worth more than "come again".
        """
        told = self._settings
        headers = {
            "X-Road-Client": told.client,
            "X-LienThong-Key": read_secret(told.key_file, "key_file"),
            "X-Road-UserId": desk,
            "X-Road-Issue": call.code.text,
        }
        headers |= {"X-LienThong-Purpose": told.purpose} if told.purpose else {}
        headers |= {"X-LienThong-Legal-Basis": told.legal_basis} if told.legal_basis else {}
        if call.body:
            headers |= {"Content-Type": "application/json", "Prefer": "respond-async"}
            headers |= {"X-LienThong-Order-Key": call.code.text}
            headers |= {"Idempotency-Key": call.key} if call.key else {}
        return await self._asked(call.method, self._base + call.path, headers, call.body)

    async def reachable(self) -> bool:
        """Whether the gateway answers at all."""
        try:
            await self._asked("GET", f"{self._settings.gateway.rstrip('/')}/", {}, b"")
        except Fault:
            return False
        return True

    async def _asked(self, method: str, url: str, headers: dict[str, str], body: bytes) -> Answered:
        assert self._session is not None
        try:
            async with self._session.request(
                method, url, headers=headers, data=body or None, allow_redirects=False
            ) as got:
                data = await got.content.read(_MAX_ANSWER_BYTES + 1)
                while len(data) <= _MAX_ANSWER_BYTES and (more := await got.content.read(_MAX_ANSWER_BYTES)):
                    data += more
                return Answered(got.status, data)
        except (TimeoutError, aiohttp.ClientError, OSError):
            raise Fault(LATER, "chưa kết nối được cổng trao đổi dữ liệu; hãy gửi lại đúng nội dung này") from None


def judged(answered: Answered, *, asks: bool = False) -> Answered:
    """An answer that can be used, or why there is none.

    Args:
        answered: What the gateway said.
        asks: It was a look-up, which brings nothing that could be accepted.

    Raises:
        Fault: The gateway or the provider refused, or failed.
    """
    if answered.status < 300 or answered.status == 404:
        return answered
    if answered.status == 502 and _code(answered.body) == "answer-invalid":
        raise Fault(DATA, "hệ thống tiếp nhận trả lời không đúng hợp đồng dịch vụ")
    if answered.status in {400, 409, 413, 415, 422}:
        raise Fault(DATA, "dữ liệu không đúng hợp đồng dịch vụ; kiểm tra lại hồ sơ này")
    if answered.status in {401, 403}:
        raise Fault(GATEWAY_REFUSES, "hệ thống một cửa chưa được cấp quyền gọi dịch vụ tiếp nhận hồ sơ")
    if asks:
        raise Fault(LATER, "chưa tra cứu được hồ sơ; hãy thử lại sau")
    raise Fault(LATER, "cổng trao đổi dữ liệu chưa nhận được hồ sơ; hãy gửi lại đúng nội dung này")


class _Problem(msgspec.Struct):
    code: str = ""


def _code(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Problem).code
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
