"""`lienthong broker`: the embedded nats-server of an instance."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from bus.transport.broker import BrokerFailed, BrokerFiles, EmbeddedBroker, render_config
from console.brokercluster import SERVER, folder_of, server_files
from console.homes import HomeInvalid, InstanceHome
from console.instance import read_broker_identity
from console.processes.running import announce, configure_logging, run_process

_log = structlog.get_logger("lienthong.broker")
LISTENING = "listening.json"


def broker_files(home: InstanceHome) -> BrokerFiles:
    """The broker's files of an instance home."""
    facts, identity = home.facts, read_broker_identity(home)
    return BrokerFiles(
        home=home.broker,
        operator_jwt=identity.operator_jwt,
        system_account=identity.system_account,
        accounts=identity.accounts,
        tls_cert=home.broker / "tls.crt",
        tls_key=home.broker / "tls.pem",
        listen=facts.broker_listen,
        leaf_listen=facts.broker_leaf_listen,
    )


def files_of(home_path: Path, server: int | None = None) -> BrokerFiles:
    """What runs in a folder: a single broker, one server of the cluster of an instance, or a carried server.

    Raises:
        HomeInvalid: it is not said which server, or there is none of this number.
    """
    if (home_path / SERVER).exists():
        files = server_files(home_path)
        if server is not None and not files.name.endswith(f"-{server}"):
            raise HomeInvalid(f"{home_path} is the folder of another server than {server}; leave --server out")
        return files
    home = InstanceHome(home_path)
    numbers = [one.number for one in home.facts.broker_servers]
    if not numbers:
        if server is not None:
            raise HomeInvalid(f"the broker of {home_path} is a single server; leave --server out")
        return broker_files(home)
    if server not in numbers:
        raise HomeInvalid(
            f"the broker of {home_path} is a cluster: say which server, --server {numbers[0]} … {numbers[-1]}"
        )
    return server_files(folder_of(home, server), read_broker_identity(home).accounts)


def write_configuration(home_path: Path, server: int | None = None) -> Path:
    """Writes nats-server.conf, for a server that you run yourself; returns its path."""
    files = files_of(home_path, server)
    for name in ("ports", "resolver", "jetstream"):
        (files.home / name).mkdir(parents=True, exist_ok=True)
    path = files.home / "nats-server.conf"
    path.write_text(render_config(files), encoding="utf-8")
    return path


def run(home_path: Path, binary: str, server: int | None = None) -> None:
    """Runs the broker, or one server of it, until SIGTERM.

    Raises:
        BrokerFailed: it did not start, or it ended by itself.
        HomeInvalid: see `files_of`.
    """
    configure_logging()
    files = files_of(home_path, server)
    broker = EmbeddedBroker(files, binary)
    listening = files.home / LISTENING
    listening.unlink(missing_ok=True)

    async def main(stop: asyncio.Event) -> None:
        await broker.start()
        announce(listening, {"url": broker.url, "monitor": broker.monitor_url, "server_pid": broker.pid})
        _log.info("broker.listening", url=broker.url)
        ended, stopping = asyncio.create_task(broker.wait()), asyncio.create_task(stop.wait())
        await asyncio.wait([ended, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not stopping.done():
            stopping.cancel()
            raise BrokerFailed(f"nats-server ended with code {ended.result()}; see {files.home}/nats-server.log")
        await broker.stop()
        await ended

    try:
        run_process(main, None)
    finally:
        listening.unlink(missing_ok=True)
