-- Who may insert raw scans of a log partition: the holder of its newest turn (warehouse::ownership). Only claims are written here. The
-- first row of a place stays, whatever comes after it, in memory and when the rows are read again at a start. A place is the turn
-- and the log partition, turn * 65536 + log_partition: one number, because a table in memory is not read by two.
CREATE TABLE IF NOT EXISTS claims
(
    place         UInt64,
    log_partition UInt16,
    turn          UInt64,
    claimant      UInt64
)
ENGINE = Join(ANY, LEFT, place);

-- An insert says at the beginning of its log_comment under which turn, and whose, it is sent. Without it one passes only where nobody
-- has claimed. Builds that know migration 0008 alone compare with owners; that constraint stays beside this one.
ALTER TABLE scans ADD CONSTRAINT IF NOT EXISTS sent_under_the_newest_claim CHECK joinGet('claims', 'claimant', toUInt64OrZero(extract(getSetting('log_comment'), '^\\d+')) * 65536 + log_partition) = toUInt64OrZero(extract(getSetting('log_comment'), '^\\d+\\.(\\d+)')) AND joinGet('claims', 'claimant', (toUInt64OrZero(extract(getSetting('log_comment'), '^\\d+')) + 1) * 65536 + log_partition) = 0;
