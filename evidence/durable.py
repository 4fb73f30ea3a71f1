"""Making a name in a folder survive a power cut. Writes no contents: who wrote a file has synced it before."""

import os
from pathlib import Path


def sync_folder(path: str | os.PathLike[str]) -> None:
    """Sync a folder: files made, renamed or removed in it stay so (fsync(2): syncing a file does not sync its name).

    Raises:
        OSError: It may or may not be durable.
    """
    descriptor = os.open(Path(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
