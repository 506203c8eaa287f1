-- Trying again. A step that is tried again stays `running`; `wake_at` says when its next attempt is due.
--
--   durably_attempts      the attempts at steps that failed; the last failure of all is the step's own row
--
--   is_past     1 for those from before the run was sent back: they are shown, but not counted any more
--   attempt     of a run: which attempt at its job it is in
--   timed_from  the instant from which the job's timeout counts: the first start, or the first after a retry

CREATE TABLE durably_attempts (
  run_seq INTEGER NOT NULL REFERENCES durably_runs (seq) ON DELETE CASCADE,
  sequence INTEGER NOT NULL,
  step_name TEXT NOT NULL,
  number INTEGER NOT NULL,
  is_past INTEGER NOT NULL CHECK (is_past IN (0, 1)),
  started_at REAL NOT NULL,
  ended_at REAL NOT NULL,
  error TEXT NOT NULL,
  UNIQUE (run_seq, sequence)
) STRICT;

ALTER TABLE durably_runs ADD COLUMN attempt INTEGER NOT NULL DEFAULT 1;
ALTER TABLE durably_runs ADD COLUMN timed_from REAL;

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
