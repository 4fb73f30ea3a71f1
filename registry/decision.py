"""The access decision: may this client call this operation, for this purpose, on this ground, now?

Pure: everything comes in as arguments, nothing is counted here (`quota` counts). Deny by default: a decision is
allowed only if one right in the view grants it, and every refusal names a stable code, a reason for people and, where
a right came close, the rule. Two stages, because purpose and official are sealed: `authorise_coarse` before unsealing,
`authorise_fine` after; `authorise` is both.

Codes: client-unknown, client-suspended, service-unknown, service-disabled, own-node-revoked, provider-revoked,
no-access-right, right-expired,
operation-unknown, operation-not-granted, purpose-not-granted, ground-not-granted, official-required,
quota-exceeded; `granted` when allowed.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from registry.view import AccessEntry, DecisionView, QuotaLimit, ServiceEntry

ANY = "*"
"""Wildcard in purposes, grounds and fields; never implied by an empty list."""

UNLIMITED = QuotaLimit()
_NO_FIELDS: frozenset[str] = frozenset()
NOT_SEEN = ("revocation-lists", "maintenance", "one-of-several-nodes", "quota", "directory-age")
"""What only a running gateway knows, and may refuse for although the decision is `granted`."""
_RANK = {
    "operation-not-granted": 0,
    "purpose-not-granted": 1,
    "ground-not-granted": 2,
    "official-required": 3,
}


class Decision(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What was decided and why.

    Attributes:
        allowed: Whether the call may go on.
        code: `granted`, or the stable code of the refusal.
        reason: What a person reads.
        rule: Subject of the access document that decided, or None where none came close.
        author: Member that signed the rule.
        since_at: When the rule was issued.
        granted: Marked fields that may be delivered (a `*` is already expanded).
        quota: How often the right may be used. After `authorise_coarse` the most generous of all rights that
            are valid now; count it under (client, service).
        retry_after_s: When a service that is switched off is on again, if its provider said so.
    """

    allowed: bool
    code: str
    reason: str
    rule: str | None = None
    author: str | None = None
    since_at: datetime | None = None
    granted: frozenset[str] = _NO_FIELDS
    quota: QuotaLimit = UNLIMITED
    retry_after_s: int | None = None


def authorise(
    view: DecisionView,
    *,
    client: str,
    service: str,
    operation: str | None,
    purpose: str,
    ground: str,
    official: str,
    at: datetime,
) -> Decision:
    """Both stages at once: what a consumer asks before it sends, and `access why` shows.

    Args:
        view: A directory, or a provider's own store on top of one.
        client: Calling subsystem, slash form.
        service: Called service, slash form.
        operation: Operation id; None asks about any operation.
        purpose: Stated purpose, empty when none.
        ground: Stated legal ground, empty when none.
        official: Acting official, empty when none.
        at: The instant that counts.
    """
    unsent = _refuse_unsent(view, client, service, operation, at)
    if unsent is not None:
        return unsent
    coarse = authorise_coarse(view, client=client, service=service, at=at)
    if not coarse.allowed:
        return coarse
    return authorise_fine(
        view,
        client=client,
        service=service,
        operation=operation,
        purpose=purpose,
        ground=ground,
        official=official,
        at=at,
    )


def authorise_coarse(view: DecisionView, *, client: str, service: str, at: datetime) -> Decision:
    """May this client use this service at all? Needs nothing that is sealed.

    Returns:
        Allowed if at least one right is valid now; its `rule` is the newest of them.
    """
    refusal = _refuse_client(view, client) or _refuse_service(view, service, at)
    if refusal is not None:
        return refusal
    valid = _valid_rights(view, client, service, at)
    if isinstance(valid, Decision):
        return valid
    newest = valid[0] if len(valid) == 1 else max(valid, key=_issued)
    return _decide(newest, "granted", "a right to the service is valid", quota=_most_generous(valid))


def authorise_fine(
    view: DecisionView,
    *,
    client: str,
    service: str,
    operation: str | None,
    purpose: str,
    ground: str,
    official: str,
    at: datetime,
) -> Decision:
    """Does one right grant exactly this? Called after `authorise_coarse` allowed; re-checks validity of rights only.

    Returns:
        The right with the most marked fields among those that grant the call; otherwise the refusal of the right
        that came closest. Rights are never combined.
    """
    valid = _valid_rights(view, client, service, at)
    if isinstance(valid, Decision):
        return valid
    entry = view.service(service)
    best: AccessEntry | None = None
    best_fields = _NO_FIELDS
    closest: tuple[int, AccessEntry, str] | None = None
    for right in valid:
        code = _mismatch(right, operation, purpose, ground, official)
        if code is None:
            fields = _expand(right.fields, entry)
            if best is None or len(fields) > len(best_fields):
                best, best_fields = right, fields
        elif closest is None or _RANK[code] > closest[0]:
            closest = (_RANK[code], right, code)
    if best is not None:
        return _decide(best, "granted", "the right grants the call", granted=best_fields, quota=best.quota)
    assert closest is not None
    return _decide(closest[1], closest[2], _explain(closest[2], operation, service))


def quota_exceeded(decision: Decision, client: str, service: str) -> Decision:
    """The refusal for a call that a right allows but its quota does not."""
    return Decision(
        allowed=False,
        code="quota-exceeded",
        reason=f"{client} has used up its quota for {service}; wait, or ask the provider for a larger one",
        rule=decision.rule,
        author=decision.author,
        since_at=decision.since_at,
        quota=decision.quota,
    )


def _refuse_unsent(
    view: DecisionView, client: str, service: str, operation: str | None, at: datetime
) -> Decision | None:
    """What the caller's own gateway refuses, in its order: the provider is not asked and cannot say otherwise."""
    subsystem = view.subsystem(client)
    if subsystem is None:
        return _refuse_client(view, client)
    entry = view.service(service)
    if entry is None:
        return _refuse("service-unknown", f"{service} is not published")
    if entry.is_off(at):
        return refuse_off(entry, at)
    untrusted = _refuse_untrusted(view, subsystem.member, entry.provider)
    if untrusted is not None:
        return untrusted
    if operation is not None and operation not in entry.operations:
        return _refuse("operation-unknown", f"the contract of {service} has no operation {operation}")
    return None


def _refuse_untrusted(view: DecisionView, caller: str, provider: str) -> Decision | None:
    for member, code in ((caller, "own-node-revoked"), (provider, "provider-revoked")):
        nodes = view.nodes_of(member)
        if view.is_revoked("member", member) or (nodes and all(node.status == "revoked" for node in nodes)):
            told = ": nobody accepts what it sends" if member == caller else ""
            return _refuse(code, f"trust in {member}, or in every node of it, was withdrawn{told}")
    return None


def refuse_off(entry: ServiceEntry, at: datetime) -> Decision:
    """The refusal of a service that its provider has switched off, with the provider's notice."""
    notice = f": {entry.notice}" if entry.notice else ""
    until = "" if entry.resumes_at is None else f" until {entry.resumes_at:%Y-%m-%d %H:%M} UTC"
    left_s = None if entry.resumes_at is None else int((entry.resumes_at - at).total_seconds()) + 1
    reason = f"the provider switched {entry.id} off{until}{notice}"
    return Decision(allowed=False, code="service-disabled", reason=reason, retry_after_s=left_s)


def _refuse_client(view: DecisionView, client: str) -> Decision | None:
    subsystem = view.subsystem(client)
    if subsystem is None:
        return _refuse("client-unknown", f"{client} is not registered; its member has to publish the subsystem first")
    member = view.member(subsystem.member)
    if member is None:
        return _refuse("client-unknown", f"{subsystem.member} is not a member")
    if member.status != "active":
        return _refuse("client-suspended", f"{member.id} is {member.status} since {member.since_at:%Y-%m-%d %H:%M} UTC")
    if view.is_revoked("member", member.id):
        return _refuse("client-suspended", f"trust in {member.id} was revoked")
    return None


def _refuse_service(view: DecisionView, service: str, at: datetime) -> Decision | None:
    entry = view.service(service)
    if entry is None:
        return _refuse("service-unknown", f"{service} is not published")
    provider = view.member(entry.provider)
    if provider is None or provider.status != "active" or view.is_revoked("member", entry.provider):
        return _refuse("service-disabled", f"{entry.provider}, which provides {service}, is not active")
    if entry.is_off(at):
        return refuse_off(entry, at)
    if entry.until_at is not None and entry.until_at <= at:
        return _refuse("service-disabled", f"{service} ended at {entry.until_at:%Y-%m-%d %H:%M} UTC")
    return None


def _valid_rights(
    view: DecisionView, client: str, service: str, at: datetime
) -> tuple[AccessEntry, ...] | list[AccessEntry] | Decision:
    rights = view.rights(client, service)
    if not rights:
        return _refuse("no-access-right", f"{service} has granted {client} nothing; ask its provider for a right")
    valid = [r for r in rights if r.valid_from_at <= at and (r.until_at is None or at < r.until_at)]
    if valid:
        return valid
    newest = max(rights, key=_issued)
    if at < newest.valid_from_at:
        return _decide(newest, "right-expired", f"the right begins at {newest.valid_from_at:%Y-%m-%d %H:%M} UTC")
    return _decide(newest, "right-expired", f"the right ended at {newest.until_at:%Y-%m-%d %H:%M} UTC")


def _mismatch(right: AccessEntry, operation: str | None, purpose: str, ground: str, official: str) -> str | None:
    if operation is not None and right.operations is not None and operation not in right.operations:
        return "operation-not-granted"
    if purpose not in right.purposes and ANY not in right.purposes:
        return "purpose-not-granted"
    if ground not in right.grounds and ANY not in right.grounds:
        return "ground-not-granted"
    if right.official_required and not official:
        return "official-required"
    return None


def _explain(code: str, operation: str | None, service: str) -> str:
    # The stated purpose and ground are particulars: a reason never repeats them.
    match code:
        case "operation-not-granted":
            return f"the right to {service} does not include {operation}"
        case "purpose-not-granted":
            return f"the right to {service} does not include the stated purpose"
        case "ground-not-granted":
            return f"the right to {service} does not include the stated legal ground"
        case _:
            return f"the right to {service} asks for the acting official, and none was named"


def _expand(fields: frozenset[str], service: ServiceEntry | None) -> frozenset[str]:
    if ANY in fields and service is not None:
        return service.fields
    return fields


def _most_generous(rights: tuple[AccessEntry, ...] | list[AccessEntry]) -> QuotaLimit:
    if len(rights) == 1:
        return rights[0].quota
    rates = [r.quota.per_second for r in rights]
    days = [r.quota.per_day for r in rights]
    return QuotaLimit(
        per_second=None if None in rates else max(rate for rate in rates if rate is not None),
        per_day=None if None in days else max(day for day in days if day is not None),
    )


def _issued(right: AccessEntry) -> tuple[datetime, str]:
    return right.since_at, right.subject


def _refuse(code: str, reason: str) -> Decision:
    return Decision(allowed=False, code=code, reason=reason)


def _decide(
    right: AccessEntry,
    code: str,
    reason: str,
    *,
    granted: frozenset[str] = _NO_FIELDS,
    quota: QuotaLimit = UNLIMITED,
) -> Decision:
    return Decision(
        allowed=code == "granted",
        code=code,
        reason=reason,
        rule=right.subject,
        author=right.author,
        since_at=right.since_at,
        granted=granted,
        quota=quota,
    )
