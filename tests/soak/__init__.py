"""The soak: commands under a random schedule of faults, judged from outside. See docs/adr/0016."""
