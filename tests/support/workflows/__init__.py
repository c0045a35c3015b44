"""Random workflows, what they must come to, and what they came to.

`nodes` is what workflows are written in, `reference` says what each must come to, in plain Python
and by rules of its own; `building` makes signatures of them; `observing` looks at what a worker
made of those.
"""
