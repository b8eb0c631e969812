-- The journal's views, format 2. Made anew when a journal of format 1 is gone on with.

-- One row a trial that was trained and evaluated in full, with all that was measured.
DROP VIEW IF EXISTS finished;
CREATE VIEW finished AS
SELECT seq, at_ms, trial, body -> '$.metrics' AS metrics
FROM events WHERE kind = 'finished' ORDER BY seq;

-- One row a trial and epoch that was reported.
DROP VIEW IF EXISTS reports;
CREATE VIEW reports AS
SELECT seq, at_ms, trial, body ->> '$.attempt' AS attempt, body ->> '$.epoch' AS epoch,
       body ->> '$.verdict' AS verdict, body -> '$.metrics' AS metrics
FROM events WHERE kind = 'reported' ORDER BY seq;

-- Every attempt (with its number) and every trial (without) that came to nothing, with its reason.
DROP VIEW IF EXISTS failures;
CREATE VIEW failures AS
SELECT seq, at_ms, trial, body ->> '$.attempt' AS attempt,
       CASE kind WHEN 'failed' THEN body ELSE body -> '$.reason' END AS reason
FROM events WHERE kind IN ('attempt_failed', 'failed') ORDER BY seq;

-- One row a trial: what it is, when it was proposed, and how and when it ended (null while it lives).
DROP VIEW IF EXISTS trials;
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
