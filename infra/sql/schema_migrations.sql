-- The history of migrations.

-- name: lock
-- Held by the session until it ends, so a migrator that dies leaves nothing locked.
SELECT pg_advisory_lock(%(key)s)

-- name: create_history
CREATE TABLE IF NOT EXISTS schema_migrations (
  name        text PRIMARY KEY,
  checksum    text NOT NULL,
  applied_at  timestamptz NOT NULL DEFAULT now()
)

-- name: has_history
SELECT to_regclass('schema_migrations') IS NOT NULL

-- name: applied
SELECT name, checksum FROM schema_migrations

-- name: record
INSERT INTO schema_migrations (name, checksum) VALUES (%(name)s, %(checksum)s)
