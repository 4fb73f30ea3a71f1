"""The operator's keys, each in a folder of its own, and proposals that still lack signatures.

An instance says how many of its operator keys make the operator's word (the anchor's threshold). Keys that lie in the
instance's home, or are named for one act, sign at once. What they cannot complete becomes a proposal: a file that is
carried to the holders of other keys, signed there (`operator sign`) and submitted here (`operator submit`). A folder
with a key can be carried away as it is; nothing else of the instance is needed to sign.

Says nothing to the registry (`membership`) and decides nothing: the directory's own rule counts signatures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from console.homes import HomeInvalid, InstanceHome, read_facts, replace_file, write_new
from evidence.identifiers import MemberId
from evidence.issue import Authority, issue_member, to_pem
from evidence.signer import FileSigner, generate_key_file, is_encrypted
from evidence.x509 import load_pem_chain
from registry.documents import Anchor
from registry.envelope import add_signature, read_envelope
from registry.publickeys import key_id, spki_public


class SignaturesMissing(HomeInvalid):
    """Too few operator keys are here; nothing was submitted.

    Attributes:
        proposal: File with what was signed so far.
        missing: How many signatures it lacks.
    """

    code = "signatures-missing"
    title = "Operator signatures are missing"

    def __init__(self, message: str, proposal: Path, missing: int) -> None:
        super().__init__(message)
        self.proposal = proposal
        self.missing = missing


class OperatorFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a folder with an operator's key says beside it.

    Attributes:
        instance: Name.
        genesis: 64 hex digits; only proposals of this instance are signed.
        keyid: Of the key.
        passphrase: File with the key's passphrase, as it was named when the key was made; empty when it is plain.
    """

    instance: str
    genesis: str
    keyid: str
    passphrase: str = ""


class OperatorKey(NamedTuple):
    """A key of the operator that is at hand."""

    keyid: str
    signer: FileSigner
    chain: tuple[bytes, ...]


class OperatorHome:
    """Folder of one operator key: `operator.pem`, `operator.crt`, `operator.json`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.key = path / "operator.pem"
        self.certificate = path / "operator.crt"

    @property
    def facts(self) -> OperatorFacts:
        """Which instance the key is for.

        Raises:
            HomeInvalid: there is no operator key here.
        """
        return read_facts(self.path / "operator.json", OperatorFacts, "lienthong init instance")

    def load(self, passphrase: Path | None = None) -> OperatorKey:
        """The key.

        Args:
            passphrase: File with its passphrase; None takes the one that the facts name. A folder that was carried to
                another machine has its own `passphrase` file beside the key, if the one that was named is not there.

        Raises:
            HomeInvalid: there is none.
            KeyUnusable: its file, or that of its passphrase, cannot be used.
        """
        if not self.key.exists() or not self.certificate.exists():
            raise HomeInvalid(f"there is no operator key in {self.path}; name a folder with operator.pem")
        signer = FileSigner.load(self.key, passphrase_path=passphrase or self._passphrase())
        return OperatorKey(
            key_id(spki_public(signer.public_bytes)), signer, tuple(load_pem_chain(self.certificate.read_bytes()))
        )

    def _passphrase(self) -> Path | None:
        if not is_encrypted(self.key):
            return None
        named = Path(self.facts.passphrase)
        beside = self.path / "passphrase"
        return beside if beside.is_file() and not named.is_file() else named


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """A document of the operator that lacks signatures; a file that people carry.

    Attributes:
        instance: Name.
        genesis: 64 hex digits.
        threshold: How many signatures are needed, as the proposer saw the anchor.
        operators: Key ids that may sign.
        jws: The document with the signatures so far.
    """

    instance: str
    genesis: str
    threshold: int
    operators: tuple[str, ...]
    jws: str

    @property
    def type(self) -> str:
        """What kind of document it is."""
        return read_envelope(self.jws.encode(), genesis=self.genesis).type

    @property
    def payload(self) -> bytes:
        """What is signed."""
        return read_envelope(self.jws.encode(), genesis=self.genesis).payload

    @property
    def signed_by(self) -> tuple[str, ...]:
        """Key ids that signed; not verified."""
        return signers_of(self.jws.encode(), self.genesis)


def make_operator_key(
    path: Path,
    instance: str,
    authority: Authority,
    *,
    not_before_at: datetime,
    not_after_at: datetime,
    passphrase: Path | None = None,
) -> OperatorKey:
    """Makes a key and its certificate in a new folder; `settle` names the instance afterwards.

    Args:
        path: Of the folder.
        instance: Name.
        authority: Certifies the key.
        not_before_at: Aware instant.
        not_after_at: Aware instant.
        passphrase: File with the passphrase under which the key is encrypted; None keeps it plain.

    Raises:
        KeyUnusable: there is one already.
    """
    home = OperatorHome(path)
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    signer = generate_key_file(home.key, "p256", passphrase_path=passphrase)
    certificate = issue_member(
        authority,
        MemberId(instance, "OPERATOR", "operator"),
        signer.private_key.public_key(),
        not_before_at=not_before_at,
        not_after_at=not_after_at,
    )
    write_new(home.certificate, to_pem([certificate]), 0o644)
    return home.load(passphrase)


def settle(path: Path, instance: str, genesis: str, keyid: str, passphrase: Path | None = None) -> None:
    """Notes for which instance the key of a folder is, and where its passphrase is."""
    named = "" if passphrase is None else str(passphrase.resolve())
    facts = OperatorFacts(instance=instance, genesis=genesis, keyid=keyid, passphrase=named)
    write_new(path / "operator.json", msgspec.json.encode(facts), 0o644)


def keys_at_hand(home: InstanceHome, folders: Iterable[Path] = ()) -> list[OperatorKey]:
    """Operator keys in the instance's home and in the named folders, each once.

    Raises:
        HomeInvalid: a named folder has none.
    """
    inside = sorted(path.parent for path in home.operators.glob("*/operator.pem"))
    if (home.keys / "operator.pem").exists():  # where instances with a single key once kept it
        inside.append(home.keys)
    found = {key.keyid: key for key in (OperatorHome(path).load() for path in (*inside, *folders))}
    return list(found.values())


def signers_of(jws: bytes, genesis: str) -> tuple[str, ...]:
    """Key ids of the certificates that came with the signatures; nothing is verified."""
    from evidence.x509 import describe

    envelope = read_envelope(jws, genesis=genesis)
    return tuple(key_id(spki_public(describe(one.chain[0]).public_bytes)) for one in envelope.signatures)


def sign_further(jws: bytes, keys: Sequence[OperatorKey]) -> bytes:
    """Adds a signature of each key."""
    for key in keys:
        jws = add_signature(jws, key.signer, key.chain)
    return jws


def missing_signatures(anchor: Anchor, next_anchor: Anchor | None, signers: Iterable[str]) -> int:
    """How many operator signatures a document lacks: by the anchor, and for a new anchor also by itself."""
    signed = set(signers)
    needed = [anchor] if next_anchor is None else [anchor, next_anchor]
    return max(max(0, one.threshold - len(signed & {operator.keyid for operator in one.operators})) for one in needed)


def propose(home: InstanceHome, anchor: Anchor, genesis: str, jws: bytes, operators: Sequence[str]) -> Path:
    """Keeps what was signed so far as a proposal; its file."""
    proposal = Proposal(
        instance=anchor.instance,
        genesis=genesis,
        threshold=anchor.threshold,
        operators=tuple(operators),
        jws=jws.decode(),
    )
    digest = hashlib.sha256(proposal.payload).hexdigest()
    path = home.path / "proposals" / f"{proposal.type}-{digest[:12]}.json"
    replace_file(path, msgspec.json.encode(proposal), 0o644)
    return path


def read_proposal(path: Path) -> Proposal:
    """A proposal's file.

    Raises:
        HomeInvalid: it is not one.
        EnvelopeInvalid: what it carries is not of the instance that it names.
    """
    proposal = read_facts(path, Proposal, "an operator command that lacks signatures")
    read_envelope(proposal.jws.encode(), genesis=proposal.genesis)
    return proposal


def sign_proposal(path: Path, home: OperatorHome, passphrase: Path | None = None) -> Proposal:
    """Adds the signature of a folder's key to a proposal's file.

    Args:
        path: Of the proposal.
        home: With the key.
        passphrase: See `OperatorHome.load`.

    Raises:
        HomeInvalid: another instance's proposal or key, signed already, or a key that the anchor does not know.
    """
    proposal, facts, key = read_proposal(path), home.facts, home.load(passphrase)
    if facts.genesis != proposal.genesis:
        raise HomeInvalid(f"{path} is of another instance than the key in {home.path}: do not sign it")
    if key.keyid in proposal.signed_by:
        raise HomeInvalid(f"the key in {home.path} signed {path} already; carry it to another operator")
    if key.keyid not in proposal.operators:
        raise HomeInvalid(f"the key in {home.path} is none of the operator keys that {path} asks for")
    signed = msgspec.structs.replace(proposal, jws=sign_further(proposal.jws.encode(), [key]).decode())
    replace_file(path, msgspec.json.encode(signed), 0o644)
    return signed
