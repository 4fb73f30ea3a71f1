"""What one sender's messages that are put back leave for the others, on a real broker."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nats
import pytest

from bus.transport.streams import StreamSettings, wanted_streams
from bus.transport.subjects import OWN_CONSUMER

_PUT_BACK_S = 120.0


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    ports = tmp_path / "ports"
    ports.mkdir()
    binary = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or "nats-server"
    server = subprocess.Popen(
        [binary, "-a", "127.0.0.1", "-p", "-1", "-js", "-sd", str(tmp_path / "store"), "--ports_file_dir", str(ports)],
        stderr=subprocess.DEVNULL,
    )
    try:
        yield _address(ports, server)
    finally:
        server.kill()
        server.wait()


def _address(ports: Path, server: subprocess.Popen[bytes]) -> str:
    until_s = time.monotonic() + 20
    while time.monotonic() < until_s:
        for file in ports.glob("*.ports"):
            if text := file.read_text():
                return str(json.loads(text)["nats"][0])
        time.sleep(0.02)
    raise AssertionError("nats-server did not start")


async def test_a_senders_share_of_messages_that_are_put_back_holds_up_nobody_else(url: str) -> None:
    """Quota used up, maintenance, a back end away: the broker counts them as pending until they are acknowledged."""
    wanted, *_ = wanted_streams("VN/GOV/G01", ["VN/GOV/G01/@n1"], StreamSettings())
    client = await nats.connect(url)
    try:
        js = client.jetstream()
        await js.add_stream(wanted.config)
        for consumer in wanted.consumers:  # one of an earlier version is brought to its shape
            await js.add_consumer(wanted.config.name, consumer.evolve(max_ack_pending=1_000))
            await js.add_consumer(wanted.config.name, consumer)
        share = int(wanted.config.max_msgs_per_subject or 0)
        assert share > 900
        count = min(share, 3_000)
        for first in range(0, count, 500):
            await asyncio.gather(
                *(js.publish("lt.c.GOV~G01.GOV~H37", b"x") for _ in range(first, min(first + 500, count)))
            )
        puller = await js.pull_subscribe_bind(OWN_CONSUMER, stream=wanted.config.name)
        put_back = 0
        while put_back < count:
            try:
                found = await puller.fetch(500, timeout=2)
            except nats.errors.TimeoutError:
                break
            for message in found:
                await message.nak(delay=_PUT_BACK_S)
            put_back += len(found)
        await js.publish("lt.c.GOV~G01.GOV~E66", b"of another member")
        (other,) = await puller.fetch(1, timeout=5)
        assert other.data == b"of another member"
    finally:
        await client.close()
