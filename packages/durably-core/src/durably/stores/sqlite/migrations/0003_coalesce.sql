-- The runs of a key that wait for the clock, for a trigger that must not add another one to them.

CREATE INDEX durably_runs_key_delayed ON durably_runs (key_scope, concurrency_key, timer_at)
  WHERE status = 'pending' AND timer_at IS NOT NULL AND concurrency_key IS NOT NULL;
