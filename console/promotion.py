"""A contract that was tried in one instance is published in another, byte for byte.

The two instances share nothing but the member: other genesis, other keys, other registry. What is carried over is the
contract and the service's limits; the back end behind it is named anew, because a test's data is not the real one.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from console.homes import HomeInvalid, MemberHome, replace_file
from console.membership import call_registry
from console.ownword import own_store
from console.services import publish_service, service_id
from registry.view import ServiceEntry


def promote_service(
    source: MemberHome, target: MemberHome, code: str, kind: str, settings_path: Path | None, digest: str
) -> dict[str, Any]:
    """Publishes a service of one home from another home, under the same contract.

    Args:
        source: Home in the instance where the contract was tried.
        target: Home in the instance where it is published.
        code: SUBSYSTEM/SERVICE, the same in both.
        kind: Kind of the back end in the target.
        settings_path: Its settings.
        digest: SHA-256 hex that the contract must have; empty takes what the source's own store says.

    Raises:
        HomeInvalid: nothing of that name is published and enabled there, or its contract is another one.
        RegistryError: a registry refused, or does not have the contract.
    """
    if source.facts.genesis == target.facts.genesis:
        raise HomeInvalid(f"{source.path} and {target.path} are of the same instance: there is nothing to promote")
    entry = _tried(source, code)
    if digest and digest != entry.contract_sha256:
        raise HomeInvalid(
            f"{entry.id} has the contract sha256:{entry.contract_sha256}, not sha256:{digest}: try that one first"
        )
    data = call_registry(source.facts.registry, lambda client: client.contract(entry.contract_sha256))
    if hashlib.sha256(data).hexdigest() != entry.contract_sha256:
        raise HomeInvalid(f"the registry of {source.facts.instance} served another contract than was published there")
    path = target.path / "contracts" / f"{entry.contract_sha256}.contract"
    replace_file(path, data, 0o644)
    limits = entry.limits
    made = publish_service(target, code, path, kind, settings_path, limits.deadline_s, limits.max_concurrent)
    return {**made, "from": entry.id}


def _tried(source: MemberHome, code: str) -> ServiceEntry:
    """What the member itself signed there; a registry's word does not count."""
    identifier = service_id(source, code)
    store = own_store(source)
    try:
        entry = store.state.service(identifier)
    finally:
        store.close()
    if entry is None or not entry.enabled:
        state = "was never published" if entry is None else "is disabled"
        raise HomeInvalid(f"{identifier} {state} from {source.path}: publish and try it there first")
    return entry
