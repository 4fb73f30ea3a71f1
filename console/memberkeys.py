"""Exchanging a member's own key: made here, certified, signed with the key before it, confirmed by the operator.

What the member signed under the earlier key goes on counting: the directory keeps what was right when it was said.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from console.homes import HomeInvalid, InstanceHome, MemberHome, replace_file
from console.membership import MemberSpeaker, Speaker, call_registry
from console.predecessors import Predecessor, operators_predecessor
from evidence.signer import FileSigner, KeyKind, generate_key_file, public_key_of_pem
from evidence.x509 import load_pem_chain
from registry.client import RegistryClient, Submitted
from registry.documents import Member, PinnedKey, decode
from registry.envelope import add_signature, read_envelope
from registry.publickeys import key_id, spki_public


class NextKey:
    """Files of a member's next key: `keys/member.next.pem`, `.pub`, `.crt`, and the change to be confirmed."""

    def __init__(self, home: MemberHome) -> None:
        self.private = home.keys / "member.next.pem"
        self.public = home.keys / "member.next.pub"
        self.certificate = home.keys / "member.next.crt"
        self.change = home.path / "member-change.json"


def make_next_key(home: MemberHome, kind: KeyKind) -> NextKey:
    """The next key, to be certified; what is there already stays.

    Raises:
        KeyUnusable: the file cannot be written.
    """
    files = NextKey(home)
    signer = None
    if not files.private.exists():
        signer = generate_key_file(files.private, kind, passphrase_path=home.passphrase)
    if signer is not None or not files.public.exists():
        signer = signer or FileSigner.load(files.private, passphrase_path=home.passphrase)
        pem = signer.private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        replace_file(files.public, pem, 0o644)
    return files


def compose_change(home: MemberHome, speaker: MemberSpeaker | None = None) -> NextKey:
    """Writes the member document that pins the certified next key, signed with the present and the next key.

    Args:
        home: of the member.
        speaker: the member with its recovery key, which then signs instead of the present one.

    Raises:
        HomeInvalid: the next key has no certificate yet.
        RegistryError: the registry does not answer.
    """
    files, member = NextKey(home), home.facts.member
    speaker = speaker or Speaker.member(home)
    if not files.certificate.exists():
        raise HomeInvalid(f"there is no {files.certificate}; have {files.public} certified first")
    following = FileSigner.load(files.private, passphrase_path=home.passphrase)
    chain = load_pem_chain(files.certificate.read_bytes())

    async def compose(client: RegistryClient) -> bytes:
        before = await registered(client, home.facts.genesis, member)
        kept = tuple(key for key in before.document.keys if key.kind == "recovery")
        keys = (PinnedKey(spki=base64.b64encode(following.public_bytes).decode()), *kept)
        return await speaker.amend(client, before, keys=keys, change="")

    signed = add_signature(call_registry(speaker.url, compose), following, chain)
    replace_file(files.change, signed, 0o644)
    return files


def confirm_change(home: InstanceHome, change: Path, folders: Sequence[Path] = ()) -> dict[str, Any]:
    """The operator's signatures on a change that a member signed, and its publication.

    Args:
        home: of the operator.
        change: what `member rotate` wrote.
        folders: with further operator keys.

    Raises:
        HomeInvalid: the file holds no member document.
        SignaturesMissing: too few operator keys are at hand; a proposal was kept.
        RegistryError: the registry refused, or does not answer.
    """
    speaker = Speaker.operator(home, folders)
    jws = change.read_bytes()
    document = decode(read_envelope(jws, genesis=speaker.genesis).payload)
    if not isinstance(document, Member):
        raise HomeInvalid(f"{change} is no change of a member's keys")

    async def publish(client: RegistryClient) -> Submitted:
        return await client.submit(await speaker.countersign(client, jws))

    done = call_registry(speaker.url, publish)
    return {"member": document.subject, "index": done.index, "keys": [_id(key) for key in document.keys]}


def take_next_key(home: MemberHome) -> bool:
    """Puts the next key in the place of the present one, once the directory pins it; whether it does.

    Raises:
        HomeInvalid: nothing was prepared.
        RegistryError: the registry does not answer.
    """
    files = NextKey(home)
    if not files.certificate.exists():
        raise HomeInvalid(f"there is no {files.certificate}; begin with `lienthong member rotate`")
    wanted = key_id(spki_public(public_key_of_pem(files.certificate)))
    facts = home.facts
    pinned = call_registry(facts.registry, lambda client: registered(client, facts.genesis, facts.member)).document.keys
    if wanted not in {_id(key) for key in pinned if key.kind == "signing"}:
        return False
    earlier = home.certificate.read_bytes()
    replace_file(home.keys / "retired" / f"member-{hashlib.sha256(earlier).hexdigest()[:16]}.crt", earlier, 0o644)
    # The key first: between the two steps nothing can be signed, and the command can be given again.
    if files.private.exists():
        files.private.replace(home.member_key)
    replace_file(home.certificate, files.certificate.read_bytes(), 0o644)
    if files.public.exists():
        replace_file(home.keys / "member.pub", files.public.read_bytes(), 0o644)
    # The certificate last: while it is there without its key, this step is not done.
    for path in (files.change, files.public, files.certificate):
        path.unlink(missing_ok=True)
    return True


def replace_lost_keys(
    home: InstanceHome, member: str, public_key: Path, *, confirm: bool, folders: Sequence[Path] = ()
) -> dict[str, Any]:
    """The threshold way, for a member that lost all its keys: announces the new key, or confirms it after the delay.

    Args:
        home: of the operator.
        member: identifier.
        public_key: PEM of the new key.
        confirm: confirm what was announced.
        folders: with further operator keys.

    Raises:
        HomeInvalid: there is no such member.
        SignaturesMissing: too few operator keys are at hand; a proposal was kept.
        RegistryError: the registry refused (too early, not announced, the member objected), or does not answer.
    """
    speaker = Speaker.operator(home, folders)
    new = PinnedKey(spki=base64.b64encode(public_key_of_pem(public_key)).decode())

    async def publish(client: RegistryClient) -> int:
        before = await registered(client, speaker.genesis, member)
        anchor, _ = await client.anchor(speaker.genesis)
        how = "confirmed" if confirm else "announced"
        await client.submit(await speaker.amend(client, before, keys=(new,), change=how))
        return anchor.recovery_delay_s

    delay_s = call_registry(speaker.url, publish)
    return {"member": member, "key": _id(new), "confirmed": confirm, "delay_s": delay_s}


async def registered(client: RegistryClient, genesis: str, member: str) -> Predecessor[Member]:
    """The member as the operators registered it.

    Raises:
        HomeInvalid: the directory has no such member.
        PredecessorUnproven: the operators did not sign what the registry gave.
    """
    found = await operators_predecessor(client, genesis, Member, member)
    if found is None:
        raise HomeInvalid(f"the directory has no member {member}")
    return found


def _id(key: PinnedKey) -> str:
    return key_id(key.public)
