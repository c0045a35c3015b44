"""The tables of an umbel file, who may call a file umbel's, and how a new one is made.

A row of `messages` keeps its size when it is received: SQLite then overwrites it in place and
leaves a large body untouched. That is why `state`, `token` and `claim` are numbers of a fixed
width, and why a claim has a value even where nobody holds the message.
"""

from __future__ import annotations

import sqlite3

from umbel.builtin.sqlite.errors import UnusableFileError

#: "umbl": marks the file as umbel's.
APPLICATION_ID = 0x756D626C
SCHEMA_VERSION = 5
#: The first one that knows RETURNING.
OLDEST_SQLITE = (3, 35, 0)

#: States of a message. The first two take no byte in a row.
READY, HELD, DELAYED = 0, 1, 2

#: The claim of what nobody holds. A claim is this, plus the consumer's number shifted by
#: CLAIM_BITS, plus the number of the consumer's batch: always eight bytes, never used twice.
NOBODY = 1 << 62
CLAIM_BITS = 32

_NOW = "((julianday('now') - 2440587.5) * 86400.0)"

#: What no consumer would ever see. The broker moves such rows to the dead letters.
STRAY = (
    "typeof(queue) <> 'text' OR typeof(state) <> 'integer' OR state NOT BETWEEN 0 AND 2 "
    "OR (state = 2 AND typeof(due_at) <> 'real')"
)

#: Queues that nobody takes from.
_PAUSED = "CREATE TABLE paused (queue TEXT PRIMARY KEY) WITHOUT ROWID"

_CHORDS = (
    # size NULL: not opened yet. closed: its body was sent, and what is joined later isn't counted.
    """CREATE TABLE chords (
        group_id TEXT PRIMARY KEY, size INTEGER, closed INTEGER, expires_at REAL) WITHOUT ROWID""",
    "CREATE INDEX chords_expiry ON chords (expires_at) WHERE expires_at IS NOT NULL",
    # place: the index as text, empty without one, so that a part has one row.
    """CREATE TABLE chord_parts (
        group_id TEXT,
        task_id TEXT,
        place TEXT,
        state TEXT,
        ttl_s REAL,
        result BLOB,
        UNIQUE (group_id, task_id, place))""",
)

#: What version 4 adds to `chords`.
_COUNTS = (
    # grown: parts that were added since. joined: parts with a result, counted: those without one;
    # failed is of both. They stay when the chord is closed.
    *(
        f"ALTER TABLE chords ADD COLUMN {name} INTEGER DEFAULT 0"
        for name in ("grown", "joined", "counted", "failed")
    ),
    # A trigger, since processes of an older umbel that have the file open add parts, too.
    """CREATE TRIGGER chord_part_joined AFTER INSERT ON chord_parts BEGIN
        UPDATE chords SET joined = joined + 1,
            failed = failed + (new.state IN ('FAILURE', 'REVOKED'))
        WHERE group_id = new.group_id; END""",
    # place: as in chord_parts, of a part without a result; '+': the chord has a part more for it.
    """CREATE TABLE chord_told (
        group_id TEXT, place TEXT, task_id TEXT, PRIMARY KEY (group_id, place, task_id))
        WITHOUT ROWID""",
    """CREATE TRIGGER chord_dropped AFTER DELETE ON chords BEGIN
        DELETE FROM chord_told WHERE group_id = old.group_id; END""",
)

#: What version 5 adds to `chords`: what each ends with. Apart, since a row of `chords` is written anew
#: with each part.
_BODIES = (
    "CREATE TABLE chord_bodies (group_id TEXT UNIQUE, body BLOB)",
    """CREATE TRIGGER chord_body_dropped AFTER DELETE ON chords BEGIN
        DELETE FROM chord_bodies WHERE group_id = old.group_id; END""",
)

_TABLES = (
    # The defaults are there for people: a row made by hand needs a queue, headers and a body.
    f"""CREATE TABLE messages (
        seq INTEGER PRIMARY KEY,
        id TEXT,
        queue TEXT,
        priority INTEGER DEFAULT 0,
        state INTEGER DEFAULT 0,
        due_at REAL,
        claim INTEGER DEFAULT {NOBODY},
        token INTEGER DEFAULT 0,
        strikes INTEGER DEFAULT 0,
        enqueued_at REAL DEFAULT {_NOW},
        headers BLOB,
        extras BLOB,
        body BLOB)""",
    "CREATE INDEX messages_ready ON messages (queue, priority DESC, seq) WHERE state = 0",
    "CREATE INDEX messages_held ON messages (claim) WHERE state = 1",
    "CREATE INDEX messages_delayed ON messages (queue, due_at) WHERE state = 2",
    f"CREATE INDEX messages_stray ON messages (seq) WHERE {STRAY}",
    """CREATE TABLE dead_letters (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT,
        queue TEXT,
        priority INTEGER,
        token INTEGER,
        strikes INTEGER,
        enqueued_at REAL,
        died_at REAL,
        reason TEXT,
        headers BLOB,
        extras BLOB,
        body BLOB,
        kind TEXT,
        details BLOB)""",
    "CREATE INDEX dead_letters_queue ON dead_letters (queue, seq)",
    # Small, and so quickly gone through: the offset of a page is counted there.
    "CREATE INDEX dead_letters_seq ON dead_letters (seq)",
    # A message that is sent once, by the row of `messages` that it was stored in; gone_at: since
    # when the broker is done with it.
    "CREATE TABLE sent (once_key TEXT PRIMARY KEY, seq INTEGER, gone_at REAL) WITHOUT ROWID",
    "CREATE INDEX sent_gone ON sent (gone_at) WHERE gone_at IS NOT NULL",
    "CREATE TABLE queues (name TEXT PRIMARY KEY) WITHOUT ROWID",
    # expires_at NULL: the lease ran out, and what the node held was given back.
    """CREATE TABLE nodes (\n        node TEXT PRIMARY KEY, expires_at REAL, lapsed_at REAL, lease_s REAL)""",
    # AUTOINCREMENT: the number of a consumer is never given to another one.
    "CREATE TABLE consumers (number INTEGER PRIMARY KEY AUTOINCREMENT, consumer TEXT, node TEXT)",
    "CREATE INDEX consumers_consumer ON consumers (consumer)",
    "CREATE INDEX consumers_node ON consumers (node)",
    # final: the order_in_rank() of the state: 1 final, 0 on the way, -1 only started.
    """CREATE TABLE results (
        task_id TEXT UNIQUE,
        state TEXT,
        final INTEGER,
        retries INTEGER,
        token INTEGER,
        ttl_s REAL,
        expires_at REAL,
        body BLOB)""",
    "CREATE INDEX results_expiry ON results (expires_at) WHERE expires_at IS NOT NULL",
    "CREATE TABLE entries (key TEXT PRIMARY KEY, expires_at REAL, value) WITHOUT ROWID",
    "CREATE INDEX entries_expiry ON entries (expires_at) WHERE expires_at IS NOT NULL",
    """CREATE TABLE leases (
        name TEXT PRIMARY KEY, holder TEXT, token INTEGER, expires_at REAL) WITHOUT ROWID""",
    "CREATE INDEX leases_expiry ON leases (expires_at)",
    "CREATE TABLE sequences (name TEXT PRIMARY KEY, value INTEGER) WITHOUT ROWID",
    "CREATE TABLE rates (key TEXT PRIMARY KEY, free_at REAL) WITHOUT ROWID",
    "CREATE INDEX rates_expiry ON rates (free_at)",
    # AUTOINCREMENT: pruning must not make a number come twice, or subscribers would miss it.
    """CREATE TABLE events (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        channel TEXT,
        published_at REAL,
        payload BLOB)""",
    """CREATE TABLE listeners (
        topic TEXT,
        port INTEGER,
        reach TEXT,
        expires_at REAL,
        poll_until REAL DEFAULT 0,
        PRIMARY KEY (topic, reach, port)) WITHOUT ROWID""",
    *_CHORDS,
    *_COUNTS,
    *_BODIES,
    _PAUSED,
)

#: By version: what makes a file of it one of the next version.
_UPGRADES: dict[int, tuple[str, ...]] = {
    1: (
        "ALTER TABLE dead_letters ADD COLUMN kind TEXT",
        "ALTER TABLE dead_letters ADD COLUMN details BLOB",
        "CREATE INDEX dead_letters_seq ON dead_letters (seq)",
        """UPDATE dead_letters SET kind = CASE
            WHEN reason LIKE 'its process died%' THEN 'poison'
            WHEN reason LIKE 'unknown task%' THEN 'unknown'
            WHEN reason LIKE 'failed: %' THEN 'failed'
            WHEN reason LIKE 'its outcome can%' THEN 'undeliverable' ELSE 'malformed' END""",
        "CREATE TABLE sent (once_key TEXT PRIMARY KEY, seq INTEGER, gone_at REAL) WITHOUT ROWID",
        "CREATE INDEX sent_gone ON sent (gone_at) WHERE gone_at IS NOT NULL",
        "ALTER TABLE nodes ADD COLUMN lease_s REAL",
    ),
    2: (*_CHORDS, _PAUSED),
    3: (
        *_COUNTS,
        """UPDATE chords SET joined = parts.total, failed = parts.failed FROM (
            SELECT group_id, count(*) AS total, sum(state IN ('FAILURE', 'REVOKED')) AS failed
            FROM chord_parts GROUP BY group_id) AS parts
        WHERE chords.group_id = parts.group_id""",
    ),
    4: _BODIES,
}


def prepare(cx: sqlite3.Connection, path: str) -> None:
    """Make sure that the file is umbel's: check it, or make it where it is new and empty.

    A file of an older umbel is brought up to date. Processes of that umbel that have it open go
    on; new ones refuse it.

    Raises: UnusableFileError: it belongs to another program or to a newer umbel, or its file
        system can't do WAL. The file is as it was.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        oldest = ".".join(map(str, OLDEST_SQLITE))
        raise UnusableFileError(
            f"this Python has SQLite {sqlite3.sqlite_version}, and umbel's embedded store needs "
            f"{oldest} or newer; use another Python, or another broker and backend"
        )
    # In one snapshot: another process may be making the file right now.
    cx.execute("BEGIN")
    try:
        version = _version(cx, path)
    finally:
        cx.execute("ROLLBACK")
    if cx.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        _switch_to_wal(cx, path)
    if version < SCHEMA_VERSION:
        _write_schema(cx, path)


def _version(cx: sqlite3.Connection, path: str) -> int:
    """Return the version of the file's schema; 0 where it is new and empty."""
    application = cx.execute("PRAGMA application_id").fetchone()[0]
    if application == APPLICATION_ID:
        version: int = cx.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise UnusableFileError(
                f"{path!r} was written by a newer umbel (its schema is {version}, this one knows "
                f"{SCHEMA_VERSION}); upgrade umbel, or give it another path"
            )
        return version
    if (
        application == 0
        and not cx.execute("SELECT EXISTS (SELECT 1 FROM sqlite_master)").fetchone()[0]
    ):
        return 0
    raise UnusableFileError(
        f"{path!r} is an SQLite file of another program; give umbel another path, "
        f"as in 'sqlite:///umbel.db'"
    )


def _switch_to_wal(cx: sqlite3.Connection, path: str) -> None:
    mode = cx.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise UnusableFileError(
            f"the file system of {path!r} can't do SQLite's write-ahead log (got {mode!r}); "
            f"give umbel a path on a local disk"
        )


def _write_schema(cx: sqlite3.Connection, path: str) -> None:
    cx.execute("BEGIN IMMEDIATE")
    try:
        version = _version(cx, path)  # another process may have been first
        if version == 0:
            for statement in _TABLES:
                cx.execute(statement)
            cx.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        for older in range(version or SCHEMA_VERSION, SCHEMA_VERSION):
            for statement in _UPGRADES[older]:
                cx.execute(statement)
        if version < SCHEMA_VERSION:
            cx.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        cx.execute("COMMIT")
    except BaseException:
        if cx.in_transaction:
            cx.execute("ROLLBACK")
        raise
