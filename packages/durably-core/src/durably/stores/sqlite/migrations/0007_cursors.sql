-- Long steps that resume in their middle. How far the body of a step has come:
--
--   cursor           as it last said; null once the step has completed
--   cursor_at_crash  what that was when an owner of the run last died: a step that has come further is no poison

ALTER TABLE durably_steps ADD COLUMN cursor TEXT;
ALTER TABLE durably_steps ADD COLUMN cursor_at_crash TEXT;

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
    WHEN EXISTS (
      SELECT 1 FROM durably_steps AS step
      WHERE step.run_seq = run.seq AND step.status = 'running' AND step.cursor IS NOT step.cursor_at_crash
    ) THEN 0
    ELSE run.crashes
  END AS crashes,
  coalesce(run.steps_completed, (
    SELECT count(*) FROM durably_steps AS step WHERE step.run_seq = run.seq AND step.status = 'completed'
  )) AS steps_completed
FROM durably_runs AS run;
