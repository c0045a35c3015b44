"""A whole fleet in one process and one thread, driven by a seed: broker, workers, clock, faults.

What decodes, admits, runs, settles, renews and recovers is umbel's own code. The seed alone says
who acts when, how time goes by, and what breaks at which step; so a seed that fails does so again.

    python -m simulation 4711          (in tests/support) one seed, with its trace
    python -m simulation 0 10000       a range of seeds
"""
