-- The steps that brought a receipt's positions: they are signed too, so without them nobody could check the signatures again.

ALTER TABLE far_receipts ADD COLUMN first_step BIGINT NOT NULL DEFAULT 0 CHECK (first_step >= 0);
ALTER TABLE far_receipts ADD COLUMN last_step BIGINT NOT NULL DEFAULT 0 CHECK (last_step >= 0);
