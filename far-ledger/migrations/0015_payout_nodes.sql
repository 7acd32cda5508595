-- What each node gets of a batch, written when the batch is planned: what a node was paid is read here, and not summed over
-- all that it ever did.

CREATE TABLE payout_node (
    batch_id   TEXT   NOT NULL REFERENCES far_payment_batches (id),
    node_id    TEXT   NOT NULL,
    amount_far BIGINT NOT NULL CHECK (amount_far >= 0),
    PRIMARY KEY (batch_id, node_id)
);

CREATE INDEX payout_node_node ON payout_node (node_id, batch_id);

INSERT INTO payout_node (batch_id, node_id, amount_far)
SELECT c.payment_batch_id, c.node_id, CAST(SUM(c.payment_far) AS BIGINT)
FROM far_session_contributions c JOIN payout_batch b ON b.batch_id = c.payment_batch_id
GROUP BY c.payment_batch_id, c.node_id;
