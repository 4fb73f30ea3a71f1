"""Directory documents and their one exact encoding.

Every document is a JSON object with its `type` first, fields in declaration order, compact, defaults left out, UTF-8
unescaped. `decode` accepts a payload only if re-encoding gives the same bytes (so no duplicate or unknown keys, no
other spelling of a number). The `subject` is the identifier of what the document speaks about; documents with the
same type and subject form a chain by `seq` and `prev`.

| type | subject |
|---|---|
| anchor | the instance |
| member, node, subsystem, service | its identifier |
| sealing | `<owner>#<keyid>`; the owner is a member or a node |
| group | `<member>#<code>`, or `<INSTANCE>#<code>` for the operator's |
| access | `<service>#<code>` |
| catalogue | the instance |
| revocation | `member:<id>`, `node:<id>` or `key:<key id>` |

Pure. Checks the shape of one document; everything that needs others (authors, sequence, uniqueness) is in `fold` and
`authorship`, signatures in `envelope`.
"""

from __future__ import annotations

from registry.documents.codec import decode, decode_checked, encode
from registry.documents.instants import parse_checked_time, parse_time
from registry.documents.kinds import (
    CODE,
    KEM_PUBLIC_BYTES,
    MAX_DOCUMENT_BYTES,
    TYPES,
    Access,
    Anchor,
    AnyDocument,
    Base64,
    BrokerAddress,
    Catalogue,
    ClosedLog,
    Deprecation,
    DirectoryKeys,
    Document,
    Group,
    Hex256,
    Identifier,
    Kem,
    LogHead,
    LogKeyWindow,
    Member,
    Names,
    Node,
    NodeLog,
    Operation,
    Operator,
    Part,
    Pem,
    PinnedKey,
    Revocation,
    Sealing,
    Service,
    Subsystem,
    Term,
    Text,
    Time,
    Word,
)

__all__ = [
    "CODE",
    "KEM_PUBLIC_BYTES",
    "MAX_DOCUMENT_BYTES",
    "TYPES",
    "Access",
    "Anchor",
    "AnyDocument",
    "Base64",
    "BrokerAddress",
    "Catalogue",
    "ClosedLog",
    "Deprecation",
    "DirectoryKeys",
    "Document",
    "Group",
    "Hex256",
    "Identifier",
    "Kem",
    "LogHead",
    "LogKeyWindow",
    "Member",
    "Names",
    "Node",
    "NodeLog",
    "Operation",
    "Operator",
    "Part",
    "Pem",
    "PinnedKey",
    "Revocation",
    "Sealing",
    "Service",
    "Subsystem",
    "Term",
    "Text",
    "Time",
    "Word",
    "decode",
    "decode_checked",
    "encode",
    "parse_checked_time",
    "parse_time",
]
