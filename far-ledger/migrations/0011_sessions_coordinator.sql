-- Who runs a session: a coordinator that starts again ends what it left running.

ALTER TABLE far_mesh_sessions ADD COLUMN coordinator_id TEXT;

CREATE INDEX far_mesh_sessions_running ON far_mesh_sessions (coordinator_id)
    WHERE status = 'running' AND coordinator_id IS NOT NULL;
