"""One attempt: bytes out, a `Reply` back, or a `TransportError`.

A family behind one protocol (`base`): `curl` makes the calls of a run, `sdk` (the openai SDK)
stands in for it and serves functions that call the SDK themselves. Neither knows of retries, keys'
states or rows. Each is imported by whoever chooses it: the other's library need not be there.
"""
