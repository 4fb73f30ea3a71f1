"""Client systems and admin keys of a gateway: their files in `gateway.d`, and the slow hashes of their keys."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import tomllib
from pathlib import Path
from typing import Any

from bus.front.keyring import hash_key
from bus.settings import MOST_KEYS, WEBHOOK_URL
from console.homes import HomeInvalid, MemberHome, replace_file, write_new
from console.services import toml_value
from evidence.identifiers import check_creatable
from evidence.x509 import load_pem_chain


def check_name(name: str) -> None:
    """A name that can be the first part of a key.

    Raises:
        HomeInvalid: it has a dot. IdentifierInvalid: other characters that cannot be created.
    """
    check_creatable(name)
    if "." in name:
        raise HomeInvalid("the name of a client system has no dot")


def part_of(home: MemberHome, name: str) -> Path:
    """The settings file of a client system."""
    return home.settings_parts / f"client-{name}.toml"


def read_client(home: MemberHome, name: str) -> dict[str, Any]:
    """The settings of a client system that `client add` made.

    Raises:
        HomeInvalid: there is none, or its file is not what the command wrote.
    """
    try:
        (client,) = tomllib.loads(part_of(home, name).read_text(encoding="utf-8"))["client"]
    except FileNotFoundError as error:
        raise HomeInvalid(f"there is no client system {name}; make it with `lienthong client add`") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, ValueError) as error:
        raise HomeInvalid(f"{part_of(home, name)} is not what `lienthong client add` writes") from error
    found: dict[str, Any] = client
    return found


def render(table: str, values: dict[str, Any]) -> bytes:
    """A settings part with one entry of an array of tables; empty values are left out."""
    lines = [f"{key} = {toml_value(value)}" for key, value in values.items() if value not in (None, "", [], ())]
    return "\n".join([f"[[{table}]]", *lines, ""]).encode()


def keys_of(client: dict[str, Any]) -> list[str]:
    """Hash files of a client system's keys, oldest first."""
    return ([client["key"]] if "key" in client else []) + list(client.get("further_keys", []))


def with_keys(client: dict[str, Any], files: list[str]) -> dict[str, Any]:
    """The settings with other keys."""
    rest = {key: value for key, value in client.items() if key not in ("key", "further_keys")}
    return rest | {"key": files[0] if files else None, "further_keys": files[1:]}


def make_key(home: MemberHome, folder: str, name: str, label: str) -> tuple[str, str]:
    """A new key: the key itself, which is kept nowhere, and its hash file relative to the home."""
    key = f"{name}.{secrets.token_urlsafe(32)}"
    file = Path("keys") / folder / f"{label}.hash"
    write_new(home.path / file, hash_key(key, os.urandom(16)).encode())
    return key, str(file)


def add_key(home: MemberHome, name: str) -> str:
    """A further key of a client system; the earlier ones stay good.

    Raises:
        HomeInvalid: there is no such client system, or it has as many keys as there may be.
    """
    client = read_client(home, name)
    files = keys_of(client)
    if len(files) >= MOST_KEYS:
        raise HomeInvalid(f"{name} has {len(files)} keys; remove one first")
    number = next(n for n in range(1, MOST_KEYS + 2) if str(_hash_file(name, n)) not in files)
    key, file = make_key(home, "clients", name, _hash_file(name, number).stem)
    replace_file(part_of(home, name), render("client", with_keys(client, [*files, file])), 0o644)
    return key


def _hash_file(name: str, number: int) -> Path:
    return Path("keys") / "clients" / (f"{name}.hash" if number == 1 else f"{name}.{number}.hash")


def remove_key(home: MemberHome, name: str, number: int) -> str:
    """Takes the key with that number (from 1, oldest first) away; its hash file.

    Raises:
        HomeInvalid: there is no such key, or it is the last credential.
    """
    client = read_client(home, name)
    files = keys_of(client)
    if not 1 <= number <= len(files):
        raise HomeInvalid(f"{name} has {len(files)} keys; name one by its number, from 1")
    if len(files) == 1 and not certificates_of(client):
        raise HomeInvalid(f"this is the only credential of {name}; add another one first")
    gone = files.pop(number - 1)
    replace_file(part_of(home, name), render("client", with_keys(client, files)), 0o644)
    (home.path / gone).unlink(missing_ok=True)
    return gone


def certificates_of(client: dict[str, Any]) -> list[str]:
    """Digests of a client system's certificates, oldest first."""
    first = [client["certificate_sha256"]] if client.get("certificate_sha256") else []
    return first + list(client.get("further_certificates_sha256", []))


def add_certificate(home: MemberHome, name: str, certificate: Path) -> str:
    """Binds a further TLS certificate to a client system; its digest.

    Raises:
        HomeInvalid: there is no such client system.
        EvidenceError: the file is no certificate.
    """
    client, digest = read_client(home, name), digest_of(certificate)
    digests = list(dict.fromkeys([*certificates_of(client), digest]))
    changed = client | {"certificate_sha256": digests[0], "further_certificates_sha256": digests[1:]}
    replace_file(part_of(home, name), render("client", changed), 0o644)
    return digest


def digest_of(certificate: Path) -> str:
    """SHA-256 of a certificate's DER form, hex.

    Raises:
        EvidenceError: the file is no certificate.
    """
    return hashlib.sha256(load_pem_chain(certificate.read_bytes())[0]).hexdigest()


def set_webhook(home: MemberHome, name: str, url: str, ca: Path | None) -> str:
    """Has a client system told at that address, with a new secret, which it gives.

    Raises:
        HomeInvalid: there is no such client system, or the address cannot be one.
    """
    client = read_client(home, name)
    if not WEBHOOK_URL.fullmatch(url):
        raise HomeInvalid("the address must be https:// (or http:// on a network of your own), host and path")
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    file = Path("keys") / "webhooks" / f"{name}.secret"
    replace_file(home.path / file, f"{secret}\n".encode(), 0o600)
    told = {"webhook_url": url, "webhook_secret": str(file), "webhook_ca": "" if ca is None else str(ca.resolve())}
    replace_file(part_of(home, name), render("client", client | told), 0o644)
    return secret


def remove_webhook(home: MemberHome, name: str) -> None:
    """Has a client system told nothing any more; its secret is gone.

    Raises:
        HomeInvalid: there is no such client system.
    """
    client = read_client(home, name)
    file = client.get("webhook_secret")
    rest = {key: value for key, value in client.items() if not key.startswith("webhook_")}
    replace_file(part_of(home, name), render("client", rest), 0o644)
    if file:
        (home.path / file).unlink(missing_ok=True)
