-- For those who watch: what is new to them, and why a run is not executed.

-- :name glance
SELECT
  run.status,
  run.change,
  EXISTS (SELECT 1 FROM durably_logs AS log WHERE log.run_seq = run.seq AND log.sequence > :sequence)
  OR EXISTS (SELECT 1 FROM durably_steps AS step WHERE step.run_seq = run.seq AND step.sequence > :sequence) AS has_tail
FROM durably_runs AS run WHERE run.id = :run_id;

-- :name last_sequence
SELECT max(
  coalesce((SELECT max(log.sequence) FROM durably_logs AS log WHERE log.run_seq = run.seq), 0),
  coalesce((SELECT max(step.sequence) FROM durably_steps AS step WHERE step.run_seq = run.seq), 0)
)
FROM durably_runs AS run WHERE run.id = :run_id;

-- :name tail_of_steps
SELECT step.*
FROM durably_runs AS run CROSS JOIN durably_steps AS step ON step.run_seq = run.seq
WHERE run.id = :run_id AND step.sequence > :after
ORDER BY step.sequence LIMIT :limit;

-- :name find_place
SELECT seq, rank, timer_at, holds_key, key_scope, concurrency_key FROM durably_runs WHERE id = :run_id;

-- :name running_steps
SELECT * FROM durably_steps WHERE run_seq = :seq AND status = 'running' ORDER BY position;

-- :name count_ahead
-- A holder that was handed back stands in the index too: it is not in the queue.
SELECT count(*) FROM (
  SELECT 1 FROM durably_runs INDEXED BY durably_runs_key_queue
  WHERE key_scope = :scope AND concurrency_key = :key AND status = 'pending' AND timer_at IS NULL
    AND concurrency_key IS NOT NULL AND rank <= :rank AND (rank < :rank OR seq < :seq) AND holds_key = 0
  LIMIT :limit
);

-- :name suspects
SELECT id FROM durably_snapshots WHERE lease_owner = :worker_id AND status = 'running' AND crashes >= :deaths LIMIT 1;
