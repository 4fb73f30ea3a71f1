"""Registry: who may speak to whom.

Directory documents and their fold, contracts, the access decision, the authority, the follower.
"""
