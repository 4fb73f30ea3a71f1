"""Exports a log as static files, in the layout of C2SP tlog-tiles.

Hash tiles may be public; entry bundles are for whoever may see the headers. The checkpoint is written last, so a
directory with a checkpoint is complete. Proofs received from others are not part of a log and are exported by `bus`.
"""

import os
from pathlib import Path

from evidence import checkpoint
from evidence.errors import SourceUnreadable
from evidence.log.reader import LogReader
from evidence.merkle import HASH_BYTES
from evidence.tile_directory import CHECKPOINT_FILE, TileDirectory, join_bundle
from evidence.tiles import TILE_WIDTH, tile_path, tile_shapes


def export_tiles(
    source: str | os.PathLike[str] | LogReader, out_dir: str | os.PathLike[str], *, entries: bool = True
) -> int:
    """Write the newest committed state of a log.

    Files of an earlier export of the same log may be there; immutable files are written again only when missing.

    Args:
        source: Database file, or a reader of it.
        out_dir: Made if missing.
        entries: Whether to write the entry bundles too; without them nothing of the headers leaves.

    Returns:
        The number of leaves.

    Raises:
        SourceUnreadable: The database or the directory cannot be used.
        IndexUnknown: The log has no checkpoint, or stored leaves or tiles are missing.
    """
    if not isinstance(source, LogReader):
        with LogReader(source) as reader:
            return export_tiles(reader, out_dir, entries=entries)
    out = Path(out_dir)
    note = source.note()
    signed = checkpoint.parse_note(note)
    size = signed.size
    _check_same_log(out, signed.origin)
    try:
        for level, full, width in tile_shapes(size):
            for index in range(full + (width > 0)):
                count = TILE_WIDTH if index < full else width
                _write_tile(source, out, level, index, count)
                if entries and level == 0:
                    _write_bundle(source, out, index, count)
        _write(out / CHECKPOINT_FILE, note)
    except OSError as error:
        raise SourceUnreadable(f"the export to {out} cannot be written ({error.strerror})") from None
    return size


def _check_same_log(out: Path, origin: str) -> None:
    """Two logs in one directory would give a tree that belongs to neither."""
    if (out / CHECKPOINT_FILE).exists() and checkpoint.parse_note(TileDirectory(out).note()).origin != origin:
        raise SourceUnreadable(f"{out} holds the export of another log: choose an empty directory")


def _write_tile(source: LogReader, out: Path, level: int, index: int, width: int) -> None:
    path = out / tile_path(level, index, width)
    if not path.exists():
        _write(path, source.tile(level, index, width)[: width * HASH_BYTES])


def _write_bundle(source: LogReader, out: Path, index: int, width: int) -> None:
    path = out / tile_path("entries", index, width)
    if not path.exists():
        start = index * TILE_WIDTH
        _write(path, join_bundle([leaf for _, _, leaf in source.leaves(start, start + width)]))


def _write(path: Path, data: bytes) -> None:
    """Write a file so that it is there completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.replace(path)
