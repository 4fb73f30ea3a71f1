"""A provider's rights: granted and withdrawn into its own store, then the directory; and the words they may use."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from console.homes import HomeInvalid, MemberHome
from console.membership import Speaker, call_registry
from console.operations import operation_ids
from console.ownword import copied_predecessor, own_store, publish_own
from console.predecessors import PredecessorUnproven, operators_predecessor
from console.services import published_service, service_id
from console.views import local_directory
from registry.client import RegistryClient
from registry.documents import Access, Catalogue, Term
from registry.own import OwnStore
from registry.view import QuotaLimit

ANY = "*"
ENDED = "2020-01-01T00:00:00.000000Z"


@dataclass(frozen=True, slots=True)
class Terms:
    """What a right says.

    Attributes:
        operations: operation ids, or `METHOD /path/{template}`; empty grants all.
        purposes: granted purposes, grounds: granted legal grounds.
        any_term: where none is named, any is meant.
        valid_from: start and end as documents write them.
    """

    operations: tuple[str, ...] = ()
    purposes: tuple[str, ...] = ()
    grounds: tuple[str, ...] = ()
    any_term: bool = False
    fields: tuple[str, ...] = ()
    official_required: bool = False
    quota: QuotaLimit = field(default_factory=QuotaLimit)
    valid_from: str | None = None
    until: str | None = None


def grant_access(home: MemberHome, client_id: str, code: str, terms: Terms) -> str:
    """Signs an access right into the own store and the directory; its subject.

    Raises:
        HomeInvalid: an operation, purpose or ground that there is not.
        PredecessorUnproven: the registry's catalogue is not the operators', or an older one than the directory has.
        RegistryError: the registry refused; nothing is granted.
    """
    service = service_id(home, code)
    subject = access_subject(service, client_id)
    speaker, own = Speaker.member(home), own_store(home)

    async def work(client: RegistryClient) -> None:
        # what names no word needs no catalogue: a right can be withdrawn whatever the registry says of that
        named = not terms.any_term or terms.purposes or terms.grounds
        purposes, grounds = chosen_terms(await proven_catalogue(client, home) if named else None, terms)
        operations = await _operation_ids(client, home, own, service, terms.operations)
        said: dict[str, Any] = {
            "client": client_id,
            "service": service,
            "purposes": purposes,
            "grounds": grounds,
            "operations": operations or None,
            "fields": terms.fields,
            "official_required": terms.official_required,
            "quota": terms.quota,
            "valid_from": terms.valid_from,
            "until": terms.until,
        }
        before = await copied_predecessor(client, home, own, Access, subject)
        if before is None:
            signed = await speaker.compose(client, Access, subject, **said)
        else:
            signed = await speaker.amend(client, before, **said)
        await publish_own(client, own, signed)

    try:
        call_registry(home.facts.registry, work)
    finally:
        own.close()
    return subject


async def proven_catalogue(client: RegistryClient, home: MemberHome) -> Catalogue | None:
    """The instance's catalogue: signed by the operators, no older than in this home's verified copy of the directory.

    Raises:
        PredecessorUnproven: the registry gives another one; nothing was signed.
        RegistryError: it does not answer.
    """
    instance = home.facts.instance
    found = await operators_predecessor(client, home.facts.genesis, Catalogue, instance)
    if (home.data / "directory.db").exists():  # it comes when the gateway runs; until then only the signatures tell
        with local_directory(home) as directory:
            head = directory.head("catalogue", instance)
        seq, digest = (-1, "") if found is None else (found.document.seq, found.digest)
        if head is not None and (seq < head.seq or (seq == head.seq and digest != head.digest)):
            raise PredecessorUnproven(
                f"the registry gives an older catalogue of purposes than {home.data / 'directory.db'} has, or none: it "
                "holds documents back. Nothing was signed; see lienthong purposes list, and ask the operator"
            )
    return None if found is None else found.document


def revoke_access(home: MemberHome, client_id: str, code: str) -> str:
    """Withdraws the right that `grant_access` made; its subject.

    Raises:
        RegistryError: the registry refused; the right holds.
    """
    return grant_access(home, client_id, code, Terms(any_term=True, until=ENDED))


def chosen_terms(catalogue: Catalogue | None, terms: Terms) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Purposes and grounds of a right, checked against the instance's catalogue if there is one.

    Raises:
        HomeInvalid: a word that is not in it; or none was named and `any_term` is not set.
    """
    chosen = []
    for what, named, known in (
        ("purpose", terms.purposes, None if catalogue is None else catalogue.purposes),
        ("ground", terms.grounds, None if catalogue is None else catalogue.grounds),
    ):
        if known and not named and not terms.any_term:
            raise HomeInvalid(f"name each {what} that is granted (see `lienthong purposes list`), or say --any")
        words = {term.code for term in known or ()}
        if unknown := sorted(set(named) - words - {ANY}) if known else []:
            told = ", ".join(unknown[:8])
            raise HomeInvalid(f"not a {what} of the instance's catalogue: {told}; see `lienthong purposes list`")
        chosen.append(named or (ANY,))
    return chosen[0], chosen[1]


async def _operation_ids(
    client: RegistryClient, home: MemberHome, own: OwnStore, service: str, named: tuple[str, ...]
) -> tuple[str, ...]:
    if not any(" " in one for one in named):
        return named
    return operation_ids((await published_service(client, home, own, service)).document, named)


def access_subject(service: str, client_id: str) -> str:
    """Subject of the one right that `access grant` keeps per client and service."""
    code = "-".join(client_id.split("/")[1:]) or client_id
    safe = "".join(character if character.isalnum() and character.isascii() else "-" for character in code)
    suffix = hashlib.sha256(client_id.encode()).hexdigest()[:8]
    return f"{service}#{safe[:48]}-{suffix}"


class _TermFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    purposes: dict[str, dict[str, str]] = {}
    grounds: dict[str, dict[str, str]] = {}


def read_terms(path: Path) -> dict[str, Any]:
    """The catalogue in a TOML file: tables `purposes` and `grounds`, code to names by language.

    Raises:
        HomeInvalid: the file is not in that form.
    """
    try:
        read = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _TermFile)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise HomeInvalid(f"{path} is not a catalogue of purposes and grounds: {error}") from error
    return {
        "purposes": tuple(Term(code=code, names=names) for code, names in read.purposes.items()),
        "grounds": tuple(Term(code=code, names=names) for code, names in read.grounds.items()),
    }
