"""A provider's own word: publishing services, into its own store first, then to the directory. Rights: `rights`."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from adapters.kinds import load_kind
from adapters.port import SilentObserver
from bus.errors import SettingsInvalid
from console.homes import HomeInvalid, MemberHome, replace_file
from console.membership import Speaker, call_registry
from evidence.identifiers import MemberId, ServiceId, SubsystemId, check_creatable
from registry.client import RegistryClient
from registry.contract import marked_fields, parse_contract
from registry.documents import Operation, Service
from registry.own import OwnStore
from registry.view import Limits


def own_store(home: MemberHome) -> OwnStore:
    """The provider's own documents; close it."""
    facts = home.facts
    home.data.mkdir(mode=0o700, exist_ok=True)
    return OwnStore(home.data / "own.db", genesis=facts.genesis, member=facts.member)


def service_id(home: MemberHome, code: str) -> str:
    """`INSTANCE/CLASS/MEMBER/SUBSYSTEM/SERVICE` of `SUBSYSTEM/SERVICE`.

    Raises:
        HomeInvalid: not two parts.
    """
    parts = code.split("/")
    if len(parts) != 2:
        raise HomeInvalid(f"{code!r}: write SUBSYSTEM/SERVICE, like population/citizens")
    for part in parts:
        check_creatable(part)
    return str(ServiceId(SubsystemId(MemberId.parse(home.facts.member), parts[0]), parts[1]))


def publish_service(
    home: MemberHome,
    code: str,
    contract_path: Path,
    kind: str,
    settings_path: Path | None,
    deadline_s: float,
    max_concurrent: int,
) -> dict[str, Any]:
    """Checks contract and back-end settings, then publishes and configures.

    Raises:
        ContractRejected: with every JSON pointer.
        AdapterError: the kind or its settings are not usable.
        RegistryError: the registry refused.
    """
    identifier = service_id(home, code)
    data = contract_path.read_bytes()
    parsed = parse_contract(data)
    settings = read_toml(settings_path) if settings_path is not None else {}
    settings = absolute_paths(settings, settings_path.parent if settings_path is not None else home.path)
    load_kind(kind).build(settings, SilentObserver())
    digest = hashlib.sha256(data).hexdigest()
    operations = tuple(
        msgspec.convert({"id": one.id, "method": one.method, "path": one.path_template}, Operation)
        for one in parsed.operations.values()
    )
    fields = tuple(sorted({name for names in marked_fields(parsed).values() for name in names}))
    speaker = Speaker.member(home)
    own = own_store(home)

    async def work(client: RegistryClient) -> None:
        await client.put_contract(digest, data)
        signed = await speaker.compose(
            client,
            Service,
            identifier,
            contract=digest,
            title=parsed.title[:512],
            version=parsed.version[:512],
            operations=operations,
            fields=fields,
            limits=Limits(deadline_s=deadline_s, max_concurrent=max_concurrent),
        )
        await client.submit(signed)
        own.put(signed)

    try:
        call_registry(home.facts.registry, work)
    finally:
        own.close()
    part = home.settings_parts / f"service-{code.replace('/', '-')}.toml"
    replace_file(part, render_service(identifier, kind, settings).encode(), 0o644)
    return {
        "service": identifier,
        "contract": digest,
        "version": parsed.version,
        "operations": [operation.id for operation in operations],
        "fields": list(fields),
        "backend": part,
    }


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file.

    Raises:
        SettingsInvalid: it is not one.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        line = re.search(r"line (\d+)", str(error))
        raise SettingsInvalid([(int(line[1]) if line else 0, "", f"not TOML ({error})")], str(path)) from error


def absolute_paths(settings: dict[str, Any], base: Path) -> dict[str, Any]:
    """Settings whose `*_file` values and `sqlite:///` addresses do not depend on the working folder."""
    changed: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            changed[key] = absolute_paths(value, base)
        elif isinstance(value, str) and key.endswith("_file") and not value.startswith("/"):
            changed[key] = str((base / value).resolve())
        elif isinstance(value, str) and value.startswith("sqlite:///") and not value.startswith("sqlite:////"):
            changed[key] = f"sqlite:///{(base / value.removeprefix('sqlite:///')).resolve()}"
        else:
            changed[key] = value
    return changed


def render_service(identifier: str, kind: str, settings: dict[str, Any]) -> str:
    """The TOML part of a service."""
    head = f"[[service]]\nid = {_toml(identifier)}\nkind = {_toml(kind)}\n"
    return head + f"settings = {_toml(settings)}\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_toml(str(key))} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, (bool, str)):
        # JSON's strings are TOML's basic strings but for DEL, which TOML wants escaped
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value)


def switch_service(home: MemberHome, code: str, enabled: bool, notice: str) -> str:
    """Publishes the service again, switched on or off.

    Raises:
        HomeInvalid: it was never published.
    """
    identifier = service_id(home, code)
    speaker, own = Speaker.member(home), own_store(home)

    async def work(client: RegistryClient) -> None:
        newest = await client.newest("service", identifier)
        if newest is None:
            raise HomeInvalid(f"{identifier} was never published")
        document = newest.document
        assert isinstance(document, Service)
        kept = {
            name: getattr(document, name)
            for name in ("contract", "title", "version", "operations", "fields", "limits", "until")
        }
        signed = await speaker.compose(client, Service, identifier, enabled=enabled, notice=notice, **kept)
        await client.submit(signed)
        own.put(signed)

    try:
        call_registry(home.facts.registry, work)
    finally:
        own.close()
    return identifier
