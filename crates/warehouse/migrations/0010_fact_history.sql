-- Every change of a fact, with who supplied it and why (S4, Y5). A row is a record at its place in the log: stored again, it replaces itself.
CREATE TABLE IF NOT EXISTS fact_history
(
    log_partition UInt16,
    log_offset    UInt64 CODEC(Delta, ZSTD),
    person        UInt64,
    category      LowCardinality(String),
    source        String CODEC(ZSTD),
    reference     String CODEC(ZSTD),
    effective     DateTime64(3, 'Asia/Shanghai'),
    expiry        Nullable(DateTime64(3, 'Asia/Shanghai')),
    recorded_at   DateTime64(3, 'Asia/Shanghai') CODEC(Delta, ZSTD),
    -- Keyed hash of the caller's name.
    supplied_by   UInt64,
    note          String CODEC(ZSTD),
    change        UInt16
)
ENGINE = ReplacingMergeTree
PARTITION BY (log_partition, toMonday(toDate(recorded_at)))
ORDER BY (person, log_offset)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 480;
