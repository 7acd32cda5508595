-- Whether a hop that took a lost one's place gave the bits of the hop that ran its layers first: 0 where it was of another
-- kernel class.
ALTER TABLE far_session_contributions ADD COLUMN exact BIGINT NOT NULL DEFAULT 1 CHECK (exact IN (0, 1));
