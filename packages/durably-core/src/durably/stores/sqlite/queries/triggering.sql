-- New runs: durably_runs, and durably_run_labels beside it.

-- :name insert_run
-- Does nothing where the id or the job's idempotency key is taken already.
INSERT INTO durably_runs (
  id, job_name, status, change, priority, rank, ready, timer_at, due_at, idempotency_key, key_scope,
  concurrency_key, created_at, updated_at, labels, input
) VALUES (
  :id, :job_name, 'pending', :change, :priority, :rank, :ready, :timer_at, :due_at, :idempotency_key, :key_scope,
  :concurrency_key, :now, :now, :labels, :input
) ON CONFLICT DO NOTHING
RETURNING seq;

-- :name insert_label
INSERT INTO durably_run_labels (key, value, run_seq) VALUES (:key, :value, :seq);

-- :name find_by_idempotency_key
SELECT * FROM durably_snapshots WHERE job_name = :job_name AND idempotency_key = :idempotency_key;
