"""The embedded broker, result backend and coordinator: one SQLite file, any number of processes.

Nothing here is imported before a URL of the scheme ``sqlite`` is used. All three kinds live in
one file and share one connection a process.
"""
