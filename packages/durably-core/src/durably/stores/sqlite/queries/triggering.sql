-- New runs: durably_runs, and durably_run_labels beside it.

-- :name insert_run
-- Does nothing where the id or the job's idempotency key is taken already.
INSERT INTO durably_runs (
  id, job_name, status, change, priority, rank, ready, timer_at, due_at, idempotency_key, key_scope,
  concurrency_key, created_at, updated_at, labels, input, parent_id, is_detached,
  on_failure
) VALUES (
  :id, :job_name, 'pending', :change, :priority, :rank, :ready, :timer_at, :due_at, :idempotency_key, :key_scope,
  :concurrency_key, :now, :now, :labels, :input, :parent_id, :is_detached,
  :on_failure
) ON CONFLICT DO NOTHING
RETURNING seq;

-- :name insert_label
INSERT INTO durably_run_labels (key, value, run_seq) VALUES (:key, :value, :seq);

-- :name find_by_idempotency_key
SELECT * FROM durably_snapshots WHERE job_name = :job_name AND idempotency_key = :idempotency_key;

-- :name last_in_queue
-- Of this job and key, not yet begun: a run that was handed back or retried is not one that waits to begin.
SELECT seq, id, rank FROM durably_runs INDEXED BY durably_runs_key_queue
WHERE key_scope = :scope AND concurrency_key = :key AND status = 'pending' AND timer_at IS NULL
  AND concurrency_key IS NOT NULL AND job_name = :job_name AND started_at IS NULL
ORDER BY rank DESC, seq DESC LIMIT 1;

-- :name first_by_the_clock
SELECT seq, id, rank, timer_at FROM durably_runs INDEXED BY durably_runs_key_delayed
WHERE key_scope = :scope AND concurrency_key = :key AND status = 'pending' AND timer_at IS NOT NULL
  AND concurrency_key IS NOT NULL AND job_name = :job_name AND started_at IS NULL
ORDER BY timer_at LIMIT 1;

-- :name begin
-- Within the transaction, which may have other verbs in it: a refused call takes back its own rows only.
SAVEPOINT durably_enqueue;

-- :name undo
ROLLBACK TO durably_enqueue;

-- :name end
RELEASE durably_enqueue;
