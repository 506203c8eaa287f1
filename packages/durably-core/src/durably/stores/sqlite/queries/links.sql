-- A chain: a run whose job goes on as new. durably_links has a row for each link that has ended.

-- :name save_link
-- Before the run changes. Its number in the run's sequence is above all that the link has told.
INSERT INTO durably_links (run_seq, number, sequence, started_at, ended_at, input)
SELECT
  run.seq,
  run.link,
  max(
    coalesce((SELECT max(sequence) FROM durably_logs WHERE run_seq = run.seq), 0),
    coalesce((SELECT max(sequence) FROM durably_attempts WHERE run_seq = run.seq), 0),
    coalesce((SELECT max(sequence) FROM durably_steps WHERE run_seq = run.seq), 0),
    coalesce((SELECT max(sequence) FROM durably_links WHERE run_seq = run.seq), 0)
  ),
  coalesce(
    (SELECT ended_at FROM durably_links AS before WHERE before.run_seq = run.seq AND before.number = run.link - 1),
    run.started_at
  ),
  :now,
  run.input
FROM durably_runs AS run
WHERE run.id = :run_id AND run.status = 'running' AND run.lease_generation = :generation;

-- :name continue_run
UPDATE durably_runs SET
  status = 'pending',
  ready = (concurrency_key IS NULL),
  link = link + 1,
  input = :input,
  error = NULL,
  attempt = 1,
  timed_from = NULL,
  crashes = 0,
  counted_crashes = 0,
  steps_at_crash = 0,
  lease_owner = NULL,
  lease_expires_at = NULL,
  timer_at = NULL,
  updated_at = :now,
  change = :change
WHERE id = :run_id AND status = 'running' AND lease_generation = :generation
RETURNING seq, key_scope, concurrency_key;

-- :name find_continued
SELECT 1 FROM durably_runs
WHERE id = :run_id AND lease_generation = :generation AND status = 'pending' AND link = :link + 1;

-- :name drop_steps
DELETE FROM durably_steps WHERE run_seq = :seq;

-- :name drop_attempts
DELETE FROM durably_attempts WHERE run_seq = :seq;

-- :name drop_consumed_signals
DELETE FROM durably_signals WHERE run_seq = :seq AND consumed_at < :before;

-- :name drop_old_links
DELETE FROM durably_links WHERE run_seq = :seq AND number <= :last;

-- :name list_links
SELECT link.number, link.started_at, link.ended_at, link.input
FROM durably_runs AS run CROSS JOIN durably_links AS link ON link.run_seq = run.seq
WHERE run.id = :run_id
ORDER BY link.number;
