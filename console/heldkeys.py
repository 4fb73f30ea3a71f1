"""Which keys a member holds or held, by the files of its home, and which keys a document of its own may name.

What a member signs about its keys is never taken from an answer: a key that no file here has is refused by name, unless
trust in it was withdrawn. Reads files only; signs nothing, and does not say which key is in use (the directory does).
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from bus.gateway.sealingkeys import load_keys
from bus.settings import GatewaySettings, load_settings
from console.homes import MemberHome, replace_file
from evidence.errors import KeyUnusable
from evidence.signer import FileSigner, public_key_of_pem
from registry.documents import AnyDocument, Member, Node, Sealing
from registry.errors import DocumentMalformed
from registry.publickeys import decode_base64, key_id, spki_public

_ED25519_SPKI = bytes.fromhex("302a300506032b6570032100")  # RFC 8410 section 4: what stands before the raw key


def key_id_of(public: bytes) -> str:
    """Key id of a key as `Signer.public_bytes` gives it."""
    return key_id(public if len(public) == 32 else spki_public(public))


def member_keys(home: MemberHome) -> frozenset[str]:
    """Key ids of the keys that sign for the member, now or before: the present one and those that were retired.

    Of a key that was lost its certificate speaks.

    Raises:
        KeyUnusable: the present key cannot be read.
    """
    public = home.load_key().public_bytes if home.member_key.exists() else public_key_of_pem(home.certificate)
    return frozenset({key_id_of(public), *_public_files(home.keys / "retired")})


def keys_of_files(home: MemberHome) -> frozenset[str]:
    """Key ids of every key of which the home has a file: private, public half, or certificate.

    Raises:
        KeyUnusable: a private key cannot be read.
        SettingsInvalid: the settings or a sealing key cannot be read.
    """
    settings = load_settings(home.settings) if home.settings.exists() else None
    pairs = load_keys(settings.keys.sealing if settings is not None else home.keys / "sealing")
    return frozenset(
        {
            *member_keys(home),
            *_node_keys(home, settings),
            *_public_files(home.keys),
            *(keyid for of_use in pairs.values() for keyid in of_use),
        }
    )


def _node_keys(home: MemberHome, settings: GatewaySettings | None) -> Iterator[str]:
    own = [home.keys / "log.pem", home.keys / "broker.pem"]
    if settings is not None:
        own = [settings.keys.log, settings.keys.broker]
    passphrase = None if settings is None else settings.keys.passphrase
    for path in (*own, home.keys / "log.next.pem", home.keys / "broker.next.pem"):
        if path.exists():
            yield key_id_of(FileSigner.load(path, passphrase_path=passphrase).public_bytes)


def _public_files(folder: Path) -> Iterator[str]:
    for path in sorted((*folder.glob("*.pub"), *folder.glob("*.crt"))):
        with suppress(KeyUnusable, DocumentMalformed):  # what cannot be read vouches for nothing
            yield key_id_of(public_key_of_pem(path))


def retire_log_key(home: MemberHome, key: str) -> None:
    """Keeps the public half of a log key that signs no more: every later statement names it again.

    Args:
        home: of the member.
        key: as the statement names it, base64.
    """
    public = decode_base64(key)
    replace_file(home.keys / "retired" / f"log-{key_id(public)[:16]}.pub", _pem(public), 0o644)


def _pem(raw: bytes) -> bytes:
    return f"-----BEGIN PUBLIC KEY-----\n{_pem_body(raw)}\n-----END PUBLIC KEY-----\n".encode()


def _pem_body(raw: bytes) -> str:
    return base64.b64encode(_ED25519_SPKI + raw).decode()


def named_keys(document: AnyDocument) -> dict[str, str]:
    """The keys that a member's document brings into force, each key id with what the document calls it."""
    match document:
        case Node():
            told = [(one, "log key") for one in (document.log.key, *(other.key for other in document.log.others))]
            named = [(decode_base64(key), what) for key, what in (*told, (document.broker_key, "broker key"))]
            return {key_id(raw): f"{what} (its PEM: {_pem_body(raw)})" for raw, what in named}
        case Sealing():
            return {document.keyid: "sealing key"}
        case Member():
            return {key_id(one.public): f"{one.kind} key" for one in document.keys}
        case _:
            return {}
