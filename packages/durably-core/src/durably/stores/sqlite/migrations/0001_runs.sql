-- The tables of durably. All names begin with `durably_`, because the database may be the user's own.
--
--   durably_runs          one row per run: its state, its place in the queue, its lease, its payloads
--   durably_steps         the checkpoints of a run, by name
--   durably_logs          the lines its job wrote, in the order of the run's own sequence
--   durably_run_labels    the labels once more, turned round so that a label finds its runs
--   durably_workers       the processes that execute runs
--   durably_clock         one row: the last change number given, and the last instant given as a rank
--   durably_snapshots     a view: a run as the library shows it
--
-- Times are seconds since the epoch, UTC. A run is found by the clock or by its job, never by looking at all runs:
--
--   timer_at   the instant at which somebody must look at the run: a pending one falls due, or a lease ends
--   ready      1 while the run may be claimed now
--
-- Of the runs that share a key (key_scope, concurrency_key) at most one holds it (holds_key) and at most one is ready.
-- A run that is not running but has a lease_owner is one whose cancelled body has not ended yet: it still keeps its key.

CREATE TABLE durably_clock (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  change INTEGER NOT NULL,
  instant REAL NOT NULL
) STRICT;

INSERT INTO durably_clock (id, change, instant) VALUES (1, 0, 0.0);

CREATE TABLE durably_runs (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  job_name TEXT NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('pending', 'running', 'waiting', 'completed', 'failed', 'cancelled')),
  change INTEGER NOT NULL,
  -- its place in the queue
  priority INTEGER NOT NULL,
  rank REAL NOT NULL,
  ready INTEGER NOT NULL CHECK (ready IN (0, 1)),
  timer_at REAL,
  due_at REAL,
  -- its keys
  idempotency_key TEXT,
  key_scope TEXT,
  concurrency_key TEXT,
  holds_key INTEGER NOT NULL DEFAULT 0 CHECK (holds_key IN (0, 1)),
  -- its owner
  lease_owner TEXT,
  lease_expires_at REAL,
  lease_generation INTEGER NOT NULL DEFAULT 0,
  -- deaths of its owners since its last new checkpoint: all of them, and those that point at this run alone
  crashes INTEGER NOT NULL DEFAULT 0,
  counted_crashes INTEGER NOT NULL DEFAULT 0,
  steps_at_crash INTEGER NOT NULL DEFAULT 0,
  -- its story
  created_at REAL NOT NULL,
  updated_at REAL NOT NULL,
  started_at REAL,
  completed_at REAL,
  steps_completed INTEGER, -- kept once the run has ended; counted from the rows until then
  progress_current REAL,
  progress_total REAL,
  progress_message TEXT,
  last_token TEXT, -- of the last cancel or retry that was applied
  -- payloads last: they may be large, and most statements never read this far
  labels TEXT NOT NULL,
  error TEXT,
  input TEXT NOT NULL,
  output TEXT,
  CHECK ((key_scope IS NULL) = (concurrency_key IS NULL)),
  CHECK (ready = 0 OR (status = 'pending' AND timer_at IS NULL)),
  CHECK ((status = 'running') <= (lease_owner IS NOT NULL)),
  CHECK (lease_owner IS NULL OR timer_at IS NOT NULL)
) STRICT;

CREATE UNIQUE INDEX durably_runs_idempotency ON durably_runs (job_name, idempotency_key)
  WHERE idempotency_key IS NOT NULL;
CREATE INDEX durably_runs_ready ON durably_runs (job_name, rank) WHERE ready = 1;
CREATE INDEX durably_runs_timed ON durably_runs (timer_at) WHERE timer_at IS NOT NULL;
CREATE UNIQUE INDEX durably_runs_key_holder ON durably_runs (key_scope, concurrency_key) WHERE holds_key = 1;
CREATE UNIQUE INDEX durably_runs_key_head ON durably_runs (key_scope, concurrency_key)
  WHERE ready = 1 AND concurrency_key IS NOT NULL;
CREATE INDEX durably_runs_key_queue ON durably_runs (key_scope, concurrency_key, rank)
  WHERE status = 'pending' AND timer_at IS NULL AND concurrency_key IS NOT NULL;
CREATE INDEX durably_runs_owner ON durably_runs (lease_owner) WHERE lease_owner IS NOT NULL;
CREATE INDEX durably_runs_change ON durably_runs (change);
CREATE INDEX durably_runs_job ON durably_runs (job_name, status);
CREATE INDEX durably_runs_status ON durably_runs (status);
CREATE INDEX durably_runs_ended ON durably_runs (completed_at) WHERE completed_at IS NOT NULL;

-- Steps and logs are kept in the order in which they come, with an index beside them, and not by run: with many runs
-- at work a transaction then writes a few full pages instead of one page for each run.
CREATE TABLE durably_steps (
  run_seq INTEGER NOT NULL REFERENCES durably_runs (seq) ON DELETE CASCADE,
  name TEXT NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('running', 'completed', 'failed', 'cancelled')),
  position INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  sequence INTEGER NOT NULL,
  started_at REAL NOT NULL,
  completed_at REAL,
  -- last, so that counting steps never reads the pages of a large result
  error TEXT,
  result TEXT,
  UNIQUE (run_seq, name)
) STRICT;

CREATE TABLE durably_logs (
  run_seq INTEGER NOT NULL REFERENCES durably_runs (seq) ON DELETE CASCADE,
  sequence INTEGER NOT NULL,
  level TEXT NOT NULL,
  step_name TEXT,
  created_at REAL NOT NULL,
  message TEXT NOT NULL,
  fields TEXT NOT NULL,
  UNIQUE (run_seq, sequence)
) STRICT;

CREATE TABLE durably_run_labels (
  key TEXT NOT NULL,
  value TEXT NOT NULL,
  run_seq INTEGER NOT NULL REFERENCES durably_runs (seq) ON DELETE CASCADE,
  PRIMARY KEY (key, value, run_seq)
) STRICT, WITHOUT ROWID;

CREATE INDEX durably_run_labels_run ON durably_run_labels (run_seq);

CREATE TABLE durably_workers (
  id TEXT PRIMARY KEY,
  host TEXT NOT NULL,
  pid INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('active', 'draining', 'lost')),
  slots INTEGER NOT NULL,
  jobs TEXT NOT NULL,
  started_at REAL NOT NULL,
  heartbeat_at REAL NOT NULL,
  presence TEXT, -- the file it keeps locked as long as its process lives; null: its death cannot be seen
  charged TEXT NOT NULL DEFAULT '[]' -- the crashes its runs were charged with when it was thought lost
) STRICT, WITHOUT ROWID;

CREATE VIEW durably_snapshots AS
SELECT
  run.seq,
  run.id,
  run.job_name,
  run.status,
  run.change,
  run.priority,
  run.due_at,
  run.idempotency_key,
  run.key_scope,
  run.concurrency_key,
  run.lease_owner,
  run.lease_expires_at,
  run.lease_generation,
  run.created_at,
  run.updated_at,
  run.started_at,
  run.completed_at,
  run.progress_current,
  run.progress_total,
  run.progress_message,
  run.labels,
  run.error,
  run.input,
  run.output,
  CASE
    WHEN run.crashes = 0 THEN 0
    WHEN run.steps_at_crash < (
      SELECT count(*) FROM durably_steps AS step
      WHERE step.run_seq = run.seq AND step.status IN ('completed', 'failed')
    ) THEN 0
    ELSE run.crashes
  END AS crashes,
  coalesce(run.steps_completed, (
    SELECT count(*) FROM durably_steps AS step WHERE step.run_seq = run.seq AND step.status = 'completed'
  )) AS steps_completed
FROM durably_runs AS run;
