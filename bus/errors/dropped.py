"""Messages of others that are dropped: counted, never logged, never answered with a signature."""

from __future__ import annotations

DROP_CODES = frozenset(
    {
        "answer-key-missing",
        "certificate-revoked",
        "checkpoint-invalid",
        "clock-ahead",
        "directory-stale",
        "envelope-malformed",
        "envelope-too-large",
        "expired",
        "expires-missing",
        "expires-too-late",
        "header-malformed",
        "id-reused",
        "instance-foreign",
        "log-unwritable",
        "node-not-in-use",
        "node-revoked",
        "node-unknown",
        "not-addressed-to-us",
        "peer-forked",
        "proof-invalid",
        "proof-of-another-node",
        "question-malformed",
        "question-of-a-stranger",
        "replayed",
        "reply-subject-foreign",
        "reply-unmatched",
        "revocation-unknown",
        "seal-digest-mismatch",
        "seen-ids-full",
        "source-not-of-node",
        "subject-mismatch",
        "type-unexpected",
        "version-unsupported",
    }
)


class Dropped(Exception):
    """A received message that is dropped: counted, never logged, never answered with a signature.

    Attributes:
        code: stable reason, a label of `lienthong_dropped_total`, and the hint that the sender may get.
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code
