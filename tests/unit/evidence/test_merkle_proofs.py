from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidence.errors import ProofInvalid
from evidence.merkle import (
    EMPTY_ROOT,
    Frontier,
    inclusion_root,
    leaf_hash,
    node_hash,
    split_path,
    verify_consistency,
    verify_inclusion,
)

LEAVES = [leaf_hash(str(number).encode()) for number in range(700)]


def naive_root(leaves):
    """RFC 9162 section 2.1.1, word by word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def naive_path(index, leaves):
    """RFC 9162 section 2.1.3.1, word by word."""
    if len(leaves) == 1:
        return []
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if index < k:
        return [*naive_path(index, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_path(index - k, leaves[k:]), naive_root(leaves[:k])]


def naive_consistency(old, leaves, complete=True):
    """RFC 9162 section 2.1.4.1, word by word."""
    if old == len(leaves):
        return [] if complete else [naive_root(leaves)]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if old <= k:
        return [*naive_consistency(old, leaves[:k], complete), naive_root(leaves[k:])]
    return [*naive_consistency(old - k, leaves[k:], False), naive_root(leaves[:k])]


def test_hashes_of_the_specification():
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert leaf_hash(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert node_hash(leaf_hash(b""), leaf_hash(b"\x00")).hex() == (
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
    )


@given(st.integers(1, 80), st.data())
def test_every_inclusion_proof_of_the_reference_holds(size, data):
    index = data.draw(st.integers(0, size - 1))
    path, root = naive_path(index, LEAVES[:size]), naive_root(LEAVES[:size])
    verify_inclusion(LEAVES[index], index, size, path, root)
    verify_inclusion(LEAVES[index], index, size, b"".join(path), root)


@given(st.integers(1, 80), st.data())
def test_every_consistency_proof_of_the_reference_holds(size, data):
    old = data.draw(st.integers(1, size))
    path = naive_consistency(old, LEAVES[:size])
    verify_consistency(old, size, naive_root(LEAVES[:old]), naive_root(LEAVES[:size]), path)
    verify_consistency(old, size, naive_root(LEAVES[:old]), naive_root(LEAVES[:size]), b"".join(path))


@given(st.integers(1, 80), st.data())
def test_no_changed_inclusion_proof_holds(size, data):
    index = data.draw(st.integers(0, size - 1))
    path, root = naive_path(index, LEAVES[:size]), naive_root(LEAVES[:size])
    attacks = [
        (LEAVES[index], index, size, [*path, path[-1] if path else root], root),
        (LEAVES[index], index, size, [root, *path], root),
        (LEAVES[699], index, size, path, root),
        (LEAVES[index], index, size, path, LEAVES[699]),
        (LEAVES[index], index, size, path, b""),
        (LEAVES[index], size, size, path, root),
        (LEAVES[index], -1, size, path, root),
        (LEAVES[index], index, 0, path, root),
        (LEAVES[index][:-1], index, size, path, root),
        *[(LEAVES[index], other, size, path, root) for other in range(size) if other != index],
    ]
    if path:
        at = data.draw(st.integers(0, len(path) - 1))
        attacks.append((LEAVES[index], index, size, path[:-1], root))
        attacks.append((LEAVES[index], index, size, [*path[:at], LEAVES[699], *path[at + 1 :]], root))
        attacks.append((LEAVES[index], index, size, [*path[:at], path[at] + b"x", *path[at + 1 :]], root))
        attacks.append((LEAVES[index], index, size, b"".join(path)[:-1], root))
    for attack in attacks:
        with pytest.raises(ProofInvalid):
            verify_inclusion(*attack)


@given(st.integers(1, 80), st.data())
def test_no_changed_consistency_proof_holds(size, data):
    old = data.draw(st.integers(1, size))
    path = naive_consistency(old, LEAVES[:size])
    old_root, new_root = naive_root(LEAVES[:old]), naive_root(LEAVES[:size])
    attacks = [
        (old, size, old_root, new_root, [*path, LEAVES[699]]),
        (old, size, LEAVES[699], new_root, path),
        (old, size, old_root, LEAVES[699], path),
        (0, size, EMPTY_ROOT, new_root, path),
        (0, size, EMPTY_ROOT, new_root, []),
        (size + 1, size, new_root, new_root, path),
        (-1, size, old_root, new_root, path),
    ]
    if path:
        at = data.draw(st.integers(0, len(path) - 1))
        attacks.append((old, size, old_root, new_root, path[:-1]))
        attacks.append((old, size, old_root, new_root, []))
        attacks.append((old, size, new_root, old_root, path))
        attacks.append((old, size, old_root[:-1], new_root, path))
        attacks.append((old, size, old_root, new_root, [*path[:at], LEAVES[699], *path[at + 1 :]]))
    for attack in attacks:
        with pytest.raises(ProofInvalid):
            verify_consistency(*attack)


def test_an_empty_proof_between_two_empty_trees_is_refused():
    with pytest.raises(ProofInvalid):
        verify_consistency(0, 0, EMPTY_ROOT, EMPTY_ROOT, [])


def test_two_roots_of_one_size_are_a_fork():
    with pytest.raises(ProofInvalid):
        verify_consistency(5, 5, LEAVES[0], LEAVES[1], [])
    verify_consistency(5, 5, LEAVES[0], LEAVES[0], [])


def test_bytes_cannot_slide_between_a_short_root_and_a_long_hash():
    # old tree of one leaf: the new root is H(0x01, old root, hash), 64 bytes that could be cut elsewhere
    left, right = LEAVES[0], LEAVES[1]
    with pytest.raises(ProofInvalid):
        verify_consistency(1, 2, left + right[:1], node_hash(left, right), [right[1:]])


def test_a_path_is_split_into_hashes():
    assert list(split_path(b"a" * 32 + b"b" * 32)) == [b"a" * 32, b"b" * 32]
    assert split_path([]) == []
    with pytest.raises(ProofInvalid):
        split_path(b"a" * 33)


@settings(deadline=None)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=6))
def test_a_frontier_grows_like_the_reference(batches):
    frontier, size = Frontier(), 0
    tile_roots = []
    for batch in batches:
        added = LEAVES[size : size + batch]
        if not added:
            break
        extension = frontier.extend(added)
        size += len(added)
        root = naive_root(LEAVES[:size])
        assert extension.root == root == extension.frontier.root()
        assert extension.frontier.size == size
        assert len(extension.paths) == len(added)
        for at, path in enumerate(extension.paths, size - len(added)):
            verify_inclusion(LEAVES[at], at, size, path, root)
        for at in (0, -1):
            index = size - len(added) if at == 0 else size - 1
            assert split_path(extension.paths[at]) == naive_path(index, LEAVES[:size])
        tile_roots += extension.tile_roots
        frontier = extension.frontier
    assert tile_roots == [(0, tile, naive_root(LEAVES[256 * tile : 256 * tile + 256])) for tile in range(size // 256)]


def test_a_frontier_reports_tiles_of_every_level():
    edge = tuple(leaf_hash(bytes([height])) for height in range(16))
    extension = Frontier(65_535, edge).extend([LEAVES[0]])
    assert [(level, index) for level, index, _ in extension.tile_roots] == [(0, 255), (1, 0)]
    assert extension.tile_roots[1][2] == extension.root


def test_extending_does_not_change_a_frontier():
    frontier = Frontier().extend(LEAVES[:5]).frontier
    edge = frontier.edge
    frontier.extend(LEAVES[5:9])
    assert (frontier.size, frontier.edge) == (5, edge)


def test_an_empty_frontier_has_the_empty_root():
    assert Frontier().root() == EMPTY_ROOT
    with pytest.raises(ProofInvalid):
        Frontier().extend([])


@pytest.mark.parametrize(("size", "edge"), [(1, ()), (2, (b"a", b"b")), (-1, (b"a",))])
def test_a_frontier_of_wrong_parts_is_refused(size, edge):
    with pytest.raises(ProofInvalid):
        Frontier(size, edge)


def test_the_root_of_an_inclusion_path_is_computed_without_comparing():
    assert inclusion_root(LEAVES[0], 0, 1, b"") == LEAVES[0]
