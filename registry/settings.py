"""Settings of the registry's two long-running parts; unknown keys are refused. Reads no file (`console` does)."""

from __future__ import annotations

import msgspec


class AuthoritySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the authority.

    Attributes:
        heartbeat_s: How often the checkpoint is cosigned and published.
        publish_timeout_s: Deadline of one publication to the feed.
        issued_past_s: How old a document's `issued` may be.
        issued_future_s: How far ahead of our clock it may be.
        max_contract_bytes: Largest contract.
        max_requests: Most pending requests.
    """

    heartbeat_s: float = 30.0
    publish_timeout_s: float = 10.0
    issued_past_s: float = 7 * 86_400.0
    issued_future_s: float = 300.0
    max_contract_bytes: int = 1_048_576
    max_requests: int = 1_000


class FollowerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a follower.

    Attributes:
        max_age_s: Oldest confirmation with which a gateway still works.
        poll_s: Longest wait for a change before the feed is asked anyway.
        fetch_timeout_s: Deadline of one request to the feed.
        backoff_min_s: First pause after a failure; doubles up to `backoff_max_s`.
        backoff_max_s: Longest pause after failures.
        max_leaves: Largest directory that is accepted.
        max_update_bytes: Most bytes of entries that one update may bring; the first start brings all.
        max_contract_bytes: Largest contract that is accepted.
        clock_skew_s: How far in the future a cosignature may be.
    """

    max_age_s: float = 3_600.0
    poll_s: float = 30.0
    fetch_timeout_s: float = 10.0
    backoff_min_s: float = 0.5
    backoff_max_s: float = 30.0
    max_leaves: int = 2_000_000
    max_update_bytes: int = 2 * 1024**3
    max_contract_bytes: int = 1_048_576
    clock_skew_s: float = 300.0
