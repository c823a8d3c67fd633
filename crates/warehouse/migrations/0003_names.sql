-- What places are called, for people who read dashboards. A function of the topic `registry` and of the divisions' data
-- file; the newest row of a key counts.
CREATE TABLE IF NOT EXISTS sites
(
    site_kind  Enum8('none' = -1, 'venue' = 0, 'grid' = 1, 'compound' = 2, 'institution' = 3),
    site       UInt32,
    name       String,
    region     UInt32,
    venue_type LowCardinality(String),
    log_offset UInt64
)
ENGINE = ReplacingMergeTree(log_offset)
ORDER BY (site_kind, site)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 480;

CREATE TABLE IF NOT EXISTS divisions
(
    code       UInt32,
    level      LowCardinality(String),
    parent     UInt32,
    name       String,
    name_latin String
)
ENGINE = ReplacingMergeTree
ORDER BY code
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 480;

-- Facts about this database, such as the fingerprint of the person key.
CREATE TABLE IF NOT EXISTS deployment
(
    name  String,
    value String
)
ENGINE = ReplacingMergeTree
ORDER BY name
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 480;

-- Its rows are gone after a restart of the engine: that is how a restart is noticed.
CREATE TABLE IF NOT EXISTS boot_marks
(
    writer String,
    mark   UInt64
)
ENGINE = Memory;
