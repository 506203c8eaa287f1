-- Waiting without a worker. A wait is a step like any other: `running` while it lasts, then a checkpoint.
--
--   kind        run (a body), sleep, signal, child, spawn
--   wake_at     the instant at which the wait ends by itself; null: never
--   signal_key  the key that a signal may be addressed by, beside the run's id
--   child_id    the run that is waited for, or was spawned
--
-- A signal is stored first and consumed once; `run_seq` or `key` says whom it is for.

ALTER TABLE durably_steps ADD COLUMN kind TEXT NOT NULL DEFAULT 'run';
ALTER TABLE durably_steps ADD COLUMN wake_at REAL;
ALTER TABLE durably_steps ADD COLUMN signal_key TEXT;
ALTER TABLE durably_steps ADD COLUMN child_id TEXT;

CREATE INDEX durably_steps_signal ON durably_steps (name, signal_key) WHERE kind = 'signal' AND status = 'running';
CREATE INDEX durably_steps_child ON durably_steps (child_id) WHERE kind = 'child' AND status = 'running';

ALTER TABLE durably_runs ADD COLUMN parent_id TEXT;
ALTER TABLE durably_runs ADD COLUMN is_detached INTEGER NOT NULL DEFAULT 0;

CREATE INDEX durably_runs_unfinished_child ON durably_runs (parent_id)
  WHERE parent_id IS NOT NULL AND completed_at IS NULL;

CREATE TABLE durably_signals (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  run_seq INTEGER REFERENCES durably_runs (seq) ON DELETE CASCADE,
  key TEXT,
  sent_at REAL NOT NULL,
  consumed_at REAL,
  payload TEXT NOT NULL,
  CHECK ((run_seq IS NULL) <> (key IS NULL))
) STRICT;

CREATE INDEX durably_signals_of_run ON durably_signals (run_seq, name) WHERE run_seq IS NOT NULL;
CREATE INDEX durably_signals_of_key ON durably_signals (name, key) WHERE key IS NOT NULL AND consumed_at IS NULL;
CREATE INDEX durably_signals_kept ON durably_signals (sent_at) WHERE key IS NOT NULL;

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
