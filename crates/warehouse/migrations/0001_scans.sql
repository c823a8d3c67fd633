-- Raw scans: one row for each acknowledged scan, exactly once (INV-1).
--
-- Every row carries its log partition, in key and in table partition, so that each slice (log partition, week) has one
-- writer and can be rebuilt on its own. A person's scans share one log partition, so distinct people add up across them.
-- A table partition is a week: 31 days of late scans touch six of them, far from max_partitions_per_insert_block.
CREATE TABLE IF NOT EXISTS scans
(
    log_partition  UInt16,
    log_offset     UInt64 CODEC(Delta, ZSTD),
    scan_id        UUID,
    person         UInt64,
    kind           Enum8('temperature_screening' = 0, 'quick_check_in' = 1, 'display' = 2, 'grid_collection' = 3, 'compound_pass' = 4, 'release_notice' = 5),
    site_kind      Enum8('none' = -1, 'venue' = 0, 'grid' = 1, 'compound' = 2, 'institution' = 3),
    site           UInt32,
    checkpoint     UInt16,
    region         UInt32,
    venue_type     Enum8('unspecified' = 0, 'residential_compound' = 1, 'office' = 2, 'mall' = 3, 'catering' = 4, 'lodging' = 5, 'culture' = 6, 'sport' = 7, 'transport' = 8, 'hospital' = 9, 'airport' = 10, 'port' = 11, 'station' = 12, 'industrial_park' = 13, 'park' = 14, 'school' = 15),
    direction      Enum8('unknown' = 0, 'in' = 1, 'out' = 2),
    band           Enum8('not_taken' = 0, 'normal' = 1, 'fever' = 2),
    decidegrees    Nullable(Int16),
    colour         UInt8,
    categories     UInt16,
    status_version UInt16,
    disposition    Enum8('admitted' = 0, 'refused' = 1, 'referred' = 2),
    sex            Enum8('unknown' = 0, 'male' = 1, 'female' = 2),
    age            Int16,
    carrier        Enum8('app_code' = 0, 'rotating_code' = 1, 'paper_code' = 2, 'document' = 3),
    operator       UInt64,
    event_time     DateTime64(3, 'Asia/Shanghai') CODEC(Delta, ZSTD),
    received_at    DateTime64(3, 'Asia/Shanghai') CODEC(Delta, ZSTD),
    appended_at    DateTime64(3, 'Asia/Shanghai') CODEC(Delta, ZSTD),
    corrects       UUID,
    party          UUID,
    synthetic      UInt8,
    -- What the statistics count, decided once by the writer.
    registration   UInt8,
    fever          UInt8,
    red_encounter  UInt8,
    refusal        UInt8,
    INDEX by_offset log_offset TYPE minmax GRANULARITY 1,
    INDEX by_scan_id scan_id TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = MergeTree
PARTITION BY (log_partition, toMonday(toDate(event_time)))
ORDER BY (site_kind, site, event_time, log_offset)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 480;

-- Corrections (C8): which scan names which. A scan is superseded by one that names it, and by a newer one that names
-- the same scan as it does.
CREATE TABLE IF NOT EXISTS corrections
(
    log_partition UInt16,
    original      UUID,
    scan_id       UUID,
    person        UInt64,
    event_time    DateTime64(3, 'Asia/Shanghai'),
    log_offset    UInt64
)
ENGINE = MergeTree
PARTITION BY (log_partition, toMonday(toDate(event_time)))
ORDER BY (original, event_time, log_offset)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 480;

CREATE MATERIALIZED VIEW IF NOT EXISTS corrections_view TO corrections AS
SELECT log_partition, corrects AS original, scan_id, person, event_time, log_offset
FROM scans
WHERE corrects != toUUID('00000000-0000-0000-0000-000000000000');

CREATE VIEW IF NOT EXISTS superseded_scans AS
SELECT original AS scan_id FROM corrections
UNION DISTINCT
SELECT scan_id FROM corrections
WHERE (original, scan_id) NOT IN (SELECT original, argMax(scan_id, (event_time, log_offset)) FROM corrections GROUP BY original);
