"""A key that stays in a token, as PKCS#11 has them, is enough for everything that members, operators and logs sign."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from registry_world import CONSUMER, FAR, PROVIDER, START, Party, World

from evidence.checkpoint import key_name
from evidence.identifiers import MemberId
from evidence.issue import issue_member
from evidence.log import ExchangeLog
from evidence.note import VerifierKey, verify
from evidence.signer import Algorithm, FileSigner, PublicKey, Signer, algorithm_of, public_bytes_of
from registry.envelope import genesis_of, sign_document
from registry.fold import Applied, Directory

KINDS = ("p256", "p384", "rsa2048", "rsa3072")


class Token:
    """What a token does: it signs digests under a mechanism, by a handle, within a session; it gives no key away."""

    def __init__(self, pin: str) -> None:
        self.__keys: dict[int, object] = {}
        self.__pin, self.__open = pin, False

    def login(self, pin: str) -> None:
        if pin != self.__pin:
            raise PermissionError("CKR_PIN_INCORRECT")
        self.__open = True

    def generate(self, kind: str) -> tuple[int, PublicKey]:
        key = FileSigner.generate(kind).private_key  # type: ignore[arg-type]
        handle = len(self.__keys) + 1
        self.__keys[handle] = key
        return handle, key.public_key()

    def sign(self, handle: int, mechanism: str, data: bytes) -> bytes:
        """`CKM_ECDSA` (of a digest, r ‖ s), `CKM_RSA_PKCS_PSS` (of a digest), `CKM_EDDSA` (of the data)."""
        if not self.__open:
            raise PermissionError("CKR_USER_NOT_LOGGED_IN")
        key = self.__keys[handle]
        if mechanism == "CKM_EDDSA" and isinstance(key, ed25519.Ed25519PrivateKey):
            return key.sign(data)
        if mechanism == "CKM_ECDSA" and isinstance(key, ec.EllipticCurvePrivateKey):
            digest = hashes.SHA384() if len(data) == 48 else hashes.SHA256()
            width = (key.curve.key_size + 7) // 8
            r, s = decode_dss_signature(key.sign(data, ec.ECDSA(Prehashed(digest))))
            return r.to_bytes(width) + s.to_bytes(width)
        if mechanism == "CKM_RSA_PKCS_PSS" and isinstance(key, rsa.RSAPrivateKey):
            scheme = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256().digest_size)
            return key.sign(data, scheme, Prehashed(hashes.SHA256()))
        raise ValueError("CKR_MECHANISM_INVALID")


class TokenSigner:
    """`evidence.signer.Signer` over a token: nothing but its three members."""

    def __init__(self, token: Token, handle: int, public: PublicKey) -> None:
        self._token, self._handle, self._public = token, handle, public

    @property
    def algorithm(self) -> Algorithm:
        return algorithm_of(self._public)

    @property
    def public_bytes(self) -> bytes:
        return public_bytes_of(self._public)

    def sign(self, data: bytes) -> bytes:
        mechanism, digest = {
            "ES256": ("CKM_ECDSA", hashlib.sha256),
            "ES384": ("CKM_ECDSA", hashlib.sha384),
            "PS256": ("CKM_RSA_PKCS_PSS", hashlib.sha256),
            "EdDSA": ("CKM_EDDSA", None),
        }[self.algorithm]
        return self._token.sign(self._handle, mechanism, data if digest is None else digest(data).digest())


@pytest.fixture
def token() -> Token:
    made = Token("1234")
    made.login("1234")
    return made


def party(world: World, token: Token, id_: str, kind: str) -> Party:
    handle, public = token.generate(kind)
    assert not isinstance(public, ed25519.Ed25519PublicKey)
    signer: Signer = TokenSigner(token, handle, public)
    chain = [issue_member(world.authority, MemberId.parse(id_), public, not_before_at=START, not_after_at=FAR)]
    return Party(id_, signer, chain)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_members_and_operators_sign_every_document_with_keys_of_a_token(token: Token, kind: str) -> None:
    world = World()
    world.operator = party(world, token, f"{world.instance}/OPERATOR/one", kind)
    world.provider, world.consumer = party(world, token, PROVIDER, kind), party(world, token, CONSUMER, kind)
    world.anchor = world.make_anchor()
    world.genesis = genesis_of(world.anchor)
    world.directory = Directory(world.genesis)
    world.populate()
    assert {entry.id for entry in world.directory.members()} == {PROVIDER, CONSUMER}
    assert world.directory.service(f"{PROVIDER}/population/citizens") is not None
    outcome = world.append(world.sign(world.revocation(f"node:{PROVIDER}/@n1"), world.provider))
    assert isinstance(outcome, Applied)


async def test_a_log_is_signed_with_a_key_of_a_token(token: Token, tmp_path: Path) -> None:
    handle, public = token.generate("ed25519")
    signer = TokenSigner(token, handle, public)
    origin = f"{'0' * 64}/VN-TEST/GOV/G01/@n1/1"
    log = await ExchangeLog.open(
        tmp_path / "log.db", origin=origin, signer=signer, now=lambda: datetime.now(UTC), token=lambda: "00" * 16
    )
    try:
        text = log.note
    finally:
        await log.close()
    assert verify(text, [VerifierKey(key_name(origin), signer.public_bytes)])


def test_a_token_that_is_locked_signs_nothing(tmp_path: Path) -> None:
    world, locked = World(), Token("1234")
    somebody = party(world, locked, PROVIDER, "p256")
    with pytest.raises(PermissionError):
        locked.login("0000")
    with pytest.raises(PermissionError):
        sign_document(world.make_anchor(), somebody.signer, somebody.chain, None)
