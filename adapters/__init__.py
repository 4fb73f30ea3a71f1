"""Adapters: sources of answers (databases, back ends) and agency fronts. They know nothing of NATS or of evidence."""
