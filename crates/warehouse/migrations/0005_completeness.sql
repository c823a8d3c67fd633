-- Up to when each log partition's scans are counted, as its aggregator last said; the newest row of a partition counts.
-- Lost rows are said again a moment later, so nothing here is synced.
CREATE TABLE IF NOT EXISTS completeness
(
    log_partition  UInt16,
    partitions     UInt16,
    complete_up_to DateTime64(3, 'Asia/Shanghai'),
    written_at     DateTime64(3, 'Asia/Shanghai')
)
ENGINE = ReplacingMergeTree(written_at)
ORDER BY log_partition;
