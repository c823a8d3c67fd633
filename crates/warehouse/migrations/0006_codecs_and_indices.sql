-- Codecs by measurement at a hundred million rows (docs/decisions/0007). Offsets and times are near each other within a
-- granule, but do not rise: their common high bits go (T64), their differences do not help. Small numbers and kinds repeat in runs
-- that LZ4 does not see. Applies to parts written from now on; older ones follow as they merge.
ALTER TABLE scans
    MODIFY COLUMN log_offset CODEC(T64, ZSTD(1)),
    MODIFY COLUMN event_time CODEC(T64, ZSTD(1)),
    MODIFY COLUMN received_at CODEC(T64, ZSTD(1)),
    MODIFY COLUMN appended_at CODEC(T64, ZSTD(1)),
    MODIFY COLUMN age CODEC(T64, LZ4),
    MODIFY COLUMN checkpoint CODEC(T64, LZ4),
    MODIFY COLUMN decidegrees CODEC(ZSTD(1)),
    MODIFY COLUMN operator CODEC(ZSTD(1)),
    MODIFY COLUMN kind CODEC(ZSTD(1)),
    MODIFY COLUMN sex CODEC(ZSTD(1)),
    MODIFY COLUMN direction CODEC(ZSTD(1)),
    MODIFY COLUMN scan_id CODEC(NONE);

-- Ids are looked for by hundreds at once: at one false positive in a hundred, nearly every granule was read for some of them.
ALTER TABLE scans DROP INDEX IF EXISTS by_scan_id;
ALTER TABLE scans ADD INDEX IF NOT EXISTS by_id scan_id TYPE bloom_filter(0.0001) GRANULARITY 4;
-- An id was appended after it was made: parts that were appended before need no look.
ALTER TABLE scans ADD INDEX IF NOT EXISTS by_appended appended_at TYPE minmax GRANULARITY 1;
