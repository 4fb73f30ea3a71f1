"""`lienthong call`: one call through a gateway, as a client system makes it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from console.output import reports_errors


@click.command()
@click.argument("service")
@click.argument("path", default="")
@click.option("--gateway", "url", required=True, help="Address of the gateway's front, https://host:port.")
@click.option("--ca", type=click.Path(path_type=Path, exists=True), help="Authority of the front (tls/ca.crt).")
@click.option("--client", "client_id", required=True, help="Subsystem that calls: INSTANCE/CLASS/MEMBER/SUBSYSTEM.")
@click.option("--key-file", type=click.Path(path_type=Path, exists=True), required=True, help="File with the API key.")
@click.option("-X", "--method", default="GET", show_default=True, help="HTTP method.")
@click.option("--data", help="JSON body; @FILE reads a file.")
@click.option("--content-type", default="application/json", show_default=True, help="Content type of the body.")
@click.option("--official", default="", help="Acting official (X-Road-UserId).")
@click.option("--purpose", default="", help="Purpose (X-LienThong-Purpose).")
@click.option("--ground", default="", help="Legal ground (X-LienThong-Legal-Basis).")
@click.option("--issue", default="", help="Dossier code (X-Road-Issue).")
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
    include: bool,
) -> None:
    """Call SERVICE (INSTANCE/CLASS/MEMBER/SUBSYSTEM/SERVICE) at PATH. Exit code 1 for HTTP errors."""
    import asyncio
    import ssl

    import aiohttp
    from yarl import URL

    from bus.errors import CredentialsInvalid, ProviderUnavailable, RequestMalformed
    from console.addresses import check_url

    check_url(url, "--gateway")
    try:
        key = key_file.read_text(encoding="ascii").strip()
    except UnicodeDecodeError as error:
        raise CredentialsInvalid(f"{key_file} does not hold a key") from error
    body = Path(data[1:]).read_bytes() if data is not None and data.startswith("@") else (data or "").encode()
    headers = {
        "X-Road-Client": client_id,
        "X-LienThong-Key": key,
        "X-Road-UserId": official,
        "X-Road-Issue": issue,
        "X-LienThong-Purpose": purpose,
        "X-LienThong-Legal-Basis": ground,
    }
    if body:
        headers["Content-Type"] = content_type

    async def send() -> int:
        context = ssl.create_default_context(cafile=str(ca)) if ca is not None else ssl.create_default_context()
        target = URL(f"{url.rstrip('/')}/r1/{service}{path}", encoded=True)
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session,
            session.request(
                method, target, data=body or None, headers={k: v for k, v in headers.items() if v}, ssl=context
            ) as answer,
        ):
            content = await answer.read()
            if include:
                click.echo(f"HTTP {answer.status}")
                for name, value in answer.headers.items():
                    click.echo(f"{name}: {value}")
                click.echo("")
            click.echo(content.decode("utf-8", "replace"))
            return answer.status

    try:
        status = asyncio.run(send())
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ProviderUnavailable(f"the gateway at {url} does not answer ({type(error).__name__})") from error
    except ValueError as error:
        raise RequestMalformed(
            "the method, the path or a header cannot be sent; look for spaces and line breaks"
        ) from error
    if status >= 400:
        sys.exit(1)
