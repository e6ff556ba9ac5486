-- Results and their detections, partitioned by day, and how far the sink has read.
--
-- Both tables are keyed by the source position of the request and by the module that answered, which is
-- what makes storing a result twice harmless. The module's version is part of the key, so that history can
-- be analyzed again with a new one. The timestamp stands first because it is the partition key, and because
-- "newest first" then is a backward scan of the primary key.
--
-- There is a partition for each UTC day around now; the sink makes and drops them. The DEFAULT partition
-- takes every other timestamp: a publisher sets it as it likes, from 1970 to 2262, and no row may be lost
-- or make a partition of its own. Its rows stay for the retention time after they were stored.

CREATE TABLE results (
  request_timestamp  timestamptz NOT NULL,
  source_topic_id    text NOT NULL,
  source_partition   integer NOT NULL,
  source_offset      bigint NOT NULL,
  source_index       integer NOT NULL,
  module             text NOT NULL,
  module_version     text NOT NULL,
  source_topic       text NOT NULL,
  request_id         text NOT NULL,
  message_version    integer NOT NULL,
  status             text NOT NULL CHECK (status IN ('ok', 'failed')),
  error_code         text,
  error_message      text,
  image_bucket       text NOT NULL,
  image_key          text NOT NULL,
  image_version_id   text,
  image_etag         text,
  image_width_px     integer,
  image_height_px    integer,
  image_size_bytes   bigint,
  image_format       text,
  detection_count    integer NOT NULL,
  queued_ms          double precision,
  fetch_ms           double precision,
  decode_ms          double precision,
  infer_ms           double precision,
  total_ms           double precision,
  requested_at       timestamptz,
  analyzed_at        timestamptz NOT NULL,
  attributes         jsonb NOT NULL,
  stored_at          timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (request_timestamp, source_topic_id, source_partition, source_offset, source_index, module,
               module_version)
) PARTITION BY RANGE (request_timestamp);

CREATE INDEX results_request_id ON results (request_id);
CREATE TABLE results_default PARTITION OF results DEFAULT;

COMMENT ON TABLE results IS 'What one module answered to one request; a partition for each UTC day of request_timestamp.';
COMMENT ON COLUMN results.request_timestamp IS 'Kafka timestamp of the request record.';
COMMENT ON COLUMN results.source_topic_id IS 'Kafka id of the topic that held the request: a topic made anew under the same name has another.';
COMMENT ON COLUMN results.source_partition IS 'Partition of the request record.';
COMMENT ON COLUMN results.source_offset IS 'Offset of the request record.';
COMMENT ON COLUMN results.source_index IS 'Which image of the request record: 0 but for events that carry several.';
COMMENT ON COLUMN results.module IS 'Name of the module that answered.';
COMMENT ON COLUMN results.module_version IS 'Version of the module that answered.';
COMMENT ON COLUMN results.source_topic IS 'Name of the topic that held the request.';
COMMENT ON COLUMN results.request_id IS 'The name that the publisher gave the request; not necessarily unique.';
COMMENT ON COLUMN results.message_version IS 'Major version of the result format.';
COMMENT ON COLUMN results.status IS 'ok, or failed: then error_code and error_message say why.';
COMMENT ON COLUMN results.error_code IS 'A code of docs/errors.md.';
COMMENT ON COLUMN results.image_width_px IS 'Width of the upright original; null where it was not reached, as in the columns after it.';
COMMENT ON COLUMN results.image_size_bytes IS 'Size of the stored object.';
COMMENT ON COLUMN results.image_format IS 'Format as decoded, such as JPEG.';
COMMENT ON COLUMN results.detection_count IS 'Rows that belong to this one in detections.';
COMMENT ON COLUMN results.queued_ms IS 'From request_timestamp until a worker took the request.';
COMMENT ON COLUMN results.fetch_ms IS 'Fetching the object.';
COMMENT ON COLUMN results.decode_ms IS 'Decoding the image.';
COMMENT ON COLUMN results.infer_ms IS 'Inference of the whole batch, which its images share.';
COMMENT ON COLUMN results.total_ms IS 'From request_timestamp until the answer was ready.';
COMMENT ON COLUMN results.requested_at IS 'When the publisher says that it asked.';
COMMENT ON COLUMN results.analyzed_at IS 'When the answer was ready.';
COMMENT ON COLUMN results.attributes IS 'Strings that the publisher attached to the request, by name.';
COMMENT ON COLUMN results.stored_at IS 'When the sink stored the row.';

-- No foreign key to results: both are written in one transaction and dropped together, and checking each
-- row would cost the sink more than all its other work.
CREATE TABLE detections (
  request_timestamp  timestamptz NOT NULL,
  source_topic_id    text NOT NULL,
  source_partition   integer NOT NULL,
  source_offset      bigint NOT NULL,
  source_index       integer NOT NULL,
  module             text NOT NULL,
  module_version     text NOT NULL,
  detection_number   integer NOT NULL,
  label              text,
  score              double precision,
  box_x_px           double precision NOT NULL,
  box_y_px           double precision NOT NULL,
  box_w_px           double precision NOT NULL,
  box_h_px           double precision NOT NULL,
  labels             jsonb NOT NULL,
  PRIMARY KEY (request_timestamp, source_topic_id, source_partition, source_offset, source_index, module,
               module_version, detection_number)
) PARTITION BY RANGE (request_timestamp);

CREATE TABLE detections_default PARTITION OF detections DEFAULT;

COMMENT ON TABLE detections IS 'The boxes of the results; the first seven columns name the result.';
COMMENT ON COLUMN detections.detection_number IS 'Place in the answer, from 0.';
COMMENT ON COLUMN detections.label IS 'The label with the highest score; null where the module gave none.';
COMMENT ON COLUMN detections.score IS 'Score of label, in [0, 1].';
COMMENT ON COLUMN detections.box_x_px IS 'Left edge, in pixels of the upright original image.';
COMMENT ON COLUMN detections.box_y_px IS 'Top edge.';
COMMENT ON COLUMN detections.box_w_px IS 'Width.';
COMMENT ON COLUMN detections.box_h_px IS 'Height.';
COMMENT ON COLUMN detections.labels IS 'All labels as [{"label", "score"}], in the order of the answer.';

CREATE TABLE sink_offsets (
  topic_id      text NOT NULL,
  partition_id  integer NOT NULL,
  topic         text NOT NULL,
  next_offset   bigint NOT NULL,
  updated_at    timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (topic_id, partition_id)
);

COMMENT ON TABLE sink_offsets IS 'How far the sink has stored each partition of the results topic; moved in the transaction that stores the rows.';
COMMENT ON COLUMN sink_offsets.topic_id IS 'Kafka id of the results topic.';
COMMENT ON COLUMN sink_offsets.next_offset IS 'Offset of the first record that is not stored yet.';
