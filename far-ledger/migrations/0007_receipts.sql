-- Accounts of hops' work that the hop and its neighbour signed: the evidence behind contributions. Hashes and signatures in
-- hexadecimal.

CREATE TABLE far_receipts (
    session_id        TEXT   NOT NULL REFERENCES far_mesh_sessions (id),
    node_id           TEXT   NOT NULL,
    layers_start      BIGINT NOT NULL CHECK (layers_start >= 0),
    layers_end        BIGINT NOT NULL,
    first_position    BIGINT NOT NULL CHECK (first_position >= 0),
    tokens            BIGINT NOT NULL CHECK (tokens > 0),
    model_hash        TEXT   NOT NULL,
    kernel_class      TEXT   NOT NULL,
    input_commitment  TEXT   NOT NULL,
    output_commitment TEXT   NOT NULL,
    hop_signature     TEXT   NOT NULL,
    witness_id        TEXT   NOT NULL,
    witness_signature TEXT   NOT NULL,
    received_at       BIGINT NOT NULL CHECK (received_at >= 0),
    PRIMARY KEY (session_id, node_id, layers_start, first_position),
    CHECK (layers_start < layers_end)
);

CREATE INDEX far_receipts_received ON far_receipts (received_at);
