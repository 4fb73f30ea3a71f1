"""The gateway process: one node's parts put together, started, reloaded and drained."""

from bus.gateway.runtime import Gateway

__all__ = ["Gateway"]
