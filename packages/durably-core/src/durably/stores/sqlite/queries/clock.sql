-- The one row of durably_clock: read at most once and written at most once in a transaction.

-- :name read_clock
SELECT change, instant FROM durably_clock WHERE id = 1;

-- :name write_clock
UPDATE durably_clock SET change = :change, instant = :instant WHERE id = 1;
