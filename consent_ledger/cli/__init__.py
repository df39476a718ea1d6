"""The command line: one module per command, registered by `consent_ledger.cli.main`."""
