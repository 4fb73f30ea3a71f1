"""A registry that has the genuine directory's keys, and the broker's, and shows whatever it likes.

    hostile = HostileRegistry(world)            # the genuine registry must have stopped; its log is where it begins
    await hostile.show()                        # its leaves, under a checkpoint with both genuine signatures, as of now
    await hostile.append(jws); await hostile.show(leaves=other); await hostile.show(at=earlier); await hostile.hide()

It writes into the very stream that gateways read, in the streams' account.
"""

from __future__ import annotations

import base64
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import nats.aio.client
from world import World

from bus.transport import nkeys
from console.demo.forgeries import Forger, make_forger, registry_leaves
from console.homes import InstanceHome
from evidence import note as evidence_note
from evidence.checkpoint import Checkpoint, key_name
from evidence.leaf import DIRECTORY, wrap
from evidence.merkle import Frontier, leaf_hash
from evidence.signer import FileSigner
from registry.checkpoints import cosign_checkpoint, directory_origin
from registry.feed import encode_bundle
from registry.ports import BUNDLE_LEAVES


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Root of the tree of all leaves."""
    return Frontier().extend([leaf_hash(leaf) for leaf in leaves]).root


class HostileRegistry:
    """See the module.

    Attributes:
        leaves: of the history that it goes on with.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.leaves = registry_leaves(InstanceHome(world.home))
        self._log = FileSigner.load(world.home / "keys" / "directory.pem")
        self._cosigner = FileSigner.load(world.home / "keys" / "cosigner.pem")

    def forger(self, insider: str, victim: str) -> Forger:
        """Everything that it can have beside its own keys."""
        home = self.world.member(insider).home
        return make_forger(self.world.home, home, self.world.member_id(victim), list(self.leaves))

    @asynccontextmanager
    async def _streams(self) -> AsyncIterator[nats.aio.client.Client]:
        account, key = FileSigner.load(self.world.home / "broker" / "streams.pem"), FileSigner.generate("ed25519")
        jwt = nkeys.user_jwt(
            "hostile", key.public_bytes, account.public_bytes, account.sign, int(time.time()) - 1,
            expires_at_s=None, publish=None, subscribe=None,
        )  # fmt: skip
        client = nats.aio.client.Client()
        await client.connect(
            servers=[f"tls://127.0.0.1:{self.world.broker_port}"],
            tls=ssl.create_default_context(cafile=str(self.world.home / "ca" / "ca.crt")),
            tls_handshake_first=True,
            user_jwt_cb=jwt.encode,
            signature_cb=lambda nonce: base64.b64encode(key.sign(nonce.encode())),
            allow_reconnect=False,
        )
        try:
            yield client
        finally:
            await client.close()

    def checkpoint(self, size: int, root: bytes, at: datetime | None = None) -> bytes:
        """A statement with both genuine signatures."""
        genesis, instance = self.world.genesis, self.world.instance
        origin = directory_origin(genesis, instance)
        note = evidence_note.sign(Checkpoint(origin, size, root).text(), key_name(origin), self._log)
        return cosign_checkpoint(note, genesis, instance, self._cosigner, int((at or datetime.now(UTC)).timestamp()))

    async def put(self, name: str, data: bytes) -> None:
        """Any message of the feed: `entries.<n>` or `checkpoint`."""
        async with self._streams() as client:
            await client.jetstream().publish(f"lt.dir.{name}", data)

    async def show(
        self, leaves: Sequence[bytes] | None = None, *, at: datetime | None = None, note: bytes | None = None
    ) -> bytes:
        """Entries and a checkpoint over them, cosigned at an instant; or another checkpoint. The note."""
        leaves = self.leaves if leaves is None else leaves
        shown = note or self.checkpoint(len(leaves), root_of(leaves), at)
        async with self._streams() as client:
            stream = client.jetstream()
            for first in range(0, len(leaves), BUNDLE_LEAVES):
                bundle = encode_bundle(leaves[first : first + BUNDLE_LEAVES])
                await stream.publish(f"lt.dir.entries.{first // BUNDLE_LEAVES}", bundle)
            await stream.publish("lt.dir.checkpoint", shown)
        return shown

    async def append(self, *documents: bytes) -> None:
        """Puts signed documents into its history and shows it."""
        self.leaves += [wrap(DIRECTORY, jws) for jws in documents]
        await self.show()

    async def hide(self) -> None:
        """Takes everything out of the feed: whoever asks hears that there is nothing."""
        async with self._streams() as client:
            await client.request("$JS.API.STREAM.PURGE.LT_DIR", b'{"filter":"lt.dir.checkpoint"}', timeout=5)
            await client.request("$JS.API.STREAM.PURGE.LT_DIR", b'{"filter":"lt.dir.entries.*"}', timeout=5)
