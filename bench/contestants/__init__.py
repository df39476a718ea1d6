"""Programs that a measurement compares, each in a process of its own.

Every contestant reads `Task` as JSON from its first argument and writes, as it goes, lines
`{"at": monotonic seconds, "done": records}` to standard output.
"""
