"""What others do at the broker: messages delivered again, ids used first, garbage. With real credentials, no gateway's.

A copy of a message is had by pulling it before its owner does; the broker gives it to the owner some seconds later,
which is a forced redelivery already. The copies are then published again without a message id.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random

from fault_world import FaultWorld

from bus.transport import subjects

from .schedule import CONSUMER, PROVIDER
from .stage import STRANGER

_PULL_S = 0.6


async def duplicate(world: FaultWorld, count: int) -> int:
    """Takes up to `count` commands and as many replies aside and publishes each twice more; how many were published."""
    found = 0
    for owner, sender, stream, subject in (
        (PROVIDER, CONSUMER, subjects.command_stream, subjects.command),
        (CONSUMER, PROVIDER, subjects.result_stream, subjects.result),
    ):
        member, node, by = world.member_id(owner), world.members[owner].node, world.member_id(sender)
        commands = stream is subjects.command_stream
        consumer = subjects.OWN_CONSUMER if commands else subjects.node_consumer(node)
        copies = await _pull(world, owner, f"{stream(member)}.{consumer}", count)
        connection = await world.nats_connection(as_node=sender)
        try:
            for data in copies * 2:
                await connection.publish(subject(member if commands else node, by), data)
            await connection.flush(2)
        finally:
            await connection.close()
        found += 2 * len(copies)
    return found


async def _pull(world: FaultWorld, owner: str, consumer: str, count: int) -> list[bytes]:
    inbox = f"{subjects.inbox(world.members[owner].node)}copy{random.getrandbits(40):x}"
    caught: list[bytes] = []
    full = asyncio.Event()

    async def catch(message: object) -> None:
        data, subject = message.data, message.subject  # type: ignore[attr-defined]
        if subject != inbox:
            caught.append(data)
            if len(caught) >= count:
                full.set()

    connection = await world.nats_connection(as_node=owner)
    try:
        await connection.subscribe(inbox, cb=catch)
        wanted = json.dumps({"batch": count, "expires": int(_PULL_S * 1e9)}).encode()
        await connection.publish(f"$JS.API.CONSUMER.MSG.NEXT.{consumer}", wanted, inbox)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(full.wait(), _PULL_S)
    finally:
        await connection.close()
    return caught


async def preempt(world: FaultWorld, ids: list[str]) -> int:
    """Uses the message ids of commands that were accepted and not sent yet, in the provider's stream."""
    subject = subjects.command(world.member_id(PROVIDER), world.member_id(STRANGER))
    connection = await world.nats_connection(as_node=STRANGER)
    try:
        for one in ids:
            await connection.publish(subject, b"a stranger's", headers={"Nats-Msg-Id": one})
        await connection.flush(2)
    finally:
        await connection.close()
    return len(ids)


async def garbage(world: FaultWorld, count: int, seed: str) -> int:
    """Random bytes in both streams."""
    chance = random.Random(seed)
    connection = await world.nats_connection(as_node=STRANGER)
    try:
        for _ in range(count):
            for subject in (subjects.command, subjects.result):
                victim = world.members[chance.choice((PROVIDER, CONSUMER))]
                to = victim.id if subject is subjects.command else victim.node
                target = subject(to, world.member_id(STRANGER))
                await connection.publish(target, chance.randbytes(chance.randint(0, 3_000)))
        await connection.flush(2)
    finally:
        await connection.close()
    return 2 * count
