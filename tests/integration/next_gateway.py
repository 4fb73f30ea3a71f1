"""A gateway of the next version: a real one whose wire also has version 2. It notes in which versions it was written to.

One character for each message that came, `1` or `2`, in `data/came.txt`; `x` for what it could not read.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import fault_gateway
from next_wire import CODEC, NEXT

from bus import envelope as wire

_decode = wire.decode


def main() -> None:
    home = Path(sys.argv[sys.argv.index("--home") + 1])
    came = os.open(home / "data" / "came.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def decode(data: bytes, max_bytes: int) -> wire.Envelope:
        try:
            envelope = _decode(data, max_bytes)
        except Exception:
            os.write(came, b"x")
            raise
        os.write(came, b"%d" % envelope.version)
        return envelope

    wire.KNOWN.add(NEXT, CODEC)
    wire.decode = decode
    fault_gateway.main()


if __name__ == "__main__":
    main()
