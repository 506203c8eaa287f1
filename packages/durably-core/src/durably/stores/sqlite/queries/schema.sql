-- Which migrations this database has seen. The user's own user_version and application_id are left alone.

-- :name has_versions
SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'durably_schema_versions';

-- :name create_versions
CREATE TABLE IF NOT EXISTS durably_schema_versions (version INTEGER PRIMARY KEY, applied_at REAL NOT NULL) STRICT;

-- :name read_version
SELECT coalesce(max(version), 0) FROM durably_schema_versions;

-- :name write_version
INSERT INTO durably_schema_versions (version, applied_at) VALUES (:version, :now);
