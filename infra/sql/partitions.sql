-- The day partitions of results and detections. Identifiers and bounds are filled in, quoted, by
-- consumers/sink/partitions.py. Nothing here runs in a transaction that stores rows.

-- name: today
SELECT (now() AT TIME ZONE 'UTC')::date

-- name: lock
-- One sink at a time changes partitions. Who waits for a table lock makes all others wait behind it, so
-- nobody waits long: what fails is tried again later, and rows meanwhile go to the DEFAULT partition.
SET LOCAL lock_timeout = '1s';
SELECT pg_advisory_xact_lock(%(key)s)

-- name: partitions
SELECT child.relname
FROM pg_inherits
JOIN pg_class AS child ON child.oid = pg_inherits.inhrelid
WHERE pg_inherits.inhparent = %(parent)s::regclass

-- name: create
-- Made apart and attached at the end, which lets readers and writers of the parent go on meanwhile. Rows
-- of this day that came too early for it wait in the DEFAULT partition, which must be rid of them first.
CREATE TABLE {partition} (LIKE {parent} INCLUDING ALL);
LOCK TABLE {default} IN ACCESS EXCLUSIVE MODE;
WITH early AS (
  DELETE FROM {default}
  WHERE request_timestamp >= {lower} AND request_timestamp < {upper}
  RETURNING *
)
INSERT INTO {partition} SELECT * FROM early;
ALTER TABLE {parent} ATTACH PARTITION {partition} FOR VALUES FROM ({lower}) TO ({upper})

-- name: drop
-- DETACH … CONCURRENTLY is refused beside a DEFAULT partition; a plain drop holds its lock for milliseconds.
DROP TABLE {partition}

-- name: expire_default
-- Rows with odd timestamps stay as long as the others, counted from when they were stored. Several sinks do
-- this at once, each with rows of its own. An array, since a subquery after IN may be run more than once.
SET LOCAL lock_timeout = '1s';
SET LOCAL statement_timeout = '10s';
WITH expired AS (
  DELETE FROM results_default
  WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM results_default
    WHERE stored_at < now() - make_interval(days => %(retention_days)s)
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
  ))
  RETURNING request_timestamp, source_topic_id, source_partition, source_offset, source_index, module,
            module_version
),
boxes AS (
  DELETE FROM detections_default AS detection
  USING expired
  WHERE (detection.request_timestamp, detection.source_topic_id, detection.source_partition,
         detection.source_offset, detection.source_index, detection.module, detection.module_version)
      = (expired.request_timestamp, expired.source_topic_id, expired.source_partition,
         expired.source_offset, expired.source_index, expired.module, expired.module_version)
)
SELECT count(*) FROM expired
