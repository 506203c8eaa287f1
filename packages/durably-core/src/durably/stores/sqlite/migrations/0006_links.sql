-- Going on as new. A run is a chain of links; the present one is the run's own row, its steps and its input.
--
--   link            of a run: which link of its chain it is in
--   durably_links   the links that have ended: when, and with what input; of a long chain the newest

CREATE TABLE durably_links (
  run_seq INTEGER NOT NULL REFERENCES durably_runs (seq) ON DELETE CASCADE,
  number INTEGER NOT NULL,
  sequence INTEGER NOT NULL, -- the last one that its steps and lines had
  started_at REAL NOT NULL,
  ended_at REAL NOT NULL,
  input TEXT NOT NULL,
  UNIQUE (run_seq, number)
) STRICT;

ALTER TABLE durably_runs ADD COLUMN link INTEGER NOT NULL DEFAULT 1;

DROP VIEW durably_snapshots;
CREATE VIEW durably_snapshots AS
SELECT
  run.seq,
  run.id,
  run.job_name,
  run.status,
  run.change,
  run.priority,
  run.due_at,
  run.parent_id,
  run.is_detached,
  run.on_failure,
  run.timer_at,
  run.idempotency_key,
  run.key_scope,
  run.concurrency_key,
  run.lease_owner,
  run.lease_expires_at,
  run.lease_generation,
  run.created_at,
  run.updated_at,
  run.started_at,
  run.timed_from,
  run.attempt,
  run.link,
  run.completed_at,
  run.progress_current,
  run.progress_total,
  run.progress_message,
  run.labels,
  run.error,
  run.input,
  run.output,
  CASE
    WHEN run.crashes = 0 THEN 0
    WHEN run.steps_at_crash < (
      SELECT count(*) FROM durably_steps AS step
      WHERE step.run_seq = run.seq AND step.status IN ('completed', 'failed')
    ) THEN 0
    ELSE run.crashes
  END AS crashes,
  coalesce(run.steps_completed, (
    SELECT count(*) FROM durably_steps AS step WHERE step.run_seq = run.seq AND step.status = 'completed'
  )) AS steps_completed
FROM durably_runs AS run;
