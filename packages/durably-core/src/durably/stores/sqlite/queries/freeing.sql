-- Taking a run from its owner, or from the clock.

-- :name hand_back
-- A keyed run keeps its key: it is the first to go on.
UPDATE durably_runs SET
  status = 'pending',
  ready = (concurrency_key IS NULL),
  lease_owner = NULL,
  lease_expires_at = NULL,
  timer_at = NULL,
  updated_at = :now,
  change = :change
WHERE seq = :seq AND status = 'running'
RETURNING key_scope, concurrency_key;

-- :name let_go
-- For what is not running: a pending or waiting run falls due, the body of a cancelled run has ended.
UPDATE durably_runs SET
  status = CASE status WHEN 'waiting' THEN 'pending' ELSE status END,
  ready = (status IN ('pending', 'waiting') AND concurrency_key IS NULL),
  holds_key = CASE WHEN lease_owner IS NULL THEN holds_key ELSE 0 END,
  lease_owner = NULL,
  lease_expires_at = NULL,
  timer_at = NULL,
  change = :change
WHERE seq = :seq AND status <> 'running'
RETURNING key_scope, concurrency_key;
