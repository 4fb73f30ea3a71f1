import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidence.errors import ProofInvalid
from evidence.merkle import EMPTY_ROOT, Frontier, leaf_hash, verify_consistency, verify_inclusion
from evidence.tiles import (
    TILE_BYTES,
    Subtrees,
    TileEdge,
    consistency_path,
    frontier_edge,
    inclusion_path,
    root_at,
    tile_path,
    tile_root,
    tile_shapes,
    tile_width,
)

SIZE = 66_000


@pytest.fixture(scope="module")
def log():
    """A log of three tile levels, grown in batches: its frontier, its roots by size and a tile reader."""
    hashes = [leaf_hash(str(number).encode()) for number in range(SIZE)]
    frontier, edge, full, roots = Frontier(), TileEdge(), {}, {0: EMPTY_ROOT}
    sizes = iter([1, 7, 64, 300, 1000, 5] * 1000)
    while frontier.size < SIZE:
        added = hashes[frontier.size : frontier.size + next(sizes)]
        extension = frontier.extend(added)
        edge, complete = edge.extend(added, extension)
        frontier = extension.frontier
        roots[frontier.size] = extension.root
        for tile in complete:
            assert len(tile.hashes) == TILE_BYTES
            assert tile_root(tile.hashes) == tile.root
            full[tile.level, tile.index] = tile.hashes

    def read(level, index, width):
        return full.get((level, index)) or edge.partial[level]

    return frontier, roots, hashes, read


def test_tiles_carry_every_hash_of_the_tree(log):
    frontier, roots, _, read = log
    assert frontier_edge(read, SIZE) == frontier.edge
    for size in [*list(roots)[:40], *list(roots)[-5:]]:
        assert root_at(read, size) == roots[size]


@settings(deadline=None)
@given(st.data())
def test_every_proof_from_tiles_holds(log, data):
    _, _, hashes, read = log
    size = data.draw(st.integers(1, SIZE))
    index = data.draw(st.integers(0, size - 1))
    old = data.draw(st.integers(1, size))
    root = root_at(read, size)
    verify_inclusion(hashes[index], index, size, inclusion_path(read, index, size), root)
    verify_consistency(old, size, root_at(read, old), root, consistency_path(read, old, size))


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, SIZE), st.integers(0, SIZE - 1)), max_size=8), st.sampled_from([0, 300, 8_192])
)
def test_what_is_remembered_of_earlier_proofs_changes_no_proof(log, wanted, most):
    read, known = log[3], Subtrees(most)
    for size, index in wanted:
        at = index % size
        assert inclusion_path(read, at, size, known) == inclusion_path(read, at, size)


def test_neighbouring_proofs_ask_for_no_tile_again(log):
    asked, known = [], Subtrees()

    def read(*tile):
        asked.append(tile)
        return log[3](*tile)

    inclusion_path(read, 300, SIZE, known)
    before = len(asked)
    for index in range(256, 512):
        inclusion_path(read, index, SIZE, known)
    assert len(asked) == before


def test_proofs_that_do_not_exist_are_refused(log):
    read = log[3]
    for index, size in ((5, 5), (-1, 5), (0, 0)):
        with pytest.raises(ProofInvalid):
            inclusion_path(read, index, size)
    for old, new in ((0, 5), (6, 5), (0, 0), (-1, 2)):
        with pytest.raises(ProofInvalid):
            consistency_path(read, old, new)
    assert consistency_path(read, 5, 5) == []


def test_a_short_tile_is_noticed():
    with pytest.raises(ProofInvalid):
        inclusion_path(lambda _level, _index, _width: b"x" * 32, 0, 2)


@pytest.mark.parametrize(
    ("level", "index", "width", "path"),
    [
        (0, 0, 256, "tile/0/000"),
        (0, 1234067, 256, "tile/0/x001/x234/067"),
        (1, 999, 17, "tile/1/999.p/17"),
        (63, 1000, 1, "tile/63/x001/000.p/1"),
        ("entries", 1000000, 255, "tile/entries/x001/x000/000.p/255"),
    ],
)
def test_tiles_are_named_as_specified(level, index, width, path):
    assert tile_path(level, index, width) == path


@pytest.mark.parametrize(("level", "index", "width"), [(64, 0, 1), (-1, 0, 1), (0, -1, 1), (0, 0, 0), (0, 0, 257)])
def test_a_tile_that_cannot_be_has_no_name(level, index, width):
    with pytest.raises(ProofInvalid):
        tile_path(level, index, width)


def test_shapes_of_the_specification():
    assert tile_shapes(70_000) == [(0, 273, 112), (1, 1, 17), (2, 0, 1)]
    assert tile_shapes(256) == [(0, 1, 0), (1, 0, 1)]
    assert tile_shapes(0) == []
    assert [tile_width(0, index, 300) for index in range(3)] == [256, 44, 0]
