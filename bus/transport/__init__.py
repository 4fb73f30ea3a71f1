"""Transport: NATS. Subjects, identities, the embedded broker, the connection and the feed of the directory.

Only `connection.py` and `feed.py` import the NATS client.
"""
