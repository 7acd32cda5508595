-- The same table without its two foreign keys, which made a row cost PostgreSQL three times as much: session and node are
-- locked, hence seen, by the transaction that writes a contribution, neither ever goes, and the audit finds one that is not
-- there.

DROP VIEW node_earnings_summary;

CREATE TABLE far_session_contributions_9 (
    session_id         TEXT   NOT NULL,
    node_id            TEXT   NOT NULL,
    layers_start       BIGINT NOT NULL CHECK (layers_start >= 0),
    layers_end         BIGINT NOT NULL,
    tokens_contributed BIGINT NOT NULL CHECK (tokens_contributed >= 0),
    -- What the session's cost was split by: layers run, summed over positions.
    token_layers       BIGINT NOT NULL CHECK (token_layers >= 0),
    compute_ms         BIGINT NOT NULL CHECK (compute_ms >= 0),
    payment_far        BIGINT NOT NULL CHECK (payment_far >= 0),
    paid_at            BIGINT CHECK (paid_at >= 0),
    payment_tx_hash    TEXT,
    -- Whether a hop that took a lost one's place gave the bits of the hop that ran its layers first.
    exact              BIGINT NOT NULL DEFAULT 1 CHECK (exact IN (0, 1)),
    PRIMARY KEY (session_id, node_id, layers_start),
    CHECK (layers_start < layers_end)
);

INSERT INTO far_session_contributions_9
SELECT session_id, node_id, layers_start, layers_end, tokens_contributed, token_layers, compute_ms, payment_far, paid_at,
       payment_tx_hash, exact
FROM far_session_contributions;

DROP TABLE far_session_contributions;
ALTER TABLE far_session_contributions_9 RENAME TO far_session_contributions;

CREATE INDEX far_session_contributions_node ON far_session_contributions (node_id);
CREATE INDEX far_session_contributions_paid ON far_session_contributions (paid_at) WHERE paid_at IS NOT NULL;

CREATE VIEW node_earnings_summary AS
SELECT n.node_id, n.wallet_address,
       COUNT(DISTINCT c.session_id) AS sessions,
       CAST(COALESCE(SUM(c.tokens_contributed), 0) AS BIGINT) AS tokens_contributed,
       CAST(COALESCE(SUM(c.payment_far), 0) AS BIGINT) AS earned_far,
       CAST(COALESCE(SUM(CASE WHEN c.paid_at IS NULL THEN 0 ELSE c.payment_far END), 0) AS BIGINT) AS paid_far,
       CAST(COALESCE(SUM(CASE WHEN c.paid_at IS NULL THEN c.payment_far ELSE 0 END), 0) AS BIGINT) AS unpaid_far
FROM far_nodes n
LEFT JOIN far_session_contributions c ON c.node_id = n.node_id
GROUP BY n.node_id, n.wallet_address;
