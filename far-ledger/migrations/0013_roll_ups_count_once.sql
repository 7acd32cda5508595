-- Sums of hours and days come from sessions and payments themselves, which are kept for ever: each is counted once, in the
-- hour in which it ended. (They were taken from the last row of an hour, which looks back a whole hour: one written at half
-- past counted half of the hour before again.) Nodes are those of the minutes that are kept.

DROP VIEW far_mesh_metrics_daily;
DROP VIEW far_mesh_metrics_hourly;

CREATE VIEW far_mesh_metrics_hourly AS
SELECT at / 3600000 * 3600000 AS hour,
       COALESCE(MAX(total_nodes), 0) AS total_nodes,
       COALESCE(CAST(SUM(active_nodes) AS BIGINT) / NULLIF(COUNT(active_nodes), 0), 0) AS active_nodes,
       CAST(SUM(sessions) AS BIGINT) AS sessions,
       CAST(SUM(tokens_generated) AS BIGINT) AS tokens_generated,
       COALESCE(CAST(SUM(latency_ms) AS BIGINT) / NULLIF(CAST(SUM(sessions) AS BIGINT), 0), 0) AS avg_latency_ms,
       CAST(SUM(far_paid) AS BIGINT) AS far_paid
FROM (
    SELECT measured_at AS at, total_nodes, active_nodes, 0 AS sessions, 0 AS tokens_generated, 0 AS latency_ms, 0 AS far_paid
    FROM far_mesh_metrics
    UNION ALL
    SELECT completed_at, NULL, NULL, 1, tokens_generated,
           CASE WHEN completed_at > started_at THEN completed_at - started_at ELSE 0 END, 0
    FROM far_mesh_sessions WHERE completed_at IS NOT NULL AND status = 'completed'
    UNION ALL
    SELECT paid_at, NULL, NULL, 0, 0, 0, payment_far FROM far_session_contributions WHERE paid_at IS NOT NULL
) AS moments
GROUP BY at / 3600000 * 3600000;

CREATE VIEW far_mesh_metrics_daily AS
SELECT at / 86400000 * 86400000 AS day,
       COALESCE(MAX(total_nodes), 0) AS total_nodes,
       COALESCE(CAST(SUM(active_nodes) AS BIGINT) / NULLIF(COUNT(active_nodes), 0), 0) AS active_nodes,
       CAST(SUM(sessions) AS BIGINT) AS sessions,
       CAST(SUM(tokens_generated) AS BIGINT) AS tokens_generated,
       COALESCE(CAST(SUM(latency_ms) AS BIGINT) / NULLIF(CAST(SUM(sessions) AS BIGINT), 0), 0) AS avg_latency_ms,
       CAST(SUM(far_paid) AS BIGINT) AS far_paid
FROM (
    SELECT measured_at AS at, total_nodes, active_nodes, 0 AS sessions, 0 AS tokens_generated, 0 AS latency_ms, 0 AS far_paid
    FROM far_mesh_metrics
    UNION ALL
    SELECT completed_at, NULL, NULL, 1, tokens_generated,
           CASE WHEN completed_at > started_at THEN completed_at - started_at ELSE 0 END, 0
    FROM far_mesh_sessions WHERE completed_at IS NOT NULL AND status = 'completed'
    UNION ALL
    SELECT paid_at, NULL, NULL, 0, 0, 0, payment_far FROM far_session_contributions WHERE paid_at IS NOT NULL
) AS moments
GROUP BY at / 86400000 * 86400000;
