"""The shell of the consent ledger: settings, wiring, command line, HTTP and the embedded default.

The only package that reads the environment and knows every other one.
"""
