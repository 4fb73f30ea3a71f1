"""Commands, one module a noun; each imports what it needs when it runs."""
