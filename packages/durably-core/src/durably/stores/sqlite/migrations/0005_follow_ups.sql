-- What follows when a run fails: another run, stored in the same transaction.
--
--   on_failure  names of jobs, as JSON: a run of the first follows this one's failure, and keeps the others for its own

ALTER TABLE durably_runs ADD COLUMN on_failure TEXT;

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
