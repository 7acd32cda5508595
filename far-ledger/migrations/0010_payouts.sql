-- Weekly payouts: which contributions a batch pays, its items, and every transaction that was ever signed for it.
--
-- A batch's public row is in far_payment_batches: status planned, signed, submitted, mined, confirmed or halted. The
-- constraints here are the first guard against paying twice; the contract's own is the last. Hashes are lower-case
-- hexadecimal with 0x, addresses and wallets in the checksum form of EIP-55, fees in wei per gas.

-- Set when a batch is planned, never changed after: a contribution belongs to one batch at most.
ALTER TABLE far_session_contributions ADD COLUMN payment_batch_id TEXT REFERENCES far_payment_batches (id);

CREATE INDEX far_session_contributions_unplanned ON far_session_contributions (node_id)
WHERE payment_batch_id IS NULL;

CREATE INDEX far_session_contributions_batch ON far_session_contributions (payment_batch_id, node_id)
WHERE payment_batch_id IS NOT NULL;

CREATE TABLE payout_epoch (
    -- Weeks since Monday, 5 January 1970.
    epoch     BIGINT NOT NULL PRIMARY KEY CHECK (epoch >= 0),
    -- Sessions that completed before it are paid.
    cutoff    BIGINT NOT NULL CHECK (cutoff >= 0),
    chain_id  BIGINT NOT NULL CHECK (chain_id > 0),
    contract  TEXT   NOT NULL,
    closed_at BIGINT NOT NULL CHECK (closed_at >= 0)
);

CREATE TABLE payout_batch (
    batch_id TEXT   NOT NULL PRIMARY KEY REFERENCES far_payment_batches (id),
    epoch    BIGINT NOT NULL REFERENCES payout_epoch (epoch),
    seq      BIGINT NOT NULL CHECK (seq >= 0),
    -- keccak256 of the packed items, which the contract stores when it pays them.
    digest   TEXT   NOT NULL,
    -- Why it was halted.
    halted   TEXT,
    UNIQUE (epoch, seq)
);

CREATE TABLE payout_item (
    epoch      BIGINT NOT NULL,
    address    TEXT   NOT NULL,
    batch_id   TEXT   NOT NULL REFERENCES payout_batch (batch_id),
    place      BIGINT NOT NULL CHECK (place >= 0),
    amount_far BIGINT NOT NULL CHECK (amount_far > 0),
    -- Whether the recipient could not be sent its amount and has it as a credit in the contract.
    credited   BIGINT NOT NULL DEFAULT 0 CHECK (credited IN (0, 1)),
    PRIMARY KEY (epoch, address),
    UNIQUE (batch_id, place)
);

-- Whose a nonce is. A batch's next try gets another nonce only when the one before is spent for good.
CREATE TABLE nonce_owner (
    sender   TEXT   NOT NULL,
    nonce    BIGINT NOT NULL CHECK (nonce >= 0),
    -- A batch, or 'fill/' and the sender: a transaction that pays nobody and closes a gap before others.
    batch_id TEXT   NOT NULL,
    try_no   BIGINT NOT NULL CHECK (try_no >= 0),
    PRIMARY KEY (sender, nonce),
    UNIQUE (batch_id, try_no)
);

-- Stored before it is sent, and kept for ever.
CREATE TABLE payout_tx (
    hash         TEXT   NOT NULL PRIMARY KEY,
    sender       TEXT   NOT NULL,
    nonce        BIGINT NOT NULL,
    -- Counts the fees tried on this nonce.
    attempt      BIGINT NOT NULL CHECK (attempt >= 0),
    raw          TEXT   NOT NULL,
    max_fee      BIGINT NOT NULL CHECK (max_fee >= 0),
    tip          BIGINT NOT NULL CHECK (tip >= 0),
    -- Number of the newest block when it was signed: fees rise some blocks later.
    signed_block BIGINT NOT NULL CHECK (signed_block >= 0),
    signed_at    BIGINT NOT NULL CHECK (signed_at >= 0),
    UNIQUE (sender, nonce, attempt),
    FOREIGN KEY (sender, nonce) REFERENCES nonce_owner (sender, nonce)
);

-- Who looks after payouts at the moment, so that several payers do not all do the same work. Nothing else rests on it.
CREATE TABLE payout_lease (
    name       TEXT   NOT NULL PRIMARY KEY,
    holder     TEXT   NOT NULL,
    expires_at BIGINT NOT NULL CHECK (expires_at >= 0)
);
