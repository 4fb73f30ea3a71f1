"""A member's own broker, as a leaf of the instance's: its configuration and its credentials.

Gateways connect to the leaf with the same credentials as to the hub; traffic between gateways of one leaf stays there.
The leaf's owner commands everything in it: what it can do in the instance is bounded at the hub, by the rights of the
leaf's user (`permissions`). Who is refused it hears through a second line, in the system account, on which it only
listens; it keeps what it heard in a folder of its own. Starts no server.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from bus.transport.broker import HANDSHAKE_FIRST


@dataclass(frozen=True, slots=True)
class LeafFiles:
    """What a member's own broker needs to stand between its gateways and the hub.

    Attributes:
        home: where it keeps its files.
        hubs: `tls://host:port` of each server of the hub that takes leafs; one of them is enough at a time.
        credentials: file with the leaf's user and seed.
        system_credentials: file with its user in the system account and seed.
        ca: authority behind the hub's TLS certificate.
        operator_jwt: of the instance, so that gateways are known here by the same credentials.
        system_account: of the instance.
        account: of the members.
        accounts: account to JWT, to begin with; newer ones come through the system account and are kept.
        tls_cert: for the gateways that connect here.
        tls_key: of that certificate.
        listen: host:port for them.
    """

    home: Path
    hubs: tuple[str, ...]
    credentials: Path
    system_credentials: Path
    ca: Path
    operator_jwt: str
    system_account: str
    account: str
    accounts: dict[str, str]
    tls_cert: Path
    tls_key: Path
    listen: str = "127.0.0.1:4222"


def render_leaf_config(files: LeafFiles) -> str:
    """The nats-server configuration of a leaf: no streams of its own, everything else is asked of the hub."""
    host, _, port = files.listen.rpartition(":")
    preload = "\n".join(f"  {account}: {jwt}" for account, jwt in files.accounts.items())
    return f"""# Written by lienthong broker config. Who is refused comes by itself, and is kept in the folder resolver.
server_name: {json.dumps("lienthong-leaf-" + files.home.name)}
listen: "{host}:{int(port) or -1}"
max_payload: {8 * 1024 * 1024}
max_pending: 64MB
max_control_line: 256KB
write_deadline: "10s"
tls {{
  cert_file: {json.dumps(str(files.tls_cert))}
  key_file: {json.dumps(str(files.tls_key))}
  min_version: "1.3"
  handshake_first: "{HANDSHAKE_FIRST}"
}}
operator: {files.operator_jwt}
system_account: {files.system_account}
resolver {{
  type: full
  dir: {json.dumps(str(files.home / "resolver"))}
  allow_delete: false
}}
resolver_preload {{
{preload}
}}
leafnodes {{
  remotes: [
{_remote(files, files.account, files.credentials)}
{_remote(files, files.system_account, files.system_credentials)}
  ]
}}
"""


def _remote(files: LeafFiles, account: str, credentials: Path) -> str:
    return f"""    {{
      urls: [{", ".join(json.dumps(hub) for hub in files.hubs)}]
      account: {account}
      credentials: {json.dumps(str(credentials))}
      ignore_discovered_servers: true
      tls {{
        ca_file: {json.dumps(str(files.ca))}
        min_version: "1.3"
        handshake_first: true
      }}
    }}"""


def credentials_text(jwt: str, seed: str) -> str:
    """A credentials file as nats-server reads it: a user's JWT and its private key."""
    return (
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )


def credentials_jwt(text: str) -> str:
    """The JWT of a credentials file; empty where there is none."""
    return text.partition("-----BEGIN NATS USER JWT-----\n")[2].partition("\n")[0].strip()
