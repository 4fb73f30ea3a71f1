"""The gateway process: one node's parts put together, started, reloaded and drained."""
