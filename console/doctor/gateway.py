"""A gateway as its neighbours see it: ports, readiness, peers' clocks, a test call."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bus.settings import GatewaySettings
from console.doctor.findings import Finding
from console.doctor.reaching import fetch, is_free, listening_facts
from console.homes import HomeInvalid, MemberHome

_CALL_S = 30.0
_OFFSET = "lienthong_clock_offset_seconds{"


@dataclass(frozen=True, slots=True)
class TestCall:
    """A call that the doctor makes as a client system.

    Attributes:
        client: Subsystem that calls.
        service: Called service.
        path: After the service.
        key: File with the API key.
        purpose: Stated purpose.
        ground: Legal ground.
    """

    __test__ = False

    client: str
    service: str
    path: str
    key: Path
    purpose: str = ""
    ground: str = ""


def check_gateway(home: MemberHome, settings: GatewaySettings, call: TestCall | None) -> Iterable[Finding]:
    """Whether it runs, whether its ports are its own, whether it is ready; the test call, if one was asked for."""
    facts = listening_facts(settings.data)
    start = f"lienthong gateway --home {home.path}"
    if not facts:
        yield from _ports(settings)
        yield Finding("gateway", "warn", "the gateway does not run", start)
        if call is not None:
            yield Finding("test-call", "fail", "not made: the gateway does not run", start)
        return
    yield from _running(settings, str(facts.get("front", "")), str(facts.get("admin", "")))
    if call is not None:
        yield _call(str(facts.get("front", "")), home, settings, call)


def _ports(settings: GatewaySettings) -> Iterable[Finding]:
    for key, listen in (("front.listen", settings.front.listen), ("admin.listen", settings.admin.listen)):
        if is_free(listen):
            yield Finding("ports", "ok", f"{key} {listen} is free")
        else:
            do = f"end what listens there (ss -ltnp), or change {key} in gateway.toml"
            yield Finding("ports", "fail", f"{key} {listen} is in use by another program", do)


def _running(settings: GatewaySettings, front: str, admin: str) -> Iterable[Finding]:
    do = "the listening.json of a process that is gone? start the gateway again; its last log line says why it ended"
    status, body = fetch(f"{admin}/readyz")
    if status == 0:
        yield Finding("ports", "fail", f"nobody answers at the admin port {admin}", do)
        return
    yield _front(settings, front)
    if status == http.client.OK:
        yield Finding("gateway", "ok", "runs and takes calls")
        return
    yield Finding("gateway", "fail", f"not ready: {_failing(body)}", "each code has its section in docs/errors.md")


def _failing(body: bytes) -> str:
    try:
        checks = json.loads(body)["checks"]
        return ", ".join(f"{one['name']} ({one['code']})" for one in checks if not one["ok"])
    except (ValueError, KeyError, TypeError):
        return "no answer of a gateway"


def _front(settings: GatewaySettings, front: str) -> Finding:
    """The front answers, with the certificate that lies here."""
    parts = urlsplit(front)
    host = (parts.hostname or "127.0.0.1").replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - asked, not bound
    if parts.scheme != "https" or settings.front.certificate is None:
        return Finding("ports", "ok", f"the front listens at {front}")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # compared with our own file below
    connection = http.client.HTTPSConnection(host, parts.port or 443, timeout=5, context=context)
    try:
        connection.connect()
        served = connection.sock.getpeercert(binary_form=True)
    except OSError as error:
        return Finding("ports", "fail", f"nobody answers at the front {front} ({type(error).__name__})", "restart it")
    finally:
        connection.close()
    own = ssl.PEM_cert_to_DER_cert(_first_pem(settings.front.certificate))
    if served != own:
        do = "kill -HUP the gateway: it still serves an older certificate; or another program listens there"
        return Finding(
            "ports", "warn", f"the front {front} shows another certificate than {settings.front.certificate}", do
        )
    return Finding("ports", "ok", f"the front answers at {front}")


def _first_pem(path: Path) -> str:
    end = "-----END CERTIFICATE-----"
    return path.read_text(encoding="ascii").partition(end)[0] + end + "\n"


def peer_clocks(home: MemberHome) -> dict[str, float]:
    """Peers' clocks minus ours in seconds, as the running gateway last measured them; empty when it does not run."""
    admin = listening_facts(home.data).get("admin")
    status, body = fetch(f"{admin}/metrics") if admin else (0, b"")
    if status != http.client.OK:
        return {}
    found = {}
    for line in body.decode("utf-8", "replace").splitlines():
        if line.startswith(_OFFSET):
            labels, _, value = line.removeprefix(_OFFSET).rpartition("} ")
            found[labels.partition('"')[2].rpartition('"')[0]] = float(value)
    return found


def _call(front: str, home: MemberHome, settings: GatewaySettings, call: TestCall) -> Finding:
    if settings.front.certificate is None or not front.startswith("https:"):
        raise HomeInvalid("the test call is made over HTTPS; make it yourself with lienthong call")
    parts = urlsplit(front)
    authority = home.path / "tls" / "ca.crt"
    context = ssl.create_default_context(cafile=str(authority) if authority.exists() else None)
    host = (parts.hostname or "").replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - asked, not bound
    connection = http.client.HTTPSConnection(host, parts.port or 443, timeout=_CALL_S, context=context)
    headers = {
        "X-Road-Client": call.client,
        "X-LienThong-Key": call.key.read_text(encoding="ascii").strip(),
        "X-LienThong-Purpose": call.purpose,
        "X-LienThong-Legal-Basis": call.ground,
    }
    try:
        connection.request(
            "GET", f"/r1/{call.service}{call.path}", headers={name: value for name, value in headers.items() if value}
        )
        answer = connection.getresponse()
        status, body = answer.status, answer.read(1 << 20)
    except (OSError, http.client.HTTPException) as error:
        return Finding(
            "test-call", "fail", f"no answer ({type(error).__name__})", "look at the gateway's last log lines"
        )
    finally:
        connection.close()
    if status < http.client.BAD_REQUEST:
        return Finding("test-call", "ok", f"{call.service}{call.path} was answered with {status}")
    code, reason = _problem(body)
    do = f"{code} has its section in docs/errors.md"
    if code == "access-denied":
        do = f"lienthong access why {call.client} {call.service} OPERATION --home {home.path}"
    return Finding("test-call", "fail", f"HTTP {status} {code}{f' ({reason})' if reason else ''}", do)


def _problem(body: bytes) -> tuple[str, str]:
    try:
        found = json.loads(body)
        return str(found.get("code", "")), str(found.get("reason", ""))
    except (ValueError, AttributeError):
        return "no-problem", ""
