"""Writes files that must never be lost or half: keys and settings, by the functions that write them in the product.

python writing_keys.py FOLDER COUNT
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from bus.gateway.sealingkeys import write_key
from bus.sealing.keys import X25519, SealingKeyPair
from console.homes import replace_file, write_new
from evidence.signer import generate_key_file


def main(folder: Path, count: int) -> None:
    """See the module."""
    told = os.open(folder / "acknowledged", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)

    def done(path: Path) -> None:
        os.write(told, f"{path.name} {path.read_bytes().hex()}\n".encode())

    for number in range(count):
        for path in (folder / f"new-{number}", folder / "replaced"):
            (write_new if path.name.startswith("new") else replace_file)(path, f"{number}".encode() * 700)
            done(path)
        done(write_key(folder, "VN/GOV/H37", "query", SealingKeyPair.load(X25519, bytes([number + 1]) * 32)))
        generate_key_file(folder / f"log-{number}.pem", "ed25519")
        done(folder / f"log-{number}.pem")
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
