"""What a member's node must not be able to do at the broker, each tried for real, by a genuine node of a member.

`INTRUSIONS` is the one list: the demonstration counts how many the broker refused, the tests look at each. An intrusion
counts as refused when the broker says so, or, where the broker says nothing (it obeys reply subjects in silence), when
what it aimed at is still there. Nothing of another member is changed, and what is sent to oneself is taken out again.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from bus.transport import nkeys, subjects
from bus.transport.nkeys import user_jwt
from console.demo.handclient import HandClient, HandRefused, Heard
from evidence.signer import FileSigner

_API = "$JS.API"
_STREAMS_S = 15.0
_MOST_SENT = 5_000


@dataclass(frozen=True, slots=True)
class Intruder:
    """A node with its connection, and whom it is after.

    Attributes:
        client: connected as the node.
        url: of the broker.
        ca: file with the broker's authority.
        jwt: of the node.
        signer: its broker key.
        node: `INSTANCE/CLASS/MEMBER/@NODE`.
        member: its member.
        victim: another member.
        victim_node: a node of it.
        third: a third member, in whose name nothing may be sent.
        leaf: credentials (JWT and key) of a leaf broker of the own member, when there are any.
    """

    client: HandClient
    url: str
    ca: str
    jwt: str
    signer: FileSigner
    node: str
    member: str
    victim: str
    victim_node: str
    third: str
    leaf: tuple[str, Callable[[bytes], bytes]] | None = None

    def inbox(self) -> str:
        """A reply subject of its own."""
        return f"{subjects.inbox(self.node)}{os.urandom(8).hex()}"

    async def asked(self, subject: str, data: bytes = b"") -> Heard | None:
        """The answer to a request."""
        return await self.client.request(subject, data, self.inbox())

    async def next_command(self, *, large: bool = False) -> Heard | None:
        """The next command in its own stream, taken out; None when there is none."""
        own = f"{subjects.command_stream(self.member, large=large)}.{subjects.OWN_CONSUMER}"
        got = await self.asked(f"{_API}.CONSUMER.MSG.NEXT.{own}", b'{"batch":1,"no_wait":true}')
        if got is None or not got.reply:
            return None
        self.client.publish(got.reply, b"+ACK")
        return got


Attempt = Callable[[Intruder], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Intrusion:
    """One thing that must not work; `attempt` says whether it was refused."""

    name: str
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Intrusions:
    """How it went: `let_in` names those that worked."""

    tried: int
    refused: int
    let_in: tuple[str, ...]


# Kinds of attempts ------------------------------------------------------------------------------------------------


def _tokens(intruder: Intruder) -> dict[str, str]:
    return {
        "E": subjects.member_token(intruder.member),
        "V": subjects.member_token(intruder.victim),
        "T": subjects.member_token(intruder.third),
        "N": subjects.node_token(intruder.victim_node),
        "CE": subjects.command_stream(intruder.member),
        "CV": subjects.command_stream(intruder.victim),
        "RV": subjects.result_stream(intruder.victim),
        "WV": subjects.work_stream(intruder.victim),
        "EV": subjects.event_stream(intruder.victim),
        "OWN": subjects.OWN_CONSUMER,
    }


def _fill(pattern: str, intruder: Intruder) -> str:
    return pattern.format(**_tokens(intruder))


def _listening(name: str, subject: str, queue: str = "") -> Intrusion:
    async def attempt(intruder: Intruder) -> bool:
        intruder.client.subscribe(_fill(subject, intruder), _fill(queue, intruder))
        return _denied(await intruder.client.refusals(), "Subscription")

    return Intrusion(name, attempt)


def _sending(name: str, subject: str, data: str = "", reply: str = "") -> Intrusion:
    async def attempt(intruder: Intruder) -> bool:
        text = data
        for key, token in _tokens(intruder).items():
            text = text.replace(f"<{key}>", token)
        intruder.client.publish(_fill(subject, intruder), text.encode(), _fill(reply, intruder) or intruder.inbox())
        return _denied(await intruder.client.refusals(), "Publish")

    return Intrusion(name, attempt)


def _denied(refusals: list[str], what: str) -> bool:
    return any(refusal.startswith(f"Permissions Violation for {what}") for refusal in refusals)


async def _barred(intruder: Intruder, jwt: str, sign: Callable[[bytes], bytes]) -> bool:
    try:
        client = await HandClient.connect(intruder.url, intruder.ca, jwt, sign)
    except HandRefused as refused:
        return "Authorization Violation" in str(refused)
    await client.close()
    return False


# Attempts with a course of their own ------------------------------------------------------------------------------


def _reply_to_api(name: str, verb: str) -> Intrusion:
    """The broker answers to whatever reply subject it is given: does it obey its own answer?"""

    async def attempt(intruder: Intruder) -> bool:
        token, client = subjects.member_token(intruder.member), intruder.client
        while await intruder.next_command() is not None:
            continue
        sent = await intruder.asked(f"lt.c.{token}.{token}", b"stays")
        if sent is None or b'"seq"' not in sent.data:
            return False
        foreign = f"{_API}.{_fill(verb, intruder)}"
        client.publish(f"{_API}.DIRECT.GET.{subjects.DIRECTORY_STREAM}.lt.dir.checkpoint", b"", foreign)
        client.publish(f"lt.c.{token}.{token}", b"stays", foreign)
        await _let_it_work(intruder)
        directory = await intruder.asked(f"{_API}.DIRECT.GET.{subjects.DIRECTORY_STREAM}.lt.dir.checkpoint")
        kept = [await intruder.next_command(), await intruder.next_command()]
        while await intruder.next_command() is not None:
            continue
        return directory is not None and bool(directory.data) and all(one and one.data == b"stays" for one in kept)

    return Intrusion(name, attempt)


async def _let_it_work(intruder: Intruder) -> None:
    """The broker stores and answers in the background: what was sent before these has had its effect afterwards."""
    token = subjects.member_token(intruder.member)
    for _ in range(8):
        await intruder.asked(f"lt.c.{token}.{token}", b"afterwards")


async def _in_anothers_name_by_reply(intruder: Intruder) -> bool:
    """The broker's own answers, sent into the own stream as if a third member had sent them."""
    token = subjects.member_token(intruder.member)
    subject = f"lt.c.{token}.{subjects.member_token(intruder.third)}"
    while await intruder.next_command() is not None:
        continue
    intruder.client.publish(f"{_API}.DIRECT.GET.{subjects.DIRECTORY_STREAM}.lt.dir.checkpoint", b"", subject)
    intruder.client.publish(f"lt.c.{token}.{token}", b"mine", subject)
    await _let_it_work(intruder)
    found = set()
    while (command := await intruder.next_command()) is not None:
        found.add(command.subject)
    return found == {f"lt.c.{token}.{token}"}


async def _filling(intruder: Intruder) -> bool:
    """More commands than one sender may have in a stream; then all are taken out again."""
    token, refused = subjects.member_token(intruder.member), False
    for _ in range(_MOST_SENT):
        answer = await intruder.asked(f"lt.c.{subjects.LARGE}.{token}.{token}", b"x")
        if answer is None or b'"error"' in answer.data:
            refused = answer is not None and json.loads(answer.data)["error"]["err_code"] == 10077
            break
    while await intruder.next_command(large=True) is not None:
        continue
    return refused


async def _too_large(intruder: Intruder) -> bool:
    token = subjects.member_token(intruder.member)
    answer = await intruder.asked(f"lt.c.{token}.{token}", bytes(5 * 1024 * 1024))
    return answer is not None and b'"err_code":10054' in answer.data


async def _with_a_strangers_key(intruder: Intruder) -> bool:
    return await _barred(intruder, intruder.jwt, FileSigner.generate("ed25519").sign)


async def _with_credentials_of_ones_own_making(intruder: Intruder) -> bool:
    account = nkeys.public_bytes(str(nkeys.decode_claims(intruder.jwt)["iss"]))
    made = user_jwt(
        intruder.victim_node, intruder.signer.public_bytes, account, intruder.signer.sign, 1,
        expires_at_s=None, publish=None, subscribe=None,
    )  # fmt: skip
    return await _barred(intruder, made, intruder.signer.sign)


async def _leaf_as_client(intruder: Intruder) -> bool:
    assert intruder.leaf is not None
    return await _barred(intruder, *intruder.leaf)


_PUSH = '{"stream_name":"<CV>","config":{"deliver_subject":"_I.x","durable_name":"p","ack_policy":"none"}}'

INTRUSIONS: tuple[Intrusion, ...] = (
    _listening("another member's queries", "lt.q.{V}.*"),
    _listening("another member's queries, in its queue group", "lt.q.{V}.*", "q~{V}"),
    _listening("another member's queries, in the own queue group", "lt.q.{V}.*", "q~{E}"),
    _listening("the own member's queries outside the queue group", "lt.q.{E}.*"),
    _listening("all queries", "lt.q.>"),
    _listening("everything", ">"),
    _listening("everything of two tokens", "*.*"),
    _listening("another node's answers", "_I.{N}.>"),
    _listening("everybody's answers", "_I.>"),
    _listening("answers to the registry", "_I.registry.>"),
    _listening("another node's control questions", "lt.k.{N}.*"),
    _listening("requests for credentials", "lt.k.registry.*"),
    _listening("commands to another member", "lt.c.{V}.*"),
    _listening("results for another member", "lt.r.{V}.*.*"),
    _listening("who of another member's nodes does what", "lt.w.{V}.>"),
    _listening("events past the streams", "lt.e.>"),
    _listening("advisories of the streams", "$JS.EVENT.ADVISORY.>"),
    _listening("requests to the streams' interface", "$JS.API.>"),
    _listening("acknowledgements", "$JS.ACK.>"),
    _listening("events of the servers", "$SYS.>"),
    _sending("a query in a third member's name", "lt.q.{V}.{T}"),
    _sending("a control question in another node's name", "lt.k.{N}.{N}"),
    _sending("a request for another node's credentials", "lt.k.registry.{N}"),
    _sending("a command in a third member's name", "lt.c.{V}.{T}"),
    _sending("a result in a third member's name", "lt.r.{V}.n1.{T}"),
    _sending("a claim on another member's command", "lt.w.{V}.c." + 64 * "0", "{}"),
    _sending("a sign of life of another member's node", "lt.w.{V}.n.n1", "{}"),
    _sending("an event of another member", "lt.e.{V}.news"),
    _sending("a checkpoint of the directory", "lt.dir.checkpoint"),
    _sending("an account for the servers", "$SYS.REQ.CLAIMS.UPDATE"),
    _sending("a question to the servers", "$SYS.REQ.SERVER.PING.CONNZ"),
    *(
        _sending(f"the streams' interface: {verb}", f"{_API}.{verb}", data)
        for verb, data in (
            ("INFO", ""),
            ("STREAM.LIST", ""),
            ("STREAM.NAMES", ""),
            ("STREAM.INFO.{CV}", ""),
            ("STREAM.CREATE.MINE", '{"name":"MINE","subjects":["lt.q.>"]}'),
            ("STREAM.UPDATE.{CV}", '{"name":"<CV>","subjects":["x"]}'),
            ("STREAM.PURGE.{CV}", ""),
            ("STREAM.PURGE.{CE}", ""),
            ("STREAM.DELETE.{CV}", ""),
            ("STREAM.DELETE." + subjects.DIRECTORY_STREAM, ""),
            ("STREAM.MSG.GET.{CV}", '{"seq":1}'),
            ("STREAM.MSG.DELETE.{CV}", '{"seq":1}'),
            ("STREAM.SNAPSHOT.{CV}", '{"deliver_subject":"_I.x"}'),
            ("STREAM.RESTORE.{CV}", "{}"),
            ("CONSUMER.CREATE.{CV}", '{"stream_name":"<CV>","config":{}}'),
            ("CONSUMER.CREATE.{CV}.mine", '{"stream_name":"<CV>","config":{"name":"mine"}}'),
            ("CONSUMER.DURABLE.CREATE.{CV}.mine", '{"stream_name":"<CV>","config":{"durable_name":"mine"}}'),
            ("CONSUMER.DELETE.{CV}.{OWN}", ""),
            ("CONSUMER.LIST.{CV}", ""),
            ("CONSUMER.NAMES.{CV}", ""),
            ("CONSUMER.INFO.{CV}.{OWN}", ""),
            ("CONSUMER.PAUSE.{CV}.{OWN}", "{}"),
            ("CONSUMER.MSG.NEXT.{CV}.{OWN}", "1"),
            ("CONSUMER.MSG.NEXT.{RV}.{OWN}", "1"),
            ("CONSUMER.MSG.NEXT.{RV}.{OWN}~n1", "1"),
            ("CONSUMER.MSG.NEXT.{EV}.{OWN}", "1"),
            ("DIRECT.GET.{CV}", '{"seq":1}'),
            ("DIRECT.GET.{WV}", '{"seq":1}'),
        )
    ),
    _sending("an acknowledgement of another member's command", "$JS.ACK.{CV}.{OWN}.1.1.1.1.0", "+ACK"),
    _sending("an acknowledgement by way of a reply", "lt.c.{E}.{E}", "", "$JS.ACK.{CV}.{OWN}.1.1.1.1.0"),
    _sending("a push consumer on another member's commands", f"{_API}.CONSUMER.DURABLE.CREATE.{{CV}}.p", _PUSH),
    _sending("a push consumer on the own commands", f"{_API}.CONSUMER.DURABLE.CREATE.{{CE}}.p", _PUSH),
    _reply_to_api("the own stream purged by the broker's own answer", "STREAM.PURGE.{CE}"),
    _reply_to_api("the own stream deleted by the broker's own answer", "STREAM.DELETE.{CE}"),
    _reply_to_api("the directory deleted by the broker's own answer", "STREAM.DELETE." + subjects.DIRECTORY_STREAM),
    Intrusion("a command in a third member's name by the broker's own answer", _in_anothers_name_by_reply),
    Intrusion("a stream filled by one sender", _filling),
    Intrusion("a message larger than any exchange", _too_large),
    Intrusion("the own credentials with a stranger's key", _with_a_strangers_key),
    Intrusion("credentials of one's own making", _with_credentials_of_ones_own_making),
)
LEAF_INTRUSION = Intrusion("a leaf broker's credentials as an ordinary client", _leaf_as_client)


async def enter(
    home: Path,
    url: str,
    node: str,
    victim_node: str,
    third: str,
    leaf: tuple[str, Callable[[bytes], bytes]] | None = None,
) -> Intruder:
    """Connects as the node of a member's home, with its own inbox subscribed.

    Args:
        home: with `keys/broker.pem`, `keys/broker.jwt` and `ca.pem`.
        url: `tls://host:port` of the broker.
        node: of that home.
        victim_node: a node of another member.
        third: a third member, or any that exists nowhere.
        leaf: see `Intruder`.

    Raises:
        HandRefused: the broker does not let the node in at all.
    """
    jwt = (home / "keys" / "broker.jwt").read_text(encoding="ascii").strip()
    signer, ca = FileSigner.load(home / "keys" / "broker.pem"), str(home / "ca.pem")
    client = await HandClient.connect(url, ca, jwt, signer.sign)
    client.subscribe(f"{subjects.inbox(node)}>")
    member, victim = node.rpartition("/")[0], victim_node.rpartition("/")[0]
    return Intruder(client, url, ca, jwt, signer, node, member, victim, victim_node, third, leaf)


async def _has_its_stream(intruder: Intruder) -> None:
    """Waits until the own stream takes and gives commands.

    The registry makes it a moment after a member's first node; a gateway that was stopped may have asked for the next
    few messages, and the broker keeps them for it for seconds.
    """
    token = subjects.member_token(intruder.member)
    while True:
        sent = await intruder.asked(f"lt.c.{token}.{token}", b"there?")
        given = [await intruder.next_command() for _ in range(3)]
        if sent is not None and b'"seq"' in sent.data and any(given):
            break
        await asyncio.sleep(0.1)
    while await intruder.next_command() is not None:
        continue


async def try_intrusions(
    home: Path,
    url: str,
    node: str,
    victim_node: str,
    third: str,
    leaf: tuple[str, Callable[[bytes], bytes]] | None = None,
) -> Intrusions:
    """Tries every intrusion against a running instance; see `enter`.

    Raises:
        TimeoutError: the registry has not made the member's streams, or a gateway empties them.
    """
    listed = [*INTRUSIONS, *([LEAF_INTRUSION] if leaf is not None else [])]
    let_in = []
    own = await enter(home, url, node, victim_node, third, leaf)
    try:
        async with asyncio.timeout(_STREAMS_S):
            await _has_its_stream(own)
    finally:
        await own.client.close()
    for intrusion in listed:
        intruder = await enter(home, url, node, victim_node, third, leaf)
        try:
            if not await intrusion.attempt(intruder):
                let_in.append(intrusion.name)
        finally:
            await intruder.client.close()
    return Intrusions(len(listed), len(listed) - len(let_in), tuple(let_in))
