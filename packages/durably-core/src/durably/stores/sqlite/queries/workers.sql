-- durably_workers: who is there.

-- :name add_worker
-- Again when it has learned of further jobs. One that was thought lost is found by its heartbeat, not here.
INSERT INTO durably_workers (id, host, pid, state, slots, jobs, started_at, heartbeat_at, presence)
VALUES (:id, :host, :pid, 'active', :slots, :jobs, :now, :now, :presence)
ON CONFLICT (id) DO UPDATE SET
  host = excluded.host,
  pid = excluded.pid,
  state = CASE durably_workers.state WHEN 'lost' THEN 'lost' ELSE 'active' END,
  slots = excluded.slots,
  jobs = excluded.jobs,
  heartbeat_at = excluded.heartbeat_at,
  presence = excluded.presence;

-- :name remove_worker
DELETE FROM durably_workers WHERE id = :worker_id AND state <> 'draining';

-- :name bury_worker
DELETE FROM durably_workers WHERE id = :worker_id;

-- :name present_workers
SELECT id, presence FROM durably_workers WHERE host = :host AND presence IS NOT NULL;

-- :name find_silent_worker
SELECT 1 FROM durably_workers AS worker
WHERE heartbeat_at < :before AND NOT EXISTS (SELECT 1 FROM durably_runs WHERE lease_owner = worker.id)
LIMIT 1;

-- :name forget_silent_workers
DELETE FROM durably_workers
WHERE heartbeat_at < :before AND NOT EXISTS (SELECT 1 FROM durably_runs WHERE lease_owner = durably_workers.id);
