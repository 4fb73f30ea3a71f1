"""`lienthong client add`: credentials of a client system at its gateway."""

from __future__ import annotations

from pathlib import Path

import click

from console.output import emit, json_option, reports_errors


@click.group()
def client() -> None:
    """Give client systems their credentials."""


@client.command()
@click.argument("name")
@click.option("--home", type=click.Path(path_type=Path, exists=True), required=True, help="Home of the member.")
@click.option("--subsystem", "subsystems", multiple=True, required=True, help="Code that it may act as; repeatable.")
@click.option(
    "--certificate", type=click.Path(path_type=Path, exists=True), help="Its TLS certificate, instead of a key."
)
@json_option
@reports_errors
def add(name: str, home: Path, subsystems: tuple[str, ...], certificate: Path | None, as_json: bool) -> None:
    """Let the client system NAME act as subsystems. Prints its key once; only a slow hash is kept."""
    import hashlib
    import os
    import secrets

    from bus.front.credentials import hash_key
    from console.homes import HomeInvalid, MemberHome, write_new
    from evidence.identifiers import check_creatable
    from evidence.x509 import load_pem_chain

    member_home = MemberHome(home)
    check_creatable(name)
    if "." in name:
        raise HomeInvalid("the name of a client system has no dot")
    for code in subsystems:
        check_creatable(code)
    identifiers = [f"{member_home.facts.member}/{code}" for code in subsystems]
    lines = ["[[client]]", f'name = "{name}"', f"subsystems = {identifiers!r}".replace("'", '"')]
    result: dict[str, object] = {"client": name, "subsystems": identifiers}
    if certificate is not None:
        digest = hashlib.sha256(load_pem_chain(certificate.read_bytes())[0]).hexdigest()
        lines.append(f'certificate_sha256 = "{digest}"')
        result["certificate_sha256"] = digest
    else:
        key = f"{name}.{secrets.token_urlsafe(32)}"
        hash_file = Path("keys") / "clients" / f"{name}.hash"
        write_new(home / hash_file, hash_key(key, os.urandom(16)).encode())
        lines.append(f'key = "{hash_file}"')
        result["key"] = key
    write_new(member_home.settings_parts / f"client-{name}.toml", ("\n".join(lines) + "\n").encode(), 0o644)
    shown = f"key       {result['key']}   (shown once; send it as X-LienThong-Key)\n" if "key" in result else ""
    emit(
        result,
        f"client    {name}\nacts as   {', '.join(identifiers)}\n{shown}"
        "next      start the gateway, or kill -HUP it when it runs",
        as_json,
    )
