"""A member's recovery key: made apart from the home, pinned by a member document, used when the member key is gone.

The private half never lies in the home: who owns the home would own it, too. Certifies nothing and publishes nothing;
what is composed here is confirmed by the operator (`memberkeys.confirm_change`).
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from console.homes import HomeInvalid, MemberHome, replace_file
from console.memberkeys import NextKey, registered
from console.membership import MemberSpeaker, Speaker, call_registry
from evidence.signer import FileSigner, KeyKind, generate_key_file
from evidence.x509 import load_pem_chain
from registry.client import RegistryClient
from registry.documents import PinnedKey


def pin_recovery_key(home: MemberHome, path: Path, kind: KeyKind, passphrase: Path | None) -> dict[str, Any]:
    """Makes the key, unless it is there, and writes the change that pins it, signed by the member.

    Args:
        home: of the member.
        path: of the private key; outside of the home.
        kind: of key.
        passphrase: file with the passphrase that the key is encrypted under.

    Raises:
        HomeInvalid: the key would lie in the home.
        KeyUnusable: its file cannot be written or read.
        RegistryError: the registry does not answer; do it again.
    """
    if path.resolve().is_relative_to(home.path.resolve()):
        raise HomeInvalid(f"{path} lies in the home: who takes the home takes it, too; name a file on another medium")
    speaker = Speaker.member(home)
    if path.exists():
        recovery = FileSigner.load(path, passphrase_path=passphrase)
    else:
        recovery = generate_key_file(path, kind, passphrase_path=passphrase)
    public = home.keys / "recovery.pub"
    pem = recovery.private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    if public.exists() and (earlier := public.read_bytes()) != pem:
        # It may be the pinned one until the operator confirms the change, and a change of other keys names it again.
        replace_file(home.keys / f"recovery-{hashlib.sha256(earlier).hexdigest()[:16]}.pub", earlier, 0o644)
    replace_file(public, pem, 0o644)
    pinned = PinnedKey(spki=base64.b64encode(recovery.public_bytes).decode(), kind="recovery")

    async def compose(client: RegistryClient) -> bytes | None:
        before = await registered(client, speaker.genesis, home.facts.member)
        if pinned in before.document.keys:
            return None
        keys = (*(key for key in before.document.keys if key.kind == "signing"), pinned)
        return await speaker.amend(client, before, keys=keys, change="")

    signed = call_registry(speaker.url, compose)
    change = NextKey(home).change
    if signed is not None:
        replace_file(change, signed, 0o644)
    return {"member": home.facts.member, "public_key": public, "change": change, "pinned": signed is None}


def recovery_speaker(home: MemberHome, key: Path, certificate: Path, passphrase: Path | None) -> MemberSpeaker:
    """The member, speaking with its recovery key; all that counts of what it says is new keys and revocations.

    Args:
        home: of the member.
        key: the private key.
        certificate: chain for it (PEM), by an authority of the anchor.
        passphrase: file with the key's passphrase.

    Raises:
        KeyUnusable, CertificateInvalid: by name.
        OSError: a file cannot be read.
    """
    signer = FileSigner.load(key, passphrase_path=passphrase)
    return MemberSpeaker(home, signer, load_pem_chain(certificate.read_bytes()))
