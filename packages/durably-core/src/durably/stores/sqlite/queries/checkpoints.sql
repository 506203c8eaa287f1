-- What an owner writes while its run is running. Every statement carries the guard: id, `running`, generation.

-- :name save_step
-- One statement and no read: no row changed means refused. It moves no index of durably_runs.
INSERT INTO durably_steps (
  run_seq, name, status, position, attempt, sequence, started_at, completed_at, error, result, kind
)
SELECT seq, :name, :status, :position, :attempt, :sequence, :started_at, :completed_at, :error, :result, :kind
FROM durably_runs WHERE id = :run_id AND status = 'running' AND lease_generation = :generation
ON CONFLICT (run_seq, name) DO UPDATE SET
  status = excluded.status,
  position = excluded.position,
  attempt = excluded.attempt,
  sequence = excluded.sequence,
  started_at = excluded.started_at,
  completed_at = excluded.completed_at,
  error = excluded.error,
  result = excluded.result,
  kind = excluded.kind,
  cursor = CASE WHEN excluded.status <> 'completed' THEN durably_steps.cursor END,
  wake_at = NULL
-- A mark that comes late must not hide an attempt that failed since.
WHERE durably_steps.status NOT IN ('completed', 'failed') AND durably_steps.sequence <= excluded.sequence;

-- :name save_cursor
-- Also of a step that failed: what tries it again, goes on from there.
INSERT INTO durably_steps (run_seq, name, status, position, attempt, sequence, started_at, cursor)
SELECT seq, :name, 'running', :position, :attempt, :sequence, :started_at, :cursor
FROM durably_runs WHERE id = :run_id AND status = 'running' AND lease_generation = :generation
ON CONFLICT (run_seq, name) DO UPDATE SET cursor = excluded.cursor
WHERE durably_steps.status <> 'completed';

-- :name find_step
SELECT step.status, step.attempt, step.error, step.result
FROM durably_runs AS run CROSS JOIN durably_steps AS step ON step.run_seq = run.seq
WHERE run.id = :run_id AND step.name = :name;

-- :name find_fence
SELECT seq, status, lease_generation FROM durably_runs WHERE id = :run_id;

-- :name save_log
INSERT INTO durably_logs (run_seq, sequence, level, step_name, created_at, message, fields)
SELECT seq, :sequence, :level, :step_name, :created_at, :message, :fields
FROM durably_runs WHERE id = :run_id AND status = 'running' AND lease_generation = :generation
ON CONFLICT DO NOTHING;

-- :name save_progress
UPDATE durably_runs SET
  progress_current = :current,
  progress_total = :total,
  progress_message = :message,
  updated_at = :now,
  change = :change
WHERE id = :run_id AND status = 'running' AND lease_generation = :generation;

-- :name finish_run
UPDATE durably_runs SET
  status = :status,
  output = :output,
  error = :error,
  completed_at = :now,
  updated_at = :now,
  steps_completed = (
    SELECT count(*) FROM durably_steps AS step WHERE step.run_seq = seq AND step.status = 'completed'
  ),
  holds_key = 0,
  lease_owner = NULL,
  lease_expires_at = NULL,
  timer_at = NULL,
  change = :change
WHERE id = :run_id AND status = 'running' AND lease_generation = :generation
RETURNING seq, key_scope, concurrency_key;

-- :name find_outcome
SELECT status, output, error FROM durably_runs WHERE id = :run_id AND lease_generation = :generation;

-- :name drop_results
UPDATE durably_steps SET result = NULL WHERE run_seq = (SELECT seq FROM durably_runs WHERE id = :run_id);
