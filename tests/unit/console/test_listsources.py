"""Whose list an address has to give is said, or found out, before an anchor names it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from console.homes import HomeInvalid
from console.listsources import with_authorities
from evidence.crl import authority_of
from evidence.issue import Authority, create_authority
from evidence.signer import FileSigner

NOW = datetime.now(UTC)
FIRST, SECOND = "http://a.example.vn/a.crl", "https://b.example.vn/b.crl"


def authority(name: str) -> Authority:
    signer = FileSigner.generate("p256")
    return create_authority(name, signer, not_before_at=NOW, not_after_at=NOW + timedelta(days=9))


A, B = authority("Authority A"), authority("Authority B")
PEM_A, PEM_B = A.pem.decode(), B.pem.decode()


def key(one: Authority) -> str:
    found = authority_of(one.certificate)
    assert found is not None
    return found.signer


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    for name, one in (("a.crt", A), ("b.crt", B)):
        (tmp_path / name).write_bytes(one.pem)
    return tmp_path / "a.crt", tmp_path / "b.crt"


def test_with_one_authority_lists_are_its() -> None:
    assert with_authorities([FIRST, SECOND], [PEM_A]) == (f"{FIRST}#sha256:{key(A)}", f"{SECOND}#sha256:{key(A)}")
    assert with_authorities([], [PEM_A, PEM_B]) == ()


def test_with_several_somebody_has_to_say_whose(files: tuple[Path, Path]) -> None:
    with pytest.raises(HomeInvalid, match=f"Authority B #sha256:{key(B)}"):
        with_authorities([FIRST, SECOND], [PEM_A, PEM_B])
    both = (f"{FIRST}#sha256:{key(A)}", f"{SECOND}#sha256:{key(B)}")
    assert with_authorities([FIRST, SECOND], [PEM_A, PEM_B], files) == both
    assert with_authorities(both, [PEM_A, PEM_B]) == both
    said = f"{SECOND}#sha256:{key(B)}"
    assert with_authorities([said, FIRST], [PEM_A, PEM_B], files[:1]) == (said, both[0])


def test_what_cannot_be_is_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    for bad in (f"{FIRST}#sha256:abc", "ftp://a/list.crl", f"file:///a#sha256:{key(A)}"):
        with pytest.raises(HomeInvalid):
            with_authorities([bad], [PEM_A])
    with pytest.raises(HomeInvalid, match="one for each"):
        with_authorities([FIRST, SECOND, FIRST], [PEM_A], files)
