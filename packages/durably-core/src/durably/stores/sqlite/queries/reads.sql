-- Looking, without changing anything. Lists of runs are put together in listing.py.

-- :name get_run
SELECT * FROM durably_snapshots WHERE id = :run_id;

-- :name get_run_at
SELECT * FROM durably_snapshots WHERE seq = :seq;

-- :name list_changes
SELECT * FROM durably_snapshots WHERE change > :after ORDER BY change LIMIT :limit;

-- :name list_steps
SELECT step.name, step.status, step.position, step.attempt, step.sequence, step.started_at, step.completed_at,
  CASE WHEN :results THEN step.result END AS result, step.error, step.kind, step.wake_at, step.signal_key,
  step.child_id, step.cursor
FROM durably_runs AS run CROSS JOIN durably_steps AS step ON step.run_seq = run.seq
WHERE run.id = :run_id AND step.sequence > :after
ORDER BY step.position;

-- :name list_attempts
SELECT attempt.step_name, attempt.number, attempt.started_at, attempt.ended_at, attempt.error
FROM durably_runs AS run CROSS JOIN durably_attempts AS attempt ON attempt.run_seq = run.seq
WHERE run.id = :run_id ORDER BY attempt.sequence;

-- :name list_logs
SELECT log.sequence, log.level, log.message, log.fields, log.step_name, log.created_at
FROM durably_runs AS run CROSS JOIN durably_logs AS log ON log.run_seq = run.seq
WHERE run.id = :run_id AND log.sequence > :after
ORDER BY log.sequence LIMIT :limit;

-- :name last_logs
SELECT log.sequence, log.level, log.message, log.fields, log.step_name, log.created_at
FROM durably_runs AS run CROSS JOIN durably_logs AS log ON log.run_seq = run.seq
WHERE run.id = :run_id AND (:before IS NULL OR log.sequence < :before)
ORDER BY log.sequence DESC LIMIT :limit;

-- :name list_workers
SELECT id, host, pid, state, slots, jobs, started_at, heartbeat_at,
  (SELECT count(*) FROM durably_runs AS run WHERE run.lease_owner = worker.id) AS running
FROM durably_workers AS worker ORDER BY started_at, id;
