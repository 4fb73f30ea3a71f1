"""Further users of the instance's broker accounts: two of the same kind and size as a node's, one that stores."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass
from pathlib import Path

from nats.aio.client import Client

from bus.front.server import client_tls
from bus.transport import nkeys
from bus.transport.connection import BrokerIdentity, Connection
from evidence.signer import FileSigner, generate_key_file

QUERY_SUBJECT = "bench.q.relay.front"
ECHO_SUBJECT = "bench.q.echo.front"
GROUP = "q~relay"
_PUBLISH = ["bench.q.*.front", "bench.k.*.front", "_I.>", "$JS.API.DIRECT.GET.LT_DIR.>"]
_SUBSCRIBE = ["bench.q.relay.* q~relay", "bench.q.echo.*", "_I.bench.>", "lt.dir.>"]
_STORE_PUBLISH = ["bench.s.*", "$JS.API.>"]
_STORE_SUBSCRIBE = ["_I.bench.>"]


class Unobserved:
    """A transport observer that forgets."""

    def connected(self, up: bool) -> None:
        """Forget it."""

    def denied(self) -> None:
        """A benchmark with denied messages measures nothing."""
        raise RuntimeError("the broker denied a message")

    def overloaded(self) -> None:
        """A benchmark with dropped messages measures nothing."""
        raise RuntimeError("a message was dropped")


@dataclass(frozen=True, slots=True)
class BrokerUser:
    """Files of one broker user: `<name>.pem` and `<name>.jwt`."""

    folder: Path
    name: str

    def connection(self, url: str, ca: Path) -> Connection:
        """A connection as this user, by the product's own class."""
        signer, jwt = self._credentials()
        identity = BrokerIdentity(f"bench-{self.name}", lambda: jwt, signer.sign)
        return Connection([url], client_tls(str(ca)), identity, f"_I.bench.{self.name}.", Unobserved())

    async def client(self, url: str, ca: Path) -> Client:
        """A connection as this user, by the NATS library alone."""
        signer, jwt = self._credentials()
        client = Client()
        await client.connect(
            servers=[url],
            tls=client_tls(str(ca)),
            tls_handshake_first=True,
            user_jwt_cb=jwt.encode,
            signature_cb=lambda nonce: base64.b64encode(signer.sign(nonce.encode())),
            inbox_prefix=f"_I.bench.{self.name}",
            allow_reconnect=False,
            connect_timeout=20,
        )
        return client

    def _credentials(self) -> tuple[FileSigner, str]:
        jwt = (self.folder / f"{self.name}.jwt").read_text(encoding="ascii")
        return FileSigner.load(self.folder / f"{self.name}.pem"), jwt


def mint(instance_home: Path, folder: Path, name: str, *, stores: bool = False) -> BrokerUser:
    """Makes key and user JWT in the account of the nodes, or in that of the streams."""
    account = FileSigner.load(instance_home / "broker" / ("streams.pem" if stores else "account.pem"))
    key = generate_key_file(folder / f"{name}.pem", "ed25519")
    now_s = int(time.time())
    jwt = nkeys.user_jwt(
        f"bench-{name}",
        key.public_bytes,
        account.public_bytes,
        account.sign,
        now_s - 1,
        expires_at_s=now_s + 86_400,
        publish=_STORE_PUBLISH if stores else _PUBLISH,
        subscribe=_STORE_SUBSCRIBE if stores else _SUBSCRIBE,
    )
    (folder / f"{name}.jwt").write_text(jwt, encoding="ascii")
    return BrokerUser(folder, name)
