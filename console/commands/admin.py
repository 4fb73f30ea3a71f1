"""`lienthong admin key|status|maintenance|reload|ask`: the admin API of a gateway and the keys for it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from console.output import emit, json_option, reports_errors

_HOME = click.option("--home", type=click.Path(path_type=Path, exists=True), required=True, help="Home of the member.")
_KEY = click.option(
    "--key-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    required=True,
    envvar="LIENTHONG_ADMIN_KEY_FILE",
    help="File with the admin key (or LIENTHONG_ADMIN_KEY_FILE).",
)


@click.group()
def admin() -> None:
    """Operate a running gateway through its admin API; every act is recorded in its log."""


@admin.group()
def key() -> None:
    """Make, list and remove keys for the admin API."""


@key.command()
@click.argument("name")
@_HOME
@click.option("--role", "roles", multiple=True, required=True, help="A role that the key carries; repeatable.")
@json_option
@reports_errors
def add(name: str, home: Path, roles: tuple[str, ...], as_json: bool) -> None:
    """Make the admin key NAME. It is printed once; only a slow hash is kept.

    Roles: XROAD_SECURITY_OFFICER, XROAD_REGISTRATION_OFFICER, XROAD_SERVICE_ADMINISTRATOR, XROAD_SYSTEM_ADMINISTRATOR,
    XROAD_SECURITYSERVER_OBSERVER, auditor.
    """
    import re

    from bus.settings import ROLES
    from console.clients import make_key, render
    from console.homes import HomeInvalid, MemberHome, write_new

    member = MemberHome(home)
    if unknown := [role for role in roles if role not in ROLES]:
        raise HomeInvalid(f"{', '.join(unknown)}: the roles are {', '.join(ROLES)}")
    if not re.fullmatch(r"[A-Za-z0-9-]{1,64}", name):
        raise HomeInvalid("the name of an admin key is 1 to 64 letters, digits and '-'")
    made, file = make_key(member, "admin", name, name)
    values = {"name": name, "roles": list(dict.fromkeys(roles)), "key": file}
    write_new(member.settings_parts / f"admin-key-{name}.toml", render("admin_key", values), 0o644)
    emit(
        {"name": name, "roles": list(roles), "key": made},
        f"key       {made}   (shown once)\nroles     {', '.join(roles)}\n"
        "next      start the gateway, or kill -HUP it when it runs",
        as_json,
    )


@key.command()
@click.argument("name")
@_HOME
@json_option
@reports_errors
def remove(name: str, home: Path, as_json: bool) -> None:
    """Take the admin key NAME away."""
    from console.homes import HomeInvalid, MemberHome

    member = MemberHome(home)
    part = member.settings_parts / f"admin-key-{Path(name).name}.toml"
    if not part.exists():
        raise HomeInvalid(f"there is no admin key {name}; see `lienthong admin key list`")
    part.unlink()
    (member.keys / "admin" / f"{Path(name).name}.hash").unlink(missing_ok=True)
    emit({"name": name, "removed": True}, f"removed   {name}\nnext      kill -HUP the gateway when it runs", as_json)


@key.command("list")
@_HOME
@json_option
@reports_errors
def list_keys(home: Path, as_json: bool) -> None:
    """The admin keys of this gateway's settings."""
    from bus.settings import load_settings
    from console.homes import MemberHome

    rows = [{"name": one.name, "roles": list(one.roles)} for one in load_settings(MemberHome(home).settings).admin_key]
    text = "\n".join(f"{row['name']:<20} {', '.join(row['roles'])}" for row in rows)
    emit({"keys": rows}, text or "there are none; see `lienthong admin key add --help`", as_json)


def _ask(home: Path, key_file: Path, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    from console.adminport import ask
    from console.homes import MemberHome

    found: dict[str, Any] = json.loads(ask(MemberHome(home), key_file, method, path, body))
    return found


@admin.command()
@_HOME
@_KEY
@json_option
@reports_errors
def status(home: Path, key_file: Path, as_json: bool) -> None:
    """Facts about the running node."""
    found = _ask(home, key_file, "GET", "/status")
    lines = [
        f"node      {found['node']}",
        f"log       {found['log']['size']} records, root {found['log']['root']}",
        f"directory {found['directory']['view']}",
    ]
    lines += [
        f"{'ok  ' if check['ok'] else 'FAIL'}      {check['name']}  {check['code']} {check['detail']}".rstrip()
        for check in found["checks"]
    ]
    emit(found, "\n".join(lines), as_json)


@admin.command()
@click.argument("state", type=click.Choice(["on", "off"]))
@_HOME
@_KEY
@click.option("--notice", default="", help="Why; clients read it.")
@click.option("--until", type=click.DateTime(), help="When it is expected to end (UTC); clients are told to wait.")
@json_option
@reports_errors
def maintenance(state: str, home: Path, key_file: Path, notice: str, until: datetime | None, as_json: bool) -> None:
    """Take no calls (on, with a notice), or take them again (off); kept over restarts."""
    from console.homes import HomeInvalid

    if state == "off":
        found = _ask(home, key_file, "DELETE", "/maintenance")
        emit(found, "calls are taken", as_json)
        return
    if not notice:
        raise HomeInvalid("say why: --notice TEXT; clients read it")
    told = None if until is None else until.replace(tzinfo=UTC).isoformat()
    found = _ask(home, key_file, "PUT", "/maintenance", {"notice": notice, "until": told})
    emit(found, "calls are refused with 503 and the notice\nnext      lienthong admin maintenance off …", as_json)


@admin.command()
@_HOME
@_KEY
@json_option
@reports_errors
def reload(home: Path, key_file: Path, as_json: bool) -> None:
    """Read the settings again, all or nothing; the same as SIGHUP."""
    found = _ask(home, key_file, "POST", "/reload")
    emit(found, f"{found['services']} services, {found['clients']} client systems", as_json)


@admin.command()
@click.argument("path")
@_HOME
@_KEY
@json_option
@reports_errors
def ask(path: str, home: Path, key_file: Path, as_json: bool) -> None:
    """Read PATH of the admin API, like /clients, /evidence/checkpoint, /evidence/records/0/proof."""
    from console.adminport import ask as ask_gateway
    from console.homes import MemberHome

    body = ask_gateway(MemberHome(home), key_file, "GET", path if path.startswith("/") else f"/{path}")
    text = body.decode("utf-8", "replace")
    result: dict[str, Any] = json.loads(text) if text.startswith("{") else {"text": text}
    emit(result, text.rstrip("\n"), as_json)
