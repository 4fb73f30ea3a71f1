"""`lienthong call`: one call through a gateway, as a client system makes it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from console.output import reports_errors

F = TypeVar("F", bound=Callable[..., Any])


def at_gateway(function: F) -> F:
    """The options that say which client system asks which gateway: `url`, `ca`, `client_id`, `key_file`."""
    file = click.Path(path_type=Path, exists=True, dir_okay=False)
    for decorate in (
        click.option("--key-file", type=file, required=True, help="File with the API key."),
        click.option("--client", "client_id", required=True, help="Subsystem: INSTANCE/CLASS/MEMBER/SUBSYSTEM."),
        click.option("--ca", type=file, help="Authority of the front (tls/ca.crt)."),
        click.option("--gateway", "url", required=True, help="Address of the gateway's front, https://host:port."),
    ):
        function = decorate(function)
    return function


@click.command()
@click.argument("service")
@click.argument("path", default="")
@at_gateway
@click.option("-X", "--method", default="GET", show_default=True, help="HTTP method.")
@click.option("--data", help="JSON body; @FILE reads a file.")
@click.option("--content-type", default="application/json", show_default=True, help="Content type of the body.")
@click.option("--official", default="", help="Acting official (X-Road-UserId).")
@click.option("--purpose", default="", help="Purpose (X-LienThong-Purpose).")
@click.option("--ground", default="", help="Legal ground (X-LienThong-Legal-Basis).")
@click.option("--issue", default="", help="Dossier code (X-Road-Issue).")
@click.option("--command", "as_command", is_flag=True, help="Hand it over as a command (Prefer: respond-async).")
@click.option("--wait", "wait_s", type=click.IntRange(1, 60), help="With --command: seconds to wait for its result.")
@click.option("--idempotency-key", default="", help="With --command: the same key again is the same command.")
@click.option("--order-key", default="", help="With --command: in order with others under this key.")
@click.option("-i", "--include", is_flag=True, help="Print status and headers too.")
@reports_errors
def call(
    service: str,
    path: str,
    url: str,
    ca: Path | None,
    client_id: str,
    key_file: Path,
    method: str,
    data: str | None,
    content_type: str,
    official: str,
    purpose: str,
    ground: str,
    issue: str,
    as_command: bool,
    wait_s: int | None,
    idempotency_key: str,
    order_key: str,
    include: bool,
) -> None:
    """Call SERVICE (INSTANCE/CLASS/MEMBER/SUBSYSTEM/SERVICE) at PATH. Exit code 1 for HTTP errors.

    With --command the answer is 202 and the address of the command's fate, or its result if that comes in time.
    """
    from console.addresses import check_url
    from console.clientcalls import ClientCall, read_key, send

    if not as_command and (wait_s is not None or idempotency_key or order_key):
        raise click.UsageError("--wait, --idempotency-key and --order-key belong to --command")
    check_url(url, "--gateway")
    body = Path(data[1:]).read_bytes() if data is not None and data.startswith("@") else (data or "").encode()
    prefer = "respond-async" + (f", wait={wait_s}" if wait_s is not None else "")
    headers = {
        "X-Road-Client": client_id,
        "X-LienThong-Key": read_key(key_file),
        "X-Road-UserId": official,
        "X-Road-Issue": issue,
        "X-LienThong-Purpose": purpose,
        "X-LienThong-Legal-Basis": ground,
        "Content-Type": content_type if body else "",
        "Prefer": prefer if as_command else "",
        "Idempotency-Key": idempotency_key,
        "X-LienThong-Order-Key": order_key,
    }
    answer = send(ClientCall(url, f"/r1/{service}{path}", method, body, headers), ca)
    answer.show(include)
    if answer.status >= 400:
        sys.exit(1)
