"""`lienthong doctor`: everything that a member's or an operator's home needs, checked, with what to do about it.

Each check is a function that gives findings; one that cannot be made is a finding too. Nothing is changed, nothing is
sent to other members but the test call that is asked for, and it works when the processes are down.
"""
