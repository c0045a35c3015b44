"""How umbel made its SQLite files while their schema had version 1."""

from __future__ import annotations

_NOW = "((julianday('now') - 2440587.5) * 86400.0)"
_STRAY = (
    "typeof(queue) <> 'text' OR typeof(state) <> 'integer' OR state NOT BETWEEN 0 AND 2 "
    "OR (state = 2 AND typeof(due_at) <> 'real')"
)

STATEMENTS = (
    # The defaults are there for people: a row made by hand needs a queue, headers and a body.
    f"""CREATE TABLE messages (
        seq INTEGER PRIMARY KEY,
        id TEXT,
        queue TEXT,
        priority INTEGER DEFAULT 0,
        state INTEGER DEFAULT 0,
        due_at REAL,
        claim INTEGER DEFAULT 4611686018427387904,
        token INTEGER DEFAULT 0,
        strikes INTEGER DEFAULT 0,
        enqueued_at REAL DEFAULT {_NOW},
        headers BLOB,
        extras BLOB,
        body BLOB)""",
    "CREATE INDEX messages_ready ON messages (queue, priority DESC, seq) WHERE state = 0",
    "CREATE INDEX messages_held ON messages (claim) WHERE state = 1",
    "CREATE INDEX messages_delayed ON messages (queue, due_at) WHERE state = 2",
    f"CREATE INDEX messages_stray ON messages (seq) WHERE {_STRAY}",
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
        body BLOB)""",
    "CREATE INDEX dead_letters_queue ON dead_letters (queue, seq)",
    "CREATE TABLE queues (name TEXT PRIMARY KEY) WITHOUT ROWID",
    # expires_at NULL: the lease ran out, and what the node held was given back.
    "CREATE TABLE nodes (node TEXT PRIMARY KEY, expires_at REAL, lapsed_at REAL)",
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
)

MARKS = ("PRAGMA application_id = 1970102892", "PRAGMA user_version = 1")
