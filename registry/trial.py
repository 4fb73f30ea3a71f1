"""The trial run of a contract before its service, or a right to it, is published.

A gateway would refuse what fails here, so it is refused where somebody can still correct it: the contract's bytes must
be there and parse, the service document must repeat its operations and marked fields, and for every right the contract
as granted must be derivable. Strangers' contracts go through `registry.contract.trial` first. Pure, and compiles for no
traffic (gateways do, for themselves).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from registry.contract import derive_granted, diff_contracts, marked_fields, parse_contract
from registry.decision import ANY
from registry.documents import Access, Catalogue, Service, Term
from registry.errors import ContractMismatch, DocumentRefused
from registry.view import AccessEntry, ServiceEntry


def try_service(document: Service, contract: bytes, rights: Iterable[AccessEntry]) -> None:
    """Check a service document against its contract, and the rights that exist already.

    Args:
        document: The service document.
        contract: Bytes of the contract that it names.
        rights: Rights to the service so far, each of which must stay derivable.

    Raises:
        ContractMismatch: Other bytes than announced, or other operations or marked fields than the document says.
        ContractError: The contract is refused, or cannot be cut for a right.
    """
    if hashlib.sha256(contract).hexdigest() != document.contract:
        raise ContractMismatch(f"the contract of {document.subject} has another digest than the document names")
    parsed = parse_contract(contract)
    announced = {operation.id: (operation.method, operation.path) for operation in document.operations}
    declared = {operation.id: (operation.method, operation.path_template) for operation in parsed.operations.values()}
    if announced != declared:
        names = sorted({id_ for id_, _ in announced.items() ^ declared.items()})
        raise ContractMismatch(f"operations of {document.subject} differ from its contract: {', '.join(names[:8])}")
    fields = frozenset[str]().union(*marked_fields(parsed).values())
    if fields != frozenset(document.fields):
        names = sorted(fields ^ frozenset(document.fields))
        raise ContractMismatch(f"marked fields of {document.subject} differ from its contract: {', '.join(names[:8])}")
    for granted in {right.fields for right in rights if ANY not in right.fields}:
        derive_granted(parsed, granted & fields)


def try_successor(document: Service, before: bytes, after: bytes, rights: Iterable[AccessEntry]) -> None:
    """Check a service document whose contract replaces another one of the same version: it must break no caller.

    Args:
        document: The service document.
        before: Bytes of the contract so far.
        after: Bytes of the new one.
        rights: As in `try_service`.

    Raises:
        DocumentRefused: It breaks callers; the changes are named.
        ContractMismatch: See `try_service`; so for ContractError.
    """
    try_service(document, after, rights)
    broken = [change for change in diff_contracts(parse_contract(before), parse_contract(after)) if change.breaking]
    if broken:
        told = "; ".join(f"{change.pointer} {change.message}" for change in broken[:8])
        raise DocumentRefused(
            "breaking-change",
            f"{len(broken)} changes break callers of {document.subject} {document.version}: {told}. Give the contract"
            " a new version, or publish it as another service beside this one",
        )


def try_access(document: Access, service: ServiceEntry, contract: bytes, catalogue: Catalogue | None = None) -> None:
    """Check an access right against the service and its contract, and its words against the instance's catalogue.

    Raises:
        DocumentRefused: It names an operation or a field that the service does not have, or a purpose or ground that
            the catalogue does not have.
        ContractError: The contract cannot be cut for it.
    """
    unknown = sorted(frozenset(document.operations or ()) - service.operations.keys())
    if unknown:
        raise DocumentRefused("operation-unknown", f"{service.id} has no operation {', '.join(unknown[:8])}")
    if catalogue is not None:
        _try_words("purpose", document.purposes, catalogue.purposes)
        _try_words("ground", document.grounds, catalogue.grounds)
    granted = frozenset(document.fields) - {ANY}
    missing = sorted(granted - service.fields)
    if missing:
        raise DocumentRefused("field-unknown", f"{service.id} has no marked field {', '.join(missing[:8])}")
    if ANY not in document.fields:
        derive_granted(parse_contract(contract), granted)


def _try_words(what: str, named: tuple[str, ...], known: tuple[Term, ...]) -> None:
    """An empty list of the catalogue leaves the words free."""
    unknown = sorted(frozenset(named) - {term.code for term in known} - {ANY}) if known else []
    if unknown:
        told = ", ".join(unknown[:8])
        raise DocumentRefused(f"{what}-unknown", f"not a {what} of the instance's catalogue: {told}")
