"""The broker's accounts of an instance. Pure but for the signing callable.

| account | who is in it | what it has |
|---|---|---|
| members | the nodes and leaf brokers of all members | queries, control questions, inboxes; no streams of its own |
| streams | the registry alone | JetStream: the directory, commands, results, events |
| system | the registry; leaf brokers, who only hear what is pushed | pushes of the members' account and its own |

The streams stand apart because the broker itself answers to the reply subject of whoever asks, with its own rights and
without looking at the asker's: a node that may read the directory could name `$JS.API.STREAM.DELETE.…` as the reply
subject, and the broker would obey its own answer. In the members' account such an answer finds nothing that obeys.
Members reach the streams through the imports below, each within its user's permissions.
"""

from __future__ import annotations

from collections.abc import Mapping

from bus.transport import nkeys, subjects

_SERVICES = (
    ("commands", "lt.c.>", "Singleton"),
    ("results", "lt.r.>", "Singleton"),
    ("events", "lt.e.>", "Singleton"),
    ("pull", "$JS.API.CONSUMER.MSG.NEXT.>", "Stream"),
    ("acknowledgements", "$JS.ACK.>", "Singleton"),
    ("claims", "lt.w.>", "Singleton"),
    ("work", "$JS.API.DIRECT.GET.*", "Stream"),
    ("directory", f"$JS.API.DIRECT.GET.{subjects.DIRECTORY_STREAM}.>", "Singleton"),
)
_ANNOUNCEMENTS = ("announcements", subjects.DIRECTORY_SUBJECTS)


def streams_jwt(public: bytes, operator: bytes, sign: nkeys.Sign, issued_at_s: int) -> str:
    """JWT of the streams' account: what it offers to the members' account, and nothing else."""
    exports = [
        {"name": name, "subject": subject, "type": "service", "response_type": answers}
        for name, subject, answers in _SERVICES
    ]
    exports.append({"name": _ANNOUNCEMENTS[0], "subject": _ANNOUNCEMENTS[1], "type": "stream"})
    return nkeys.account_jwt("streams", public, operator, sign, issued_at_s, jetstream=True, exports=exports)


def members_jwt(
    name: str,
    public: bytes,
    streams: bytes,
    operator: bytes,
    sign: nkeys.Sign,
    issued_at_s: int,
    revocations: Mapping[str, int] | None = None,
) -> str:
    """JWT of the members' account; `revocations` as in `nkeys.account_jwt`."""
    account = nkeys.public_text("account", streams)
    kinds = [(name_, subject, "service") for name_, subject, _ in _SERVICES] + [(*_ANNOUNCEMENTS, "stream")]
    imports = [
        {"name": name_, "subject": subject, "local_subject": subject, "account": account, "type": kind}
        for name_, subject, kind in kinds
    ]
    return nkeys.account_jwt(
        name, public, operator, sign, issued_at_s, jetstream=False, imports=imports, revocations=revocations
    )


def system_jwt(
    public: bytes,
    operator: bytes,
    sign: nkeys.Sign,
    issued_at_s: int,
    revocations: Mapping[str, int] | None = None,
) -> str:
    """JWT of the system account; `revocations` as in `nkeys.account_jwt`."""
    return nkeys.account_jwt("SYS", public, operator, sign, issued_at_s, jetstream=False, revocations=revocations)
