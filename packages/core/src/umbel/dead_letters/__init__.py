"""Dead letters: messages that won't be tried again by themselves, looked at and sent again.

`archive` has what ``app.dead_letters`` offers; `selection` says which ones, `pages` walks
through them, `replays` makes the messages that are sent, `bodies` reads what they hold.
"""

from umbel.dead_letters.archive import DeadLetters, ReplayReport
from umbel.dead_letters.selection import LetterFilter

__all__ = ["DeadLetters", "LetterFilter", "ReplayReport"]
