"""What is derived from the log: the suppression cache, the history in ClickHouse, and their store.

Everything here can be rebuilt from the topics. Imports `consent` only; reads no settings and no
environment: connection data, limits and keys are given by the caller.
"""
