-- The death of an owner, and what its runs are charged with (the poison guard).

-- :name find_worker
SELECT state, charged FROM durably_workers WHERE id = :worker_id;

-- :name held_runs
SELECT
  seq, id, status, lease_expires_at, crashes, counted_crashes, steps_at_crash,
  (
    SELECT count(*) FROM durably_steps AS step
    WHERE step.run_seq = seq AND step.status IN ('completed', 'failed')
  ) AS checkpoints,
  EXISTS (
    SELECT 1 FROM durably_steps AS step
    WHERE step.run_seq = seq AND step.status = 'running' AND step.cursor IS NOT step.cursor_at_crash
  ) AS has_new_cursor
FROM durably_runs WHERE lease_owner = :worker_id;

-- :name charge_run
UPDATE durably_runs SET crashes = :crashes, counted_crashes = :counted, steps_at_crash = :checkpoints
WHERE seq = :seq;

-- :name note_cursors
UPDATE durably_steps SET cursor_at_crash = cursor WHERE run_seq = :seq AND cursor IS NOT cursor_at_crash;

-- :name park_run
UPDATE durably_runs SET
  status = 'failed',
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
WHERE seq = :seq AND status = 'running'
RETURNING key_scope, concurrency_key;

-- :name step_at_death
-- The step that was left running, else the last one that finished.
SELECT name, status FROM durably_steps WHERE run_seq = :seq
ORDER BY status = 'running' DESC, position DESC LIMIT 1;

-- :name lose_worker
UPDATE durably_workers SET state = 'lost', charged = :charged WHERE id = :worker_id;

-- :name find_worker_again
UPDATE durably_workers SET state = 'active', charged = '[]' WHERE id = :worker_id;

-- :name give_back
-- Only while no newer checkpoint has wiped the charge away already.
UPDATE durably_runs SET crashes = crashes - 1, counted_crashes = counted_crashes - :counted
WHERE id = :run_id AND steps_at_crash = :checkpoints AND crashes > 0 AND counted_crashes >= :counted
  AND status NOT IN ('completed', 'failed', 'cancelled');
