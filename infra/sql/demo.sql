-- What the demo shows.

-- name: answers
-- The stored results of some requests with their detections, in the order of the ids.
SELECT
  r.request_id,
  r.module,
  r.status,
  r.error_code,
  r.error_message,
  r.image_width_px,
  r.image_height_px,
  r.queued_ms,
  r.fetch_ms,
  r.decode_ms,
  r.infer_ms,
  r.total_ms,
  d.detections
FROM results AS r
CROSS JOIN LATERAL (
  SELECT coalesce(
    json_agg(
      json_build_object(
        'box', json_build_object('x', box_x_px, 'y', box_y_px, 'w', box_w_px, 'h', box_h_px),
        'labels', labels
      )
      ORDER BY detection_number
    ),
    '[]'
  ) AS detections
  FROM detections
  WHERE (request_timestamp, source_topic_id, source_partition, source_offset, source_index, module,
         module_version)
      = (r.request_timestamp, r.source_topic_id, r.source_partition, r.source_offset, r.source_index, r.module,
         r.module_version)
) AS d
WHERE r.request_id = ANY(%(request_ids)s)
ORDER BY array_position(%(request_ids)s, r.request_id), r.module, r.module_version
