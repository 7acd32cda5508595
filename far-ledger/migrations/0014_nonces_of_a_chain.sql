-- A nonce belongs to an account on a chain. Without the chain, a ledger that moved to another one went on counting where the
-- first had ended, and nothing it signed could be mined.

CREATE TABLE nonce_owner_14 (
    chain_id BIGINT NOT NULL CHECK (chain_id > 0),
    sender   TEXT   NOT NULL,
    nonce    BIGINT NOT NULL CHECK (nonce >= 0),
    -- A batch, or 'fill/' with the chain and the sender: a transaction that pays nobody and closes a gap before others.
    batch_id TEXT   NOT NULL,
    try_no   BIGINT NOT NULL CHECK (try_no >= 0),
    PRIMARY KEY (chain_id, sender, nonce),
    UNIQUE (batch_id, try_no)
);

CREATE TABLE payout_tx_14 (
    hash         TEXT   NOT NULL PRIMARY KEY,
    chain_id     BIGINT NOT NULL,
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
    UNIQUE (chain_id, sender, nonce, attempt),
    FOREIGN KEY (chain_id, sender, nonce) REFERENCES nonce_owner_14 (chain_id, sender, nonce)
);

-- A batch's chain is its epoch's. A filler closes a gap before a batch of the same account: it is taken to be on the next
-- one's chain. (One that was on another is signed anew there if it is still needed; its own nonce was spent before.)
INSERT INTO nonce_owner_14 (chain_id, sender, nonce, batch_id, try_no)
SELECT e.chain_id, o.sender, o.nonce, o.batch_id, o.try_no
FROM nonce_owner o JOIN payout_batch b ON b.batch_id = o.batch_id JOIN payout_epoch e ON e.epoch = b.epoch;

INSERT INTO nonce_owner_14 (chain_id, sender, nonce, batch_id, try_no)
SELECT chain_id, sender, nonce, 'fill/' || CAST(chain_id AS TEXT) || '/' || sender, try_no
FROM (SELECT o.sender, o.nonce, o.try_no, n.chain_id
      FROM nonce_owner o
      JOIN nonce_owner_14 n ON n.sender = o.sender AND n.nonce = COALESCE(
          (SELECT MIN(m.nonce) FROM nonce_owner_14 m WHERE m.sender = o.sender AND m.nonce > o.nonce),
          (SELECT MAX(m.nonce) FROM nonce_owner_14 m WHERE m.sender = o.sender))
      WHERE o.batch_id = 'fill/' || o.sender) AS fillers;

INSERT INTO payout_tx_14 (hash, chain_id, sender, nonce, attempt, raw, max_fee, tip, signed_block, signed_at)
SELECT t.hash, n.chain_id, t.sender, t.nonce, t.attempt, t.raw, t.max_fee, t.tip, t.signed_block, t.signed_at
FROM payout_tx t JOIN nonce_owner_14 n ON n.sender = t.sender AND n.nonce = t.nonce;

DROP TABLE payout_tx;
DROP TABLE nonce_owner;
ALTER TABLE nonce_owner_14 RENAME TO nonce_owner;
ALTER TABLE payout_tx_14 RENAME TO payout_tx;
