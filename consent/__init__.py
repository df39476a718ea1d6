"""The pure domain of the consent ledger: events, state, rules, blocks and proofs.

Nothing here does I/O, reads a clock, draws a random number or looks at the environment; time,
randomness and keys come in as arguments. The one exception is `consent.contracts`, which reads
the packaged schemas once.
"""
