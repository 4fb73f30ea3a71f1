"""Fronts that turn an agency's own form into calls. The port lands with its first user."""
