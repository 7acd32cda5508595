-- Who pays for a session, what of his balance it holds while it runs, and what of its cost is the operator's.

ALTER TABLE far_mesh_sessions ADD COLUMN account_id TEXT REFERENCES far_accounts (id);
ALTER TABLE far_mesh_sessions ADD COLUMN api_key_id TEXT REFERENCES far_api_keys (id);
-- The most the session may cost. It is held while the session runs and stays here as what was held.
ALTER TABLE far_mesh_sessions ADD COLUMN reserved_far BIGINT NOT NULL DEFAULT 0 CHECK (reserved_far >= 0);
-- After this time its coordinator is taken for lost.
ALTER TABLE far_mesh_sessions ADD COLUMN reserved_until BIGINT CHECK (reserved_until >= 0);
-- total_cost_far is the sum of the contributions' payments and this.
ALTER TABLE far_mesh_sessions ADD COLUMN fee_far BIGINT NOT NULL DEFAULT 0 CHECK (fee_far >= 0);

CREATE INDEX far_mesh_sessions_held ON far_mesh_sessions (reserved_until)
    WHERE status = 'running' AND reserved_until IS NOT NULL;
CREATE INDEX far_mesh_sessions_completed ON far_mesh_sessions (completed_at) WHERE completed_at IS NOT NULL;

CREATE VIEW far_reservations AS
SELECT id AS session_id, account_id, api_key_id, reserved_far, reserved_until, started_at
FROM far_mesh_sessions
WHERE status = 'running' AND account_id IS NOT NULL;
