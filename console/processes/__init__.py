"""The composition root: every process put together from concrete classes."""
