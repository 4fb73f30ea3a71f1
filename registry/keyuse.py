"""What each public key of a directory is for: one under two uses is refused (protocol.md "Keys, each for one use").

Pure. Says what a document claims; `rules` refuses, `state` remembers.
"""

from __future__ import annotations

from typing import NamedTuple

from registry.authorship import OPERATOR, owner_of
from registry.documents import Anchor, AnyDocument, Member, Node, Sealing
from registry.publickeys import decode_base64, key_id

_MLKEM768_BYTES = 1184


class KeyUse(NamedTuple):
    """What a public key is for: the use, who may repeat it for that use, and whose it is."""

    use: str
    holder: str
    owner: str


def claims(document: AnyDocument) -> list[tuple[str, KeyUse]]:
    """Key ids that a document brings, each with its use."""
    match document:
        case Sealing():
            use = KeyUse("sealing", document.owner, owner_of(document.owner))
            found = [(document.keyid, use)]
            if document.kem == "MLKEM768-X25519":
                # The classical half alone is a key, too.
                found.append((key_id(decode_base64(document.public)[_MLKEM768_BYTES:]), use))
            return found
        case Node():
            owner = owner_of(document.subject)
            log = KeyUse("log", document.log.origin, owner)
            return [
                (key_id(decode_base64(document.log.key)), log),
                *((key_id(decode_base64(other.key)), log) for other in document.log.others),
                (key_id(decode_base64(document.broker_key)), KeyUse("broker", document.subject, owner)),
            ]
        case Member():
            member = document.subject
            return [(key_id(key.public), KeyUse(f"member-{key.kind}", member, member)) for key in document.keys]
        case Anchor():
            directory = document.directory
            return [
                *((operator.keyid, KeyUse(OPERATOR, OPERATOR, OPERATOR)) for operator in document.operators),
                (key_id(decode_base64(directory.log_key)), KeyUse("directory-log", "", "directory")),
                (key_id(decode_base64(directory.cosigner_key)), KeyUse("directory-cosigner", "", "directory")),
            ]
        case _:
            return []
