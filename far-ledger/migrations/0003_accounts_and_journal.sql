-- Who has how much, and every move of it.
--
-- An account's key is its kind and name: `user:NAME`, `node:NODE`, and one each of `fees` (what the operator earned),
-- `open` (what sessions without an account cost: the operator owes it) and `outside` (FAR that came in or went out).

CREATE TABLE far_accounts (
    id             TEXT   NOT NULL PRIMARY KEY,
    kind           TEXT   NOT NULL CHECK (kind IN ('user', 'node', 'fees', 'open', 'outside')),
    -- Where a user's deposits come from.
    wallet_address TEXT,
    -- The sum of the journal's credits less that of its debits, kept in the transaction that writes them.
    balance_far    BIGINT NOT NULL DEFAULT 0,
    -- What running sessions hold of the balance.
    reserved_far   BIGINT NOT NULL DEFAULT 0 CHECK (reserved_far >= 0),
    created_at     BIGINT NOT NULL CHECK (created_at >= 0),
    CHECK (kind IN ('open', 'outside') OR balance_far >= reserved_far)
);

CREATE UNIQUE INDEX far_accounts_wallet ON far_accounts (wallet_address) WHERE wallet_address IS NOT NULL;

-- Every line moves an amount from one account to another, so whatever is posted sums to zero. A posting is named after its
-- cause (`session:ID`, `topup:KEY`, `deposit:CHAIN:TX:LOG`), so that a cause is posted once.
--
-- Both accounts are locked, hence seen, by the transaction that posts, and the audit finds one that is not there: two
-- foreign keys would make a line cost PostgreSQL nearly four times as much.
CREATE TABLE far_journal (
    posting    TEXT   NOT NULL,
    line       BIGINT NOT NULL CHECK (line >= 0),
    kind       TEXT   NOT NULL,
    debit      TEXT   NOT NULL,
    credit     TEXT   NOT NULL,
    amount_far BIGINT NOT NULL CHECK (amount_far > 0),
    posted_at  BIGINT NOT NULL CHECK (posted_at >= 0),
    PRIMARY KEY (posting, line),
    CHECK (debit <> credit)
);

INSERT INTO far_accounts (id, kind, created_at) VALUES ('fees', 'fees', 0), ('open', 'open', 0), ('outside', 'outside', 0);

-- What was earned before there was a journal.
INSERT INTO far_accounts (id, kind, balance_far, created_at)
SELECT 'node:' || node_id, 'node', total_earned_far, 0 FROM far_nodes;

INSERT INTO far_journal (posting, line, kind, debit, credit, amount_far, posted_at)
SELECT 'session:' || c.session_id,
       ROW_NUMBER() OVER (PARTITION BY c.session_id ORDER BY c.layers_start, c.node_id) - 1,
       'session', 'open', 'node:' || c.node_id, c.payment_far, s.completed_at
FROM far_session_contributions c
JOIN far_mesh_sessions s ON s.id = c.session_id
WHERE c.payment_far > 0;

UPDATE far_accounts
SET balance_far = -(SELECT COALESCE(SUM(payment_far), 0) FROM far_session_contributions)
WHERE id = 'open';
