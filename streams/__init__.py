"""The Faust layer: record batches from the broker to the handlers, and what a worker process is.

May import `projections` and `consent`; knows nothing of settings, files or the command line.
"""
