-- Hours and days of the metrics that are written every minute, and how long what is kept.

-- Each row looks back an hour, so an hour's sums are those of its last minute. A day's sums are those of its hours.
CREATE VIEW far_mesh_metrics_hourly AS
SELECT h.hour, h.total_nodes, h.active_nodes,
       l.sessions_last_hour AS sessions,
       l.tokens_generated_last_hour AS tokens_generated,
       l.avg_latency_ms,
       l.far_paid_last_hour AS far_paid
FROM (SELECT measured_at / 3600000 * 3600000 AS hour,
             MAX(measured_at) AS last,
             MAX(total_nodes) AS total_nodes,
             CAST(SUM(active_nodes) AS BIGINT) / COUNT(*) AS active_nodes
      FROM far_mesh_metrics
      GROUP BY measured_at / 3600000 * 3600000) h
JOIN far_mesh_metrics l ON l.measured_at = h.last;

CREATE VIEW far_mesh_metrics_daily AS
SELECT hour / 86400000 * 86400000 AS day,
       MAX(total_nodes) AS total_nodes,
       CAST(SUM(active_nodes) AS BIGINT) / COUNT(*) AS active_nodes,
       CAST(SUM(sessions) AS BIGINT) AS sessions,
       CAST(SUM(tokens_generated) AS BIGINT) AS tokens_generated,
       COALESCE(CAST(SUM(avg_latency_ms * sessions) AS BIGINT) / NULLIF(CAST(SUM(sessions) AS BIGINT), 0), 0) AS avg_latency_ms,
       CAST(SUM(far_paid) AS BIGINT) AS far_paid
FROM far_mesh_metrics_hourly
GROUP BY hour / 86400000 * 86400000;

-- What is kept for how many days; without a row, for ever. Money is always kept.
CREATE TABLE far_retention (
    subject TEXT   NOT NULL PRIMARY KEY CHECK (subject IN ('metrics', 'prompts', 'receipts')),
    days    BIGINT NOT NULL CHECK (days > 0)
);
