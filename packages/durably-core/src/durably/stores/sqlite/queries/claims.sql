-- From ready to running. `durably_runs_timed` tells what must be looked at, `durably_runs_ready` what may be taken.
-- The indexes are named: the planner, which knows nothing of the data, would rather take one over all runs of a job.

-- :name earliest_timer
SELECT timer_at FROM durably_runs INDEXED BY durably_runs_timed
WHERE timer_at IS NOT NULL ORDER BY timer_at LIMIT 1;

-- :name is_job_ready
SELECT 1 FROM durably_runs INDEXED BY durably_runs_ready WHERE job_name = :job_name AND ready = 1 LIMIT 1;

-- :name due_timers
SELECT seq, lease_owner FROM durably_runs INDEXED BY durably_runs_timed
WHERE timer_at <= :now ORDER BY timer_at, seq LIMIT :limit;

-- :name ready_runs
SELECT rank, seq, crashes FROM durably_runs INDEXED BY durably_runs_ready
WHERE job_name = :job_name AND ready = 1
ORDER BY rank, seq LIMIT :limit;

-- :name claim_run
-- The guard is the truth about keys; `ready` is only the way to find candidates.
UPDATE durably_runs SET
  status = 'running',
  ready = 0,
  holds_key = (concurrency_key IS NOT NULL),
  lease_owner = :worker_id,
  lease_expires_at = :expires_at,
  timer_at = :expires_at,
  lease_generation = lease_generation + 1,
  started_at = coalesce(started_at, :now),
  timed_from = coalesce(timed_from, :now),
  updated_at = :now,
  change = :change
WHERE seq = :seq AND status = 'pending' AND ready = 1 AND NOT EXISTS (
  SELECT 1 FROM durably_runs AS holder INDEXED BY durably_runs_key_holder
  WHERE holder.key_scope = durably_runs.key_scope AND holder.concurrency_key = durably_runs.concurrency_key
    AND holder.holds_key = 1 AND holder.seq <> durably_runs.seq
);

-- :name find_key
SELECT key_scope, concurrency_key FROM durably_runs WHERE seq = :seq;

-- :name steps_of_run
SELECT name, status, position, attempt, sequence, started_at, completed_at, result, error,
  kind, wake_at, signal_key, child_id, cursor
FROM durably_steps WHERE run_seq = :seq ORDER BY position;

-- :name last_sequence
-- Of what is not a step: numbers are never given twice, also when a retry or the end of a link drops steps.
SELECT max(
  (SELECT coalesce(max(sequence), 0) FROM durably_logs WHERE run_seq = :seq),
  (SELECT coalesce(max(sequence), 0) FROM durably_attempts WHERE run_seq = :seq),
  (SELECT coalesce(max(sequence), 0) FROM durably_links WHERE run_seq = :seq)
);
