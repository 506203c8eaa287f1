-- Keeping, handing back and losing the right to a run.

-- :name renew_lease
-- Of a run that is not running any more it keeps the key for a body that has not ended yet.
UPDATE durably_runs SET lease_expires_at = :expires_at, timer_at = :expires_at
WHERE id = :run_id AND lease_generation = :generation AND lease_owner = :worker_id
RETURNING status;

-- :name find_leased
SELECT seq, status FROM durably_runs
WHERE id = :run_id AND lease_generation = :generation AND lease_owner = :worker_id;

-- :name owned_runs
SELECT seq, id, status, lease_generation FROM durably_runs WHERE lease_owner = :worker_id;

-- :name drain_worker
UPDATE durably_workers SET state = 'draining' WHERE id = :worker_id;

-- :name beat
UPDATE durably_workers SET heartbeat_at = :now WHERE id = :worker_id RETURNING state;
