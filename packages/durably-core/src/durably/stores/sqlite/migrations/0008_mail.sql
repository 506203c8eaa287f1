-- Long queues of signals, and of waits for one key: the oldest is found first, without a sort.

DROP INDEX durably_steps_signal;
CREATE INDEX durably_steps_signal ON durably_steps (name, signal_key, started_at)
  WHERE kind = 'signal' AND status = 'running';

DROP INDEX durably_signals_of_key;
CREATE INDEX durably_signals_of_key ON durably_signals (name, key, sent_at)
  WHERE key IS NOT NULL AND consumed_at IS NULL;
CREATE INDEX durably_signals_untaken ON durably_signals (run_seq, name, sent_at)
  WHERE run_seq IS NOT NULL AND consumed_at IS NULL;
