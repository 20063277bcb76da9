"""One attempt: bytes out, a `Reply` back, or a `TransportError`.

A family behind one protocol (`base`): `curl` makes the calls of a run. Neither knows of retries,
keys' states or rows.
"""
