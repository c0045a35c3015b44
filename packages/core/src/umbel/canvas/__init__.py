"""Chains, groups and chords: signatures made of others, and pure functions over them."""

from __future__ import annotations

from umbel.canvas.iterations import chunks, xmap, xstarmap
from umbel.canvas.primitives import chain, chord, group
from umbel.canvas.stamping import StampingVisitor
from umbel.signatures import Signature, maybe_signature, signature, subtask

__all__ = [
    "Signature",
    "StampingVisitor",
    "chain",
    "chord",
    "chunks",
    "group",
    "maybe_signature",
    "signature",
    "subtask",
    "xmap",
    "xstarmap",
]
