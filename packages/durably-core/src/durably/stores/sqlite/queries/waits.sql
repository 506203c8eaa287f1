-- Waits and signals: durably_steps of the kinds sleep, signal, child and spawn, and durably_signals.

-- :name find_owned
SELECT seq, id FROM durably_runs WHERE id = :run_id AND status = 'running' AND lease_generation = :generation;

-- :name begin_wait
-- What is stored wins: the deadline is that of the first call. But a body that was begun, and came to nothing, gives way
-- to a wait that has its name now.
INSERT INTO durably_steps (
  run_seq, name, status, position, attempt, sequence, started_at, kind, wake_at, signal_key, child_id
) VALUES (:seq, :name, 'running', :position, :attempt, :sequence, :started_at, :kind, :wake_at, :signal_key, :child_id)
ON CONFLICT (run_seq, name) DO UPDATE SET
  position = excluded.position,
  attempt = excluded.attempt,
  sequence = excluded.sequence,
  started_at = excluded.started_at,
  kind = excluded.kind,
  wake_at = excluded.wake_at,
  signal_key = excluded.signal_key,
  child_id = excluded.child_id,
  cursor = NULL,
  cursor_at_crash = NULL
WHERE durably_steps.status = 'running' AND durably_steps.kind IN ('run', 'map')
  AND excluded.kind NOT IN ('run', 'map');

-- :name waits_of_run
SELECT name, status, position, attempt, sequence, started_at, completed_at, result, error,
  kind, wake_at, signal_key, child_id
FROM durably_steps WHERE run_seq = :seq AND status = 'running' AND kind NOT IN ('run', 'map') ORDER BY position;

-- :name ripe_waits
-- Of one run, whose waits may be thousands: one pass instead of a look at each.
SELECT step.name
FROM durably_runs AS run CROSS JOIN durably_steps AS step ON step.run_seq = run.seq
WHERE run.id = :run_id AND step.status = 'running' AND CASE step.kind
  WHEN 'child' THEN NOT EXISTS (
    SELECT 1 FROM durably_runs AS child WHERE child.id = step.child_id AND child.completed_at IS NULL
  )
  WHEN 'signal' THEN step.wake_at <= :now OR EXISTS (
    SELECT 1 FROM durably_signals AS signal
    WHERE signal.run_seq = step.run_seq AND signal.name = step.name AND signal.consumed_at IS NULL
  ) OR EXISTS (
    SELECT 1 FROM durably_signals AS signal
    WHERE signal.name = step.name AND signal.key = step.signal_key AND signal.key IS NOT NULL
      AND signal.consumed_at IS NULL
  )
  ELSE step.kind = 'sleep' AND step.wake_at <= :now
END;

-- :name find_wait
SELECT name, status, position, attempt, sequence, started_at, completed_at, result, error,
  kind, wake_at, signal_key, child_id
FROM durably_steps WHERE run_seq = :seq AND name = :name;

-- :name end_wait
UPDATE durably_steps SET
  status = :status, completed_at = :now, result = :result, error = :error,
  sequence = CASE WHEN :sequence > 0 THEN :sequence ELSE 1 + max(
    coalesce((SELECT max(sequence) FROM durably_logs WHERE run_seq = :seq), 0),
    coalesce((SELECT max(sequence) FROM durably_attempts WHERE run_seq = :seq), 0),
    (SELECT max(sequence) FROM durably_steps WHERE run_seq = :seq)
  ) END
WHERE run_seq = :seq AND name = :name AND status = 'running';

-- :name find_signal
-- The oldest that fits. One sent after the wait's end is too late, even if nobody has looked yet.
SELECT id, payload FROM (
  SELECT * FROM (
    SELECT id, payload, sent_at, rowid AS place FROM durably_signals INDEXED BY durably_signals_untaken
    WHERE run_seq = :seq AND run_seq IS NOT NULL AND name = :name AND consumed_at IS NULL
    ORDER BY sent_at, rowid LIMIT 1
  )
  UNION ALL
  SELECT * FROM (
    SELECT id, payload, sent_at, rowid AS place FROM durably_signals INDEXED BY durably_signals_of_key
    WHERE name = :name AND key = :key AND key IS NOT NULL AND consumed_at IS NULL
    ORDER BY sent_at, rowid LIMIT 1
  )
)
WHERE :wake_at IS NULL OR sent_at <= :wake_at
ORDER BY sent_at, place LIMIT 1;

-- :name consume_signal
UPDATE durably_signals SET consumed_at = :now WHERE id = :id;

-- :name find_child
SELECT status, parent_id, job_name, key_scope, concurrency_key, output, error
FROM durably_runs WHERE id = :child_id;

-- :name suspend_run
UPDATE durably_runs SET
  status = 'waiting',
  timer_at = :wake_at,
  lease_owner = NULL,
  lease_expires_at = NULL,
  updated_at = :now,
  change = :change
WHERE seq = :seq AND status = 'running'
RETURNING key_scope, concurrency_key;

-- :name insert_signal
INSERT INTO durably_signals (id, name, run_seq, key, sent_at, payload)
VALUES (:id, :name, :seq, :key, :now, :payload)
ON CONFLICT DO NOTHING;

-- :name find_receiver
SELECT seq, status FROM durably_runs WHERE id = :run_id;

-- :name waiting_for_key
-- Suspended runs only: the owner of one that is running looks for itself.
SELECT step.run_seq AS seq, step.name
FROM durably_steps AS step CROSS JOIN durably_runs AS run ON run.seq = step.run_seq
WHERE step.name = :name AND step.signal_key = :key AND step.kind = 'signal' AND step.status = 'running'
  AND run.status = 'waiting'
ORDER BY step.started_at, step.rowid LIMIT 1;

-- :name waiting_for_child
SELECT step.run_seq AS seq, step.name
FROM durably_steps AS step CROSS JOIN durably_runs AS run ON run.seq = step.run_seq
WHERE step.child_id = :child_id AND step.kind = 'child' AND step.status = 'running' AND run.status = 'waiting';

-- :name is_waiting
SELECT 1 FROM durably_runs WHERE seq = :seq AND status = 'waiting';

-- :name find_key_of
SELECT id, parent_id, holds_key, key_scope, concurrency_key FROM durably_runs WHERE id = :run_id;

-- :name unfinished_children
SELECT id FROM durably_runs
WHERE parent_id = :run_id AND completed_at IS NULL AND parent_id IS NOT NULL AND is_detached = 0 LIMIT :limit;

-- :name orphans
-- Children of cancelled parents that somebody died before cancelling.
SELECT child.id
FROM durably_runs AS child CROSS JOIN durably_runs AS parent ON parent.id = child.parent_id
WHERE child.parent_id IS NOT NULL AND child.completed_at IS NULL AND child.is_detached = 0
  AND parent.status = 'cancelled'
LIMIT :limit;

-- :name is_forgetting_due
SELECT 1 FROM durably_signals WHERE key IS NOT NULL AND sent_at < :before LIMIT 1;

-- :name forget_signals
DELETE FROM durably_signals WHERE id IN (
  SELECT id FROM durably_signals WHERE key IS NOT NULL AND sent_at < :before ORDER BY sent_at LIMIT :limit
);

-- :name await_child_again
UPDATE durably_steps SET status = 'running', completed_at = NULL, error = NULL, result = NULL
WHERE run_seq = :seq AND name = :name AND kind = 'child'
  AND EXISTS (SELECT 1 FROM durably_runs WHERE id = child_id);
