-- How far a search goes. The rest of it is put together in listing.py.

-- :name greatest_id
-- Of the runs just before a place: ids are only roughly in the order of creation.
SELECT max(id) FROM durably_runs WHERE seq < :end AND seq >= :end - 1000;
