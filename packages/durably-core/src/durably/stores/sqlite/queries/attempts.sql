-- Attempts that failed: those of steps, and those of a whole job.

-- :name await_attempt
-- The guard, and the step stays `running`. What was written later about it stays.
INSERT INTO durably_steps (run_seq, name, status, position, attempt, sequence, started_at, wake_at)
SELECT seq, :name, 'running', :position, :attempt, :sequence, :started_at, :wake_at
FROM durably_runs WHERE id = :run_id AND status = 'running' AND lease_generation = :generation
ON CONFLICT (run_seq, name) DO UPDATE SET
  position = excluded.position,
  attempt = excluded.attempt,
  sequence = excluded.sequence,
  started_at = excluded.started_at,
  kind = 'run',
  wake_at = excluded.wake_at
WHERE durably_steps.status = 'running' AND durably_steps.sequence <= excluded.sequence;

-- :name save_attempt
INSERT INTO durably_attempts (run_seq, sequence, step_name, number, is_past, started_at, ended_at, error)
SELECT seq, :sequence, :name, :attempt, 0, :started_at, :ended_at, :error
FROM durably_runs WHERE id = :run_id AND status = 'running' AND lease_generation = :generation
ON CONFLICT DO NOTHING;

-- :name failed_attempts
SELECT step_name FROM durably_attempts WHERE run_seq = :seq AND is_past = 0;

-- :name reattempt_run
-- The run keeps its key while it waits: it is the first to go on.
UPDATE durably_runs SET
  status = 'pending',
  ready = (:delay <= 0 AND concurrency_key IS NULL),
  timer_at = CASE WHEN :delay > 0 THEN :now + :delay END,
  due_at = :now + :delay,
  attempt = :attempt + 1,
  error = :error,
  crashes = 0,
  counted_crashes = 0,
  steps_at_crash = 0,
  lease_owner = NULL,
  lease_expires_at = NULL,
  updated_at = :now,
  change = :change
WHERE id = :run_id AND status = 'running' AND lease_generation = :generation
RETURNING seq, key_scope, concurrency_key;

-- :name find_reattempt
SELECT 1 FROM durably_runs
WHERE id = :run_id AND lease_generation = :generation AND status = 'pending' AND attempt = :attempt + 1;
