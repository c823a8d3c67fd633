-- Who may insert raw scans of a log partition: the newest claim (warehouse::ownership). Only claims are written here; the
-- newest of a partition counts.
CREATE TABLE IF NOT EXISTS owners
(
    log_partition UInt16,
    epoch         UInt64
)
ENGINE = Join(ANY, LEFT, log_partition)
SETTINGS join_any_take_last_row = 1;

-- An insert says at the beginning of its log_comment under which claim it is sent. One without a claim passes only where nobody has claimed.
ALTER TABLE scans ADD CONSTRAINT IF NOT EXISTS sent_by_the_owner CHECK toUInt64OrZero(extract(getSetting('log_comment'), '^\\d+')) >= joinGet('owners', 'epoch', log_partition);
