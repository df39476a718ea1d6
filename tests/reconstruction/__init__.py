"""Reconstruction of past moments against a slow oracle, on a history of any size.

`world` makes a log with late, repeated, unreadable and erased events, and decisions about some of
them; `oracle` folds its raw events with code of its own; `run` compares. As a command:
`python -m tests.reconstruction --facts 1000000 --cases 1000 --seed 1`.
"""
