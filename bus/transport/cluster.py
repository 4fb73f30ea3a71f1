"""Several brokers as one: what a server of a cluster needs beside what a single one does. Pure.

Whoever is let in as a route sees the traffic of all accounts and may speak for any of them. So routes have an authority
of their own, which certifies nothing but the cluster's servers; the instance's authority, which certifies members too,
is not asked. There are no permissions on routes: each server holds each account anyway. Starts no server.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RouteFiles:
    """How a server finds and proves itself to the others.

    Attributes:
        cluster: name of the cluster, the same at each server.
        listen: host:port for the others.
        peers: host:port of each server's listener for routes; the own one may be among them.
        tls_cert: of this server, for both directions, issued by `ca`.
        tls_key: of that certificate.
        ca: the routes' own authority.
    """

    cluster: str
    listen: str
    peers: tuple[str, ...]
    tls_cert: Path
    tls_key: Path
    ca: Path


def render_routes(files: RouteFiles) -> str:
    """The part of the nats-server configuration that makes a server one of a cluster.

    TLS of routes is mutual in any case; it is said all the same. Clients are told no addresses of other servers: they
    know those that were settled for them.
    """
    return f"""cluster {{
  name: {json.dumps(files.cluster)}
  listen: {json.dumps(files.listen)}
  no_advertise: true
  routes: {_list(f"tls://{peer}" for peer in files.peers)}
  tls {{
    cert_file: {json.dumps(str(files.tls_cert))}
    key_file: {json.dumps(str(files.tls_key))}
    ca_file: {json.dumps(str(files.ca))}
    verify: true
    min_version: "1.3"
    timeout: 5
  }}
}}
"""


def _list(items: Iterable[str]) -> str:
    return "[" + ", ".join(json.dumps(item) for item in items) + "]"
