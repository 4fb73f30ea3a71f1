"""Publishing services and changing them. How they come into force is `ownword`'s; rights are in `rights`."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from adapters.kinds import load_kind
from adapters.port import SilentObserver
from bus.errors import BusError, SettingsInvalid
from console.homes import HomeInvalid, MemberHome, replace_file
from console.membership import Speaker, call_registry
from console.operations import operation_ids
from console.ownword import copied_predecessor, kept_predecessor, own_store, publish_own
from console.predecessors import Predecessor
from evidence.header import encode_time
from evidence.identifiers import MemberId, ServiceId, SubsystemId, check_creatable
from registry.client import RegistryClient
from registry.contract import Change, Contract, diff_contracts, marked_fields, parse_contract
from registry.documents import Deprecation, Operation, Service
from registry.own import OwnStore
from registry.view import Limits


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
    settings = readtoml_value(settings_path) if settings_path is not None else {}
    settings = absolute_paths(settings, settings_path.parent if settings_path is not None else home.path)
    load_kind(kind).build(settings, SilentObserver())
    part = home.settings_parts / f"service-{code.replace('/', '-')}.toml"
    kept = hand_written(part, identifier)  # before anything is published: the file may be broken
    said = {
        **_told_by_contract(data, parsed),
        "limits": Limits(deadline_s=deadline_s, max_concurrent=max_concurrent),
    }
    speaker = Speaker.member(home)
    own = own_store(home)

    async def work(client: RegistryClient) -> list[Change]:
        before = await copied_predecessor(client, home, own, Service, identifier)
        known = None if before is None else before.document
        changes = await _changes_since(client, known, data)
        _refuse_breaking(changes, identifier, known, parsed.version)
        await client.put_contract(said["contract"], data)
        # What it does not name (enabled, notice, until, resumes) stays: a new contract switches nothing on or off.
        says = {**said, "deprecated": _still_deprecated(known, parsed)}
        if before is None:
            signed = await speaker.compose(client, Service, identifier, **says)
        else:
            signed = await speaker.amend(client, before, **says)
        await publish_own(client, own, signed)
        return changes

    try:
        changes = call_registry(home.facts.registry, work)
    finally:
        own.close()
    replace_file(part, render_service(identifier, kind, settings, kept).encode(), 0o644)
    return {
        "service": identifier,
        "contract": said["contract"],
        "version": parsed.version,
        "operations": [operation.id for operation in said["operations"]],
        "fields": list(said["fields"]),
        "backend": part,
        "changes": [change._asdict() for change in changes],
    }


def _told_by_contract(data: bytes, parsed: Contract) -> dict[str, Any]:
    """What a service's document repeats of its contract, so that callers can route and decide without it."""
    return {
        "contract": hashlib.sha256(data).hexdigest(),
        "title": parsed.title[:512],
        "version": parsed.version[:512],
        "operations": tuple(
            msgspec.convert({"id": one.id, "method": one.method, "path": one.path_template}, Operation)
            for one in parsed.operations.values()
        ),
        "fields": tuple(sorted({name for names in marked_fields(parsed).values() for name in names})),
    }


def readtoml_value(path: Path) -> dict[str, Any]:
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


def hand_written(part: Path, identifier: str) -> dict[str, Any]:
    """What the service's file says beyond what publishing writes, such as `[service.commands]`; empty without a file.

    Raises:
        SettingsInvalid: the file is not TOML.
    """
    if not part.exists():
        return {}
    told = readtoml_value(part).get("service", [])
    mine = next((one for one in told if isinstance(one, dict) and one.get("id") == identifier), {})
    return {key: value for key, value in mine.items() if key not in ("id", "kind", "settings")}


def render_service(identifier: str, kind: str, settings: dict[str, Any], kept: Mapping[str, Any] | None = None) -> str:
    """The TOML part of a service; `kept` are further keys of it."""
    told = {"id": identifier, "kind": kind, "settings": settings, **(kept or {})}
    return "[[service]]\n" + "".join(f"{key} = {toml_value(value)}\n" for key, value in told.items())


def toml_value(value: Any) -> str:
    """A value as TOML writes it: tables inline."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{toml_value(str(key))} = {toml_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, (bool, str)):
        # JSON's strings are TOML's basic strings but for DEL, which TOML wants escaped
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value)


class BreakingChange(BusError):
    """The new contract would break callers of the same version."""

    code = "breaking-change"
    title = "The contract breaks callers of the same version"
    disposition = "halt"


def contract_changes(before: bytes, after: bytes) -> list[Change]:
    """What changed between two contracts.

    Raises:
        ContractRejected: one of them is none.
    """
    return diff_contracts(parse_contract(before), parse_contract(after))


def published_contract(home: MemberHome, code: str) -> bytes:
    """The contract of SUBSYSTEM/SERVICE as it was last published.

    Raises:
        HomeInvalid: it was never published.
    """
    identifier = service_id(home, code)

    own = own_store(home)

    async def work(client: RegistryClient) -> bytes:
        before = await published_service(client, home, own, identifier)
        return await client.contract(before.document.contract)

    try:
        return call_registry(home.facts.registry, work)
    finally:
        own.close()


async def _changes_since(client: RegistryClient, newest: Service | None, data: bytes) -> list[Change]:
    if newest is None or newest.contract == hashlib.sha256(data).hexdigest():
        return []
    before = await client.contract(newest.contract)
    if hashlib.sha256(before).hexdigest() != newest.contract:
        raise BreakingChange("the registry gave another contract than the one published; nothing was changed")
    return contract_changes(before, data)


def _refuse_breaking(changes: list[Change], identifier: str, before: Service | None, version: str) -> None:
    broken = [change for change in changes if change.breaking]
    if broken and before is not None and before.version == version[:512]:
        told = "\n".join(f"  {change.pointer}  {change.message}" for change in broken[:20])
        raise BreakingChange(
            f"{len(broken)} changes break callers of {identifier} {version}:\n{told}\n"
            "give the contract a new version, or publish it as another service beside this one"
        )


async def published_service(
    client: RegistryClient, home: MemberHome, own: OwnStore, identifier: str
) -> Predecessor[Service]:
    """The service as this provider last published it.

    Raises:
        HomeInvalid: it never was.
        PredecessorUnproven: what the registry gave is not what this provider signed last.
    """
    before = await kept_predecessor(client, home, own, Service, identifier)
    if before is None:
        raise HomeInvalid(f"{identifier} was never published")
    return before


def change_service(home: MemberHome, code: str, change: Callable[[Service], dict[str, Any]]) -> Service:
    """Publishes a service again with other values of some fields.

    Args:
        home: of its provider.
        code: SUBSYSTEM/SERVICE.
        change: gives the fields that change.

    Raises:
        HomeInvalid: it was never published.
    """
    identifier = service_id(home, code)
    speaker, own = Speaker.member(home), own_store(home)

    async def work(client: RegistryClient) -> Service:
        before = await published_service(client, home, own, identifier)
        signed = await speaker.amend(client, before, **change(before.document))
        made = await publish_own(client, own, signed)
        assert isinstance(made, Service)
        return made

    try:
        return call_registry(home.facts.registry, work)
    finally:
        own.close()


def switch_service(home: MemberHome, code: str, enabled: bool, notice: str, resumes: str | None = None) -> str:
    """Switches a service on or off; its identifier.

    Raises:
        HomeInvalid: it was never published.
    """
    said = {"enabled": enabled, "notice": notice, "resumes": resumes}
    return change_service(home, code, lambda _: said).subject


def deprecate_operations(
    home: MemberHome, code: str, named: tuple[str, ...], sunset: str | None, *, undo: bool
) -> tuple[Deprecation, ...]:
    """Marks operations as deprecated, or takes that back; everything that is deprecated now.

    Raises:
        HomeInvalid: there is no such service or operation.
    """

    def change(service: Service) -> dict[str, Any]:
        chosen = operation_ids(service, named)
        if unknown := set(chosen) - {one.id for one in service.operations}:
            raise HomeInvalid(f"{service.subject} has no operation {', '.join(sorted(unknown))}")
        told = {one.operation: one for one in service.deprecated}
        for id_ in chosen:
            before = told.pop(id_, None)
            if not undo:
                since = encode_time(datetime.now(UTC)) if before is None else before.since
                told[id_] = Deprecation(operation=id_, since=since, sunset=sunset)
        return {"deprecated": tuple(told.values())}

    return change_service(home, code, change).deprecated


def _still_deprecated(before: Service | None, contract: Contract) -> tuple[Deprecation, ...]:
    """What was said before and still exists, and what the contract itself says."""
    known = {one.operation: one for one in (before.deprecated if before is not None else ())}
    now = encode_time(datetime.now(UTC))
    return tuple(
        known.get(id_) or Deprecation(operation=id_, since=now)
        for id_, operation in contract.operations.items()
        if operation.deprecated or id_ in known
    )
