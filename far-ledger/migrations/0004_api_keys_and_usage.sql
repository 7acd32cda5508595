-- Keys of users, and what each used.

CREATE TABLE far_api_keys (
    id           TEXT   NOT NULL PRIMARY KEY,
    account_id   TEXT   NOT NULL REFERENCES far_accounts (id),
    -- SHA-256 of the key: the key itself is shown once and never stored.
    hash         TEXT   NOT NULL UNIQUE,
    label        TEXT   NOT NULL,
    created_at   BIGINT NOT NULL CHECK (created_at >= 0),
    revoked_at   BIGINT CHECK (revoked_at >= 0),
    -- To the minute: a request does not wait for a write.
    last_used_at BIGINT CHECK (last_used_at >= 0)
);

CREATE INDEX far_api_keys_account ON far_api_keys (account_id);

-- Sums over the finished sessions of a key, kept in the transaction that finishes them. A day is a number of days since
-- 1970, UTC.
CREATE TABLE far_usage (
    api_key_id TEXT   NOT NULL REFERENCES far_api_keys (id),
    day        BIGINT NOT NULL CHECK (day >= 0),
    sessions   BIGINT NOT NULL CHECK (sessions >= 0),
    tokens     BIGINT NOT NULL CHECK (tokens >= 0),
    cost_far   BIGINT NOT NULL CHECK (cost_far >= 0),
    PRIMARY KEY (api_key_id, day)
);
