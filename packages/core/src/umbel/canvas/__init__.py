"""Chains, groups and chords as data: pure functions over signatures."""
