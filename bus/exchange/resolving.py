"""Step 2 of the asking side: the service that a call names, or the reason why there is none. Pure."""

from __future__ import annotations

from datetime import datetime

from bus import errors
from registry.decision import refuse_off
from registry.view import DirectoryView, ServiceEntry


def resolve(view: DirectoryView, client: str, service_id: str, now: datetime) -> ServiceEntry:
    """Step 2: the service, or the reason why there is none.

    Raises:
        ClientUnknown, InstanceUnknown, MemberUnknown, ServiceUnknown, ServiceDisabled: by name.
    """
    if view.subsystem(client) is None:
        raise errors.ClientUnknown(f"{client} is not in the directory; register it with `lienthong subsystem add`")
    service = view.service(service_id)
    if service is not None:
        if service.is_off(now):
            raise service_disabled(service, now)
        return service
    instance, member_class, member, *_ = service_id.split("/")
    if instance != view.instance:
        raise errors.InstanceUnknown(f"this gateway belongs to {view.instance}; the call names {instance}")
    if view.member(f"{instance}/{member_class}/{member}") is None:
        raise errors.MemberUnknown(f"{instance}/{member_class}/{member} is not a member; see `lienthong catalogue`")
    raise errors.ServiceUnknown(f"{service_id} is not registered; see `lienthong catalogue`")


def service_disabled(service: ServiceEntry, now: datetime) -> errors.ServiceDisabled:
    """The refusal of a service that its provider switched off: the same that the provider would give."""
    decision = refuse_off(service, now)
    error = errors.ServiceDisabled(decision.reason)
    error.reason_code = decision.code
    error.retry_after_s = decision.retry_after_s or error.retry_after_s
    return error
