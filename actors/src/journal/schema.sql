-- The journal's tables, the same in formats 1 and 2. Made in one transaction with the views when a journal is created.
CREATE TABLE meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    seq   INTEGER NOT NULL PRIMARY KEY, -- 1, 2, 3, ... without gaps
    at_ms INTEGER NOT NULL,             -- milliseconds since the search began
    trial INTEGER,                      -- the trial it is about
    kind  TEXT    NOT NULL,             -- what happened
    body  TEXT    NOT NULL              -- the event's own fields, a JSON object
) STRICT;
