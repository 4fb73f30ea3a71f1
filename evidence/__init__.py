"""Evidence: what was said, by whom and when, so that it can be checked without trusting anyone.

Identifiers, record headers, Merkle proofs, signed notes, signers, the exchange log and its offline verification.
This room imports none of the others.
"""
