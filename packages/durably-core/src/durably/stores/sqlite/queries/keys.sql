-- Concurrency keys. Who holds a key and who is next is read from the rows, never from a counter.

-- :name find_holder
SELECT seq, status, timer_at, lease_owner FROM durably_runs INDEXED BY durably_runs_key_holder
WHERE key_scope = :scope AND concurrency_key = :key AND holds_key = 1;

-- :name drop_hold
UPDATE durably_runs SET holds_key = 0 WHERE seq = :seq;

-- :name find_first_in_queue
SELECT seq FROM durably_runs INDEXED BY durably_runs_key_queue
WHERE key_scope = :scope AND concurrency_key = :key AND status = 'pending' AND timer_at IS NULL
  AND concurrency_key IS NOT NULL
ORDER BY rank, seq LIMIT 1;

-- :name find_head
SELECT seq FROM durably_runs INDEXED BY durably_runs_key_head
WHERE key_scope = :scope AND concurrency_key = :key AND ready = 1 AND concurrency_key IS NOT NULL;

-- :name set_ready
UPDATE durably_runs SET ready = :ready WHERE seq = :seq;

-- :name find_headless_keys
-- Walks from key to key (not from run to run), and keeps the ones whose queue nobody is going to move.
WITH RECURSIVE queue (scope, key) AS (
  SELECT key_scope, concurrency_key FROM (
    SELECT key_scope, concurrency_key FROM durably_runs INDEXED BY durably_runs_key_queue
    WHERE status = 'pending' AND timer_at IS NULL AND concurrency_key IS NOT NULL
    ORDER BY key_scope, concurrency_key LIMIT 1
  )
  UNION ALL
  SELECT next.key_scope, next.concurrency_key
  FROM queue CROSS JOIN durably_runs AS next ON next.seq = coalesce((
    SELECT seq FROM durably_runs INDEXED BY durably_runs_key_queue
    WHERE key_scope = queue.scope AND concurrency_key > queue.key
      AND status = 'pending' AND timer_at IS NULL AND concurrency_key IS NOT NULL
    ORDER BY concurrency_key LIMIT 1
  ), (
    SELECT seq FROM durably_runs INDEXED BY durably_runs_key_queue
    WHERE key_scope > queue.scope
      AND status = 'pending' AND timer_at IS NULL AND concurrency_key IS NOT NULL
    ORDER BY key_scope LIMIT 1
  ))
)
SELECT scope, key FROM queue
WHERE NOT EXISTS (
  SELECT 1 FROM durably_runs AS head INDEXED BY durably_runs_key_head
  WHERE head.key_scope = queue.scope AND head.concurrency_key = queue.key AND head.ready = 1
    AND head.concurrency_key IS NOT NULL
) AND NOT EXISTS (
  SELECT 1 FROM durably_runs AS holder INDEXED BY durably_runs_key_holder
  WHERE holder.key_scope = queue.scope AND holder.concurrency_key = queue.key AND holder.holds_key = 1
    AND (holder.status IN ('running', 'waiting') OR holder.lease_owner IS NOT NULL OR holder.timer_at IS NOT NULL)
);
