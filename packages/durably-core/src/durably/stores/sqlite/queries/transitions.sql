-- What a person does to a run.

-- :name find_token
SELECT seq, last_token FROM durably_runs WHERE id = :run_id;

-- :name cancel_run
-- While a body executes (lease_owner) the lease and the key stay until it has ended or the lease runs out.
UPDATE durably_runs SET
  status = 'cancelled',
  ready = 0,
  holds_key = CASE WHEN lease_owner IS NULL THEN 0 ELSE holds_key END,
  timer_at = CASE WHEN lease_owner IS NULL THEN NULL ELSE timer_at END,
  steps_completed = (
    SELECT count(*) FROM durably_steps AS step WHERE step.run_seq = seq AND step.status = 'completed'
  ),
  completed_at = :now,
  updated_at = :now,
  last_token = :token,
  change = :change
WHERE id = :run_id AND status IN ('pending', 'running', 'waiting')
RETURNING key_scope, concurrency_key;

-- :name retry_run
-- A body that has not ended yet (lease_owner) is waited for by the timer that its lease left behind.
UPDATE durably_runs SET
  status = 'pending',
  ready = (concurrency_key IS NULL AND lease_owner IS NULL),
  error = NULL,
  output = NULL,
  crashes = 0,
  counted_crashes = 0,
  steps_at_crash = 0,
  attempt = 1,
  timed_from = NULL,
  steps_completed = NULL,
  completed_at = NULL,
  updated_at = :now,
  last_token = :token,
  change = :change
WHERE id = :run_id AND status IN ('failed', 'cancelled')
RETURNING seq, key_scope, concurrency_key;

-- :name keep_failure
-- The failure that a retry drops stays visible.
INSERT INTO durably_attempts (run_seq, sequence, step_name, number, is_past, started_at, ended_at, error)
SELECT run_seq, sequence, name, attempt, 1, started_at, coalesce(completed_at, started_at), error
FROM durably_steps WHERE run_seq = :seq AND name = :name AND status = 'failed' AND error IS NOT NULL
ON CONFLICT DO NOTHING;

-- :name put_back
-- A step that has come part of its way keeps its place, and goes on from its cursor.
UPDATE durably_steps SET status = 'running', attempt = 0, completed_at = NULL, error = NULL
WHERE run_seq = :seq AND name = :name AND status = 'failed' AND cursor IS NOT NULL;

-- :name drop_failure
DELETE FROM durably_steps WHERE run_seq = :seq AND name = :name AND status = 'failed';

-- :name begin_anew
-- Fresh attempts for every step that has not ended.
UPDATE durably_attempts SET is_past = 1 WHERE run_seq = :seq AND is_past = 0;

-- :name due_at_once
UPDATE durably_steps SET wake_at = NULL
WHERE run_seq = :seq AND status = 'running' AND kind = 'run' AND wake_at IS NOT NULL;

-- :name ended_children
-- Those that are waited for.
SELECT child.id, child.status
FROM durably_steps AS step CROSS JOIN durably_runs AS child ON child.id = step.child_id
WHERE step.run_seq = :seq AND step.kind = 'child' AND step.status = 'running'
  AND child.status IN ('failed', 'cancelled');

-- :name delete_run
-- Not while a cancelled body still keeps the key: the next holder would execute beside it.
DELETE FROM durably_runs
WHERE id = :run_id AND status IN ('completed', 'failed', 'cancelled') AND holds_key = 0;

-- :name is_purge_due
SELECT 1 FROM durably_runs WHERE completed_at < :before LIMIT 1;

-- :name purge_runs
DELETE FROM durably_runs WHERE seq IN (
  SELECT seq FROM durably_runs WHERE completed_at < :before AND holds_key = 0 ORDER BY completed_at LIMIT :limit
);
