"""Ready-made sources for national databases: mappings over kinds. They import kinds, never agency fronts."""
