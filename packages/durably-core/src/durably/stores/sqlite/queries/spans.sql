-- Finding instants in the order of creation.

-- :name last_place
SELECT coalesce(max(seq), 0) FROM durably_runs;

-- :name next_run
SELECT seq, created_at FROM durably_runs WHERE seq >= :place AND seq < :end ORDER BY seq LIMIT 1;
