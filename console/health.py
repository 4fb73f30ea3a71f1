"""`python -m console.health URL`: asks a health address once; for container health checks and units.

Exit code 0 when the answer is 200, 1 otherwise, 2 for wrong usage. Standard library only. Plain HTTP for admin ports,
which listen on loopback; HTTPS for the registry, trusting the authority that `LIENTHONG_HEALTH_CA` names. It repeats
the codes of failing checks and nothing else of the answer.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import sys
from collections.abc import Sequence
from urllib.parse import urlsplit

DEADLINE_S = 3.0
_MAX_BYTES = 64 * 1024


def main(arguments: Sequence[str]) -> int:
    """Runs the command line; returns the exit code."""
    if len(arguments) != 1 or not _is_address(arguments[0]):
        print("usage: python -m console.health http(s)://HOST:PORT/readyz", file=sys.stderr)
        return 2
    try:
        status, body = _ask(arguments[0])
    except (OSError, http.client.HTTPException, ValueError) as error:
        print(f"unreachable: {type(error).__name__}", file=sys.stderr)
        return 1
    if status == http.client.OK:
        return 0
    print(f"not ready: HTTP {status} {', '.join(failing(body))}".rstrip(), file=sys.stderr)
    return 1


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _ask(url: str) -> tuple[int, bytes]:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https":
        context = ssl.create_default_context(cafile=os.environ.get("LIENTHONG_HEALTH_CA") or None)
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, parts.port or 443, timeout=DEADLINE_S, context=context
        )
    else:
        connection = http.client.HTTPConnection(host, parts.port or 80, timeout=DEADLINE_S)
    try:
        connection.request("GET", parts.path or "/", headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read(_MAX_BYTES)
    finally:
        connection.close()


def failing(body: bytes) -> list[str]:
    """`name=code` of each failing check of a `/readyz` answer; empty when it is not one."""
    try:
        checks = json.loads(body)["checks"]
        return [f"{check['name']}={check['code']}" for check in checks if not check["ok"]]
    except (ValueError, KeyError, TypeError):
        return []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
