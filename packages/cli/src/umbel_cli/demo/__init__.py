"""The demo: a real job, done by real worker processes, with no server anywhere.

`corpus` says what there is to do, `analysis` does one file of it, `tasks` makes a task of that,
`job` sends and gathers, `runs` remembers, and `report` shows.
"""
