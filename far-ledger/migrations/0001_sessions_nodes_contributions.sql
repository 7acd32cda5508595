-- Sessions, nodes and who earned what.
--
-- One file for SQLite and PostgreSQL: TEXT and BIGINT only. Amounts are nano-FAR (10^-9 FAR), times are milliseconds
-- since 1970, truth values are 0 or 1, wallets are in the checksum form of EIP-55. Layers are half-open.

CREATE TABLE far_nodes (
    node_id             TEXT   NOT NULL PRIMARY KEY,
    wallet_address      TEXT,
    gpu_model           TEXT,
    vram_gb             BIGINT CHECK (vram_gb >= 0),
    location            TEXT,
    -- The sums over the node's contributions, kept in the transaction that writes them.
    total_tokens_served BIGINT NOT NULL DEFAULT 0 CHECK (total_tokens_served >= 0),
    total_earned_far    BIGINT NOT NULL DEFAULT 0 CHECK (total_earned_far >= 0),
    is_active           BIGINT NOT NULL DEFAULT 1 CHECK (is_active IN (0, 1)),
    last_seen           BIGINT NOT NULL CHECK (last_seen >= 0)
);

CREATE TABLE far_node_models (
    node_id      TEXT   NOT NULL REFERENCES far_nodes (node_id),
    model_id     TEXT   NOT NULL,
    layers_start BIGINT NOT NULL CHECK (layers_start >= 0),
    layers_end   BIGINT NOT NULL,
    quantization TEXT   NOT NULL,
    is_serving   BIGINT NOT NULL DEFAULT 1 CHECK (is_serving IN (0, 1)),
    PRIMARY KEY (node_id, model_id, layers_start, layers_end),
    CHECK (layers_start < layers_end)
);

CREATE TABLE far_mesh_sessions (
    id               TEXT   NOT NULL PRIMARY KEY,
    request_id       TEXT,
    user_wallet      TEXT,
    model_id         TEXT   NOT NULL,
    -- Only where the operator turned it on.
    prompt_text      TEXT,
    tokens_generated BIGINT NOT NULL DEFAULT 0 CHECK (tokens_generated >= 0),
    total_cost_far   BIGINT NOT NULL DEFAULT 0 CHECK (total_cost_far >= 0),
    started_at       BIGINT NOT NULL CHECK (started_at >= 0),
    completed_at     BIGINT CHECK (completed_at >= 0),
    status           TEXT   NOT NULL DEFAULT 'running',
    failure          TEXT,
    CHECK ((status = 'running') = (completed_at IS NULL))
);

CREATE TABLE far_session_contributions (
    session_id         TEXT   NOT NULL REFERENCES far_mesh_sessions (id),
    node_id            TEXT   NOT NULL REFERENCES far_nodes (node_id),
    layers_start       BIGINT NOT NULL CHECK (layers_start >= 0),
    layers_end         BIGINT NOT NULL,
    tokens_contributed BIGINT NOT NULL CHECK (tokens_contributed >= 0),
    -- What the session's cost was split by: layers run, summed over positions.
    token_layers       BIGINT NOT NULL CHECK (token_layers >= 0),
    compute_ms         BIGINT NOT NULL CHECK (compute_ms >= 0),
    payment_far        BIGINT NOT NULL CHECK (payment_far >= 0),
    paid_at            BIGINT CHECK (paid_at >= 0),
    payment_tx_hash    TEXT,
    PRIMARY KEY (session_id, node_id, layers_start),
    CHECK (layers_start < layers_end)
);

CREATE INDEX far_session_contributions_node ON far_session_contributions (node_id);

CREATE TABLE far_payment_batches (
    id               TEXT   NOT NULL PRIMARY KEY,
    total_nodes      BIGINT NOT NULL CHECK (total_nodes >= 0),
    total_amount_far BIGINT NOT NULL CHECK (total_amount_far >= 0),
    tx_hash          TEXT,
    block_number     BIGINT CHECK (block_number >= 0),
    status           TEXT   NOT NULL,
    created_at       BIGINT NOT NULL CHECK (created_at >= 0),
    confirmed_at     BIGINT CHECK (confirmed_at >= 0)
);

CREATE TABLE far_mesh_metrics (
    measured_at                BIGINT NOT NULL PRIMARY KEY CHECK (measured_at >= 0),
    total_nodes                BIGINT NOT NULL CHECK (total_nodes >= 0),
    active_nodes               BIGINT NOT NULL CHECK (active_nodes >= 0),
    sessions_last_hour         BIGINT NOT NULL CHECK (sessions_last_hour >= 0),
    tokens_generated_last_hour BIGINT NOT NULL CHECK (tokens_generated_last_hour >= 0),
    avg_latency_ms             BIGINT NOT NULL CHECK (avg_latency_ms >= 0),
    far_paid_last_hour         BIGINT NOT NULL CHECK (far_paid_last_hour >= 0)
);

CREATE VIEW active_far_nodes AS
SELECT n.node_id, n.wallet_address, n.gpu_model, n.vram_gb, n.location,
       n.total_tokens_served, n.total_earned_far, n.last_seen,
       (SELECT COUNT(*) FROM far_node_models m WHERE m.node_id = n.node_id AND m.is_serving = 1) AS models_served
FROM far_nodes n
WHERE n.is_active = 1;

-- SUM over BIGINT is NUMERIC on PostgreSQL, hence the casts.
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
