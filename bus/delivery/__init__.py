"""Delivery of commands: durable once accepted, repeated until a signed receipt comes, answered by a result."""
