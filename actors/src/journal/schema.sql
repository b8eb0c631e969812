-- The journal's tables and views, format 1. Made in one transaction when a journal is created.
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

-- One row a trial that was trained and evaluated in full, with all that was measured.
CREATE VIEW finished AS
SELECT seq, at_ms, trial, body -> '$.metrics' AS metrics
FROM events WHERE kind = 'finished' ORDER BY seq;

-- One row a trial and epoch that was reported.
CREATE VIEW reports AS
SELECT seq, at_ms, trial, body ->> '$.attempt' AS attempt, body ->> '$.epoch' AS epoch,
       body ->> '$.verdict' AS verdict, body -> '$.metrics' AS metrics
FROM events WHERE kind = 'reported' ORDER BY seq;

-- Every attempt (with its number) and every trial (without) that came to nothing, with its reason.
CREATE VIEW failures AS
SELECT seq, at_ms, trial, body ->> '$.attempt' AS attempt,
       CASE kind WHEN 'failed' THEN body ELSE body -> '$.reason' END AS reason
FROM events WHERE kind IN ('attempt_failed', 'failed') ORDER BY seq;

-- One row a trial: what it is, when it was proposed, and how and when it ended (null while it lives).
CREATE VIEW trials AS
SELECT trial,
       max(body ->> '$.key') FILTER (WHERE kind = 'proposed') AS candidate,
       max(body ->> '$.parent') FILTER (WHERE kind = 'proposed') AS parent,
       max(body ->> '$.origin') FILTER (WHERE kind = 'proposed') AS origin,
       min(at_ms) FILTER (WHERE kind = 'proposed') AS proposed_ms,
       max(at_ms) FILTER (WHERE kind IN ('finished', 'stopped', 'failed')) AS ended_ms,
       max(CASE WHEN kind = 'failed' AND body ->> '$.reason' = 'infeasible' THEN 'infeasible' ELSE kind END)
           FILTER (WHERE kind IN ('finished', 'stopped', 'failed')) AS outcome,
       max(body ->> '$.epoch') FILTER (WHERE kind = 'reported') AS epochs,
       count(*) FILTER (WHERE kind = 'attempt_failed') AS failed_attempts
FROM events WHERE trial IS NOT NULL GROUP BY trial ORDER BY trial;
