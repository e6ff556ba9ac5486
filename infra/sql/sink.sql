-- The sink's write path. {result_columns} and {detection_columns} are filled in by consumers/sink/rows.py.

-- name: configure_session
-- A sink that is frozen or cut off within a transaction keeps its offset rows locked: the server ends its
-- session after a while, in the middle of a COPY at the statement's time-out. Whoever waits for these rows
-- gives up sooner, to keep polling Kafka, and comes back.
SET idle_in_transaction_session_timeout = '10s';
SET lock_timeout = '5s';
SET statement_timeout = '30s';
SET tcp_keepalives_idle = 10;
SET tcp_keepalives_interval = 5;
SET tcp_keepalives_count = 3

-- name: create_staging
-- Once a connection: where COPY puts a batch before it is merged. `ordinal` ties a detection to its result,
-- so that only results carry the identity columns over the wire.
CREATE TEMPORARY TABLE staged_results (LIKE results INCLUDING DEFAULTS, ordinal integer NOT NULL)
  ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE staged_detections (
  ordinal           integer NOT NULL,
  detection_number  integer NOT NULL,
  label             text,
  score             double precision,
  box_x_px          double precision NOT NULL,
  box_y_px          double precision NOT NULL,
  box_w_px          double precision NOT NULL,
  box_h_px          double precision NOT NULL,
  labels            jsonb NOT NULL
) ON COMMIT DELETE ROWS;

-- name: clear_staging
-- What an earlier part of a bisected batch left behind.
DELETE FROM staged_results;
DELETE FROM staged_detections;

-- name: copy_results
COPY staged_results (ordinal, {result_columns}) FROM STDIN

-- name: copy_detections
COPY staged_detections (ordinal, {detection_columns}) FROM STDIN

-- name: merge
-- One that is there already stays, and its detections with it; only a failed one gives way to an ok one.
WITH
  stored AS (
    INSERT INTO results ({result_columns})
    SELECT {result_columns} FROM staged_results
    -- A request that failed and was published again keeps its identity.
    ON CONFLICT (request_timestamp, source_topic_id, source_partition, source_offset, source_index, module,
                 module_version)
    DO UPDATE SET {result_updates}, stored_at = now()
    WHERE results.status = 'failed' AND excluded.status = 'ok' AND results.request_id = excluded.request_id
    RETURNING request_timestamp, source_topic_id, source_partition, source_offset, source_index, module,
              module_version
  ),
  boxes AS (
    INSERT INTO detections (
      request_timestamp, source_topic_id, source_partition, source_offset, source_index, module,
      module_version, {detection_columns}
    )
    SELECT
      request_timestamp, source_topic_id, source_partition, source_offset, source_index, module,
      module_version, {detection_columns}
    FROM stored
    JOIN staged_results USING (
      request_timestamp, source_topic_id, source_partition, source_offset, source_index, module,
      module_version
    )
    JOIN staged_detections USING (ordinal)
  )
SELECT count(*) FROM stored

-- name: register_offsets
-- A partition that was never read begins at 0.
INSERT INTO sink_offsets (topic_id, topic, partition_id, next_offset)
SELECT %(topic_id)s, %(topic)s, partition_id, 0
FROM unnest(%(partitions)s::integer[]) AS partition_id
ON CONFLICT DO NOTHING

-- name: read_offsets
SELECT partition_id, next_offset
FROM sink_offsets
WHERE topic_id = %(topic_id)s AND partition_id = ANY (%(partitions)s)

-- name: lock_offsets
-- In one order for everybody, so that two sinks that both think they own these wait and never deadlock.
SELECT partition_id, next_offset
FROM sink_offsets
WHERE topic_id = %(topic_id)s AND partition_id = ANY (%(partitions)s)
ORDER BY partition_id
FOR UPDATE

-- name: move_offsets
UPDATE sink_offsets
SET next_offset = moved.next_offset, updated_at = now()
FROM unnest(%(partitions)s::integer[], %(next_offsets)s::bigint[]) AS moved (partition_id, next_offset)
WHERE sink_offsets.topic_id = %(topic_id)s AND sink_offsets.partition_id = moved.partition_id
