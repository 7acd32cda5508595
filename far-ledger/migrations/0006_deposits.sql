-- FAR that came in on a chain. What names a log there names a deposit here, so that it is credited once.

CREATE TABLE far_deposits (
    chain_id     BIGINT NOT NULL CHECK (chain_id >= 0),
    tx_hash      TEXT   NOT NULL,
    log_index    BIGINT NOT NULL CHECK (log_index >= 0),
    account_id   TEXT   NOT NULL REFERENCES far_accounts (id),
    from_address TEXT   NOT NULL,
    amount_far   BIGINT NOT NULL CHECK (amount_far > 0),
    block_number BIGINT NOT NULL CHECK (block_number >= 0),
    credited_at  BIGINT NOT NULL CHECK (credited_at >= 0),
    PRIMARY KEY (chain_id, tx_hash, log_index)
);
