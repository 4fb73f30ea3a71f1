"""The demonstration: a whole instance on one machine, a scenario, a report, and evidence that others can recompute.

Everything is made by the commands that a person would use, run as processes of the same interpreter; nothing is put
into a database or a log by hand. All people and firms are invented.
"""
