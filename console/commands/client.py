"""`lienthong client add|list|key|certificate|webhook`: credentials, limits and webhooks of client systems."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from console.output import emit, json_option, reports_errors

_HOME = click.option("--home", type=click.Path(path_type=Path, exists=True), required=True, help="Home of the member.")
_NEXT = "next      start the gateway, or kill -HUP it when it runs"


@click.group()
def client() -> None:
    """Give client systems their credentials and limits."""


@client.command()
@click.argument("name")
@_HOME
@click.option("--subsystem", "subsystems", multiple=True, required=True, help="Code that it may act as; repeatable.")
@click.option(
    "--certificate", type=click.Path(path_type=Path, exists=True), help="Its TLS certificate, instead of a key."
)
@click.option("--max-in-flight", type=click.IntRange(1), help="Calls that it may have under way at once.")
@click.option("--per-second", type=click.FloatRange(0, min_open=True), help="Calls that it may make a second.")
@json_option
@reports_errors
def add(
    name: str,
    home: Path,
    subsystems: tuple[str, ...],
    certificate: Path | None,
    max_in_flight: int | None,
    per_second: float | None,
    as_json: bool,
) -> None:
    """Let the client system NAME act as subsystems. Prints its key once; only a slow hash is kept."""
    from console.clients import check_name, digest_of, make_key, part_of, render
    from console.homes import MemberHome, write_new
    from evidence.identifiers import check_creatable

    member = MemberHome(home)
    check_name(name)
    for code in subsystems:
        check_creatable(code)
    identifiers = [f"{member.facts.member}/{code}" for code in subsystems]
    values: dict[str, Any] = {"name": name, "subsystems": identifiers}
    result: dict[str, Any] = {"client": name, "subsystems": identifiers}
    if certificate is not None:
        values["certificate_sha256"] = result["certificate_sha256"] = digest_of(certificate)
    else:
        result["key"], values["key"] = make_key(member, "clients", name, name)
    values |= {"max_in_flight": max_in_flight, "per_second": per_second}
    write_new(part_of(member, name), render("client", values), 0o644)
    shown = f"key       {result['key']}   (shown once; send it as X-LienThong-Key)\n" if "key" in result else ""
    emit(result, f"client    {name}\nacts as   {', '.join(identifiers)}\n{shown}{_NEXT}", as_json)


@client.command("list")
@_HOME
@json_option
@reports_errors
def list_clients(home: Path, as_json: bool) -> None:
    """The client systems of this gateway's settings."""
    from bus.settings import load_settings
    from console.homes import MemberHome

    rows: list[dict[str, Any]] = [
        {
            "client": one.name,
            "subsystems": list(one.subsystems),
            "keys": (one.key is not None) + len(one.further_keys),
            "certificates": [digest for digest in (one.certificate_sha256, *one.further_certificates_sha256) if digest],
            "max_in_flight": one.max_in_flight,
            "per_second": one.per_second,
            "webhook_url": one.webhook_url,
        }
        for one in load_settings(MemberHome(home).settings).client
    ]
    text = "\n".join(
        f"{row['client']}  {row['keys']} keys, {len(row['certificates'])} certificates  {', '.join(row['subsystems'])}"
        for row in rows
    )
    emit({"clients": rows}, text or "there are none; see `lienthong client add --help`", as_json)


@client.command()
@click.argument("name")
@_HOME
@click.option("--remove", type=click.IntRange(1), help="Take this key away instead: its number, the oldest is 1.")
@json_option
@reports_errors
def key(name: str, home: Path, remove: int | None, as_json: bool) -> None:
    """Give the client system NAME a further key, so that its key can be replaced without a gap."""
    from console.clients import add_key, remove_key
    from console.homes import MemberHome

    if remove is not None:
        gone = remove_key(MemberHome(home), name, remove)
        emit({"client": name, "removed": gone}, f"removed   {gone}\n{_NEXT}", as_json)
        return
    made = add_key(MemberHome(home), name)
    text = f"key       {made}   (shown once; the earlier ones stay good until they are removed)\n{_NEXT}"
    emit({"client": name, "key": made}, text, as_json)


@client.command()
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@_HOME
@json_option
@reports_errors
def certificate(name: str, file: Path, home: Path, as_json: bool) -> None:
    """Bind a further TLS certificate to the client system NAME."""
    from console.clients import add_certificate
    from console.homes import MemberHome

    digest = add_certificate(MemberHome(home), name, file)
    emit({"client": name, "certificate_sha256": digest}, f"bound     sha256:{digest}\n{_NEXT}", as_json)


@client.command()
@click.argument("name")
@click.argument("url", required=False)
@_HOME
@click.option(
    "--ca", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Authority of its certificate."
)
@click.option("--remove", is_flag=True, help="Tell it nothing any more.")
@json_option
@reports_errors
def webhook(name: str, url: str | None, home: Path, ca: Path | None, remove: bool, as_json: bool) -> None:
    """Tell the client system NAME the end of its commands at URL. Prints the secret of the signatures, a new one."""
    from console.clients import remove_webhook, set_webhook
    from console.homes import MemberHome

    if remove == (url is not None):
        raise click.UsageError("name a URL, or say --remove")
    if url is None:
        remove_webhook(MemberHome(home), name)
        emit({"client": name, "webhook_url": ""}, f"removed   the webhook of {name}\n{_NEXT}", as_json)
        return
    secret = set_webhook(MemberHome(home), name, url, ca)
    text = f"webhook   {url}\nsecret    {secret}   (the receiver checks signatures with it)\n{_NEXT}"
    emit({"client": name, "webhook_url": url, "secret": secret}, text, as_json)
