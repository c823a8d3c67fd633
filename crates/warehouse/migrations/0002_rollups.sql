-- Rollups: what statistics are answered from. Each is the sum of its raw rows, slice by slice; a slice that is not is
-- rebuilt from them (see warehouse::slices).
--
-- `registrations` are 人次, `people` are 人数 (T6). `entries` are registrations that are not exits (C2).

-- Flow of each venue by the hour (T1).
CREATE TABLE IF NOT EXISTS venue_hour
(
    log_partition  UInt16,
    synthetic      UInt8,
    venue          UInt32,
    region         UInt32,
    venue_type     Enum8('unspecified' = 0, 'residential_compound' = 1, 'office' = 2, 'mall' = 3, 'catering' = 4, 'lodging' = 5, 'culture' = 6, 'sport' = 7, 'transport' = 8, 'hospital' = 9, 'airport' = 10, 'port' = 11, 'station' = 12, 'industrial_park' = 13, 'park' = 14, 'school' = 15),
    hour           DateTime('Asia/Shanghai'),
    registrations  SimpleAggregateFunction(sum, UInt64),
    entries        SimpleAggregateFunction(sum, UInt64),
    exits          SimpleAggregateFunction(sum, UInt64),
    fever          SimpleAggregateFunction(sum, UInt64),
    red_encounters SimpleAggregateFunction(sum, UInt64),
    refusals       SimpleAggregateFunction(sum, UInt64),
    male           SimpleAggregateFunction(sum, UInt64),
    female         SimpleAggregateFunction(sum, UInt64),
    sex_unknown    SimpleAggregateFunction(sum, UInt64),
    age_0_14       SimpleAggregateFunction(sum, UInt64),
    age_15_39      SimpleAggregateFunction(sum, UInt64),
    age_40_59      SimpleAggregateFunction(sum, UInt64),
    age_60_up      SimpleAggregateFunction(sum, UInt64),
    age_unknown    SimpleAggregateFunction(sum, UInt64),
    people         AggregateFunction(uniqExact, UInt64),
    fever_people   AggregateFunction(uniqExact, UInt64)
)
ENGINE = AggregatingMergeTree
PARTITION BY (log_partition, toMonday(toDate(hour)))
ORDER BY (venue, hour, synthetic, region, venue_type, log_partition)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 480;

CREATE MATERIALIZED VIEW IF NOT EXISTS venue_hour_view TO venue_hour AS
SELECT
    scans.log_partition AS log_partition,
    scans.synthetic AS synthetic,
    scans.site AS venue,
    scans.region AS region,
    scans.venue_type AS venue_type,
    toStartOfHour(scans.event_time) AS hour,
    sum(scans.registration) AS registrations,
    countIf(scans.registration = 1 AND scans.direction != 'out') AS entries,
    countIf(scans.registration = 1 AND scans.direction = 'out') AS exits,
    sum(scans.fever) AS fever,
    sum(scans.red_encounter) AS red_encounters,
    sum(scans.refusal) AS refusals,
    countIf(scans.registration = 1 AND scans.sex = 'male') AS male,
    countIf(scans.registration = 1 AND scans.sex = 'female') AS female,
    countIf(scans.registration = 1 AND scans.sex = 'unknown') AS sex_unknown,
    countIf(scans.registration = 1 AND scans.age BETWEEN 0 AND 14) AS age_0_14,
    countIf(scans.registration = 1 AND scans.age BETWEEN 15 AND 39) AS age_15_39,
    countIf(scans.registration = 1 AND scans.age BETWEEN 40 AND 59) AS age_40_59,
    countIf(scans.registration = 1 AND scans.age >= 60) AS age_60_up,
    countIf(scans.registration = 1 AND scans.age < 0) AS age_unknown,
    uniqExactStateIf(scans.person, scans.registration = 1) AS people,
    uniqExactStateIf(scans.person, scans.fever = 1) AS fever_people
FROM scans
WHERE scans.site_kind = 'venue' AND scans.kind NOT IN ('display', 'release_notice')
GROUP BY log_partition, synthetic, venue, region, venue_type, hour;

-- Flow of each division by the hour (T5): nine digits where the site is known to township level.
CREATE TABLE IF NOT EXISTS region_hour
(
    log_partition  UInt16,
    synthetic      UInt8,
    region         UInt32,
    venue_type     Enum8('unspecified' = 0, 'residential_compound' = 1, 'office' = 2, 'mall' = 3, 'catering' = 4, 'lodging' = 5, 'culture' = 6, 'sport' = 7, 'transport' = 8, 'hospital' = 9, 'airport' = 10, 'port' = 11, 'station' = 12, 'industrial_park' = 13, 'park' = 14, 'school' = 15),
    hour           DateTime('Asia/Shanghai'),
    registrations  SimpleAggregateFunction(sum, UInt64),
    entries        SimpleAggregateFunction(sum, UInt64),
    exits          SimpleAggregateFunction(sum, UInt64),
    fever          SimpleAggregateFunction(sum, UInt64),
    red_encounters SimpleAggregateFunction(sum, UInt64),
    refusals       SimpleAggregateFunction(sum, UInt64),
    male           SimpleAggregateFunction(sum, UInt64),
    female         SimpleAggregateFunction(sum, UInt64),
    sex_unknown    SimpleAggregateFunction(sum, UInt64),
    age_0_14       SimpleAggregateFunction(sum, UInt64),
    age_15_39      SimpleAggregateFunction(sum, UInt64),
    age_40_59      SimpleAggregateFunction(sum, UInt64),
    age_60_up      SimpleAggregateFunction(sum, UInt64),
    age_unknown    SimpleAggregateFunction(sum, UInt64),
    people         AggregateFunction(uniqExact, UInt64),
    fever_people   AggregateFunction(uniqExact, UInt64)
)
ENGINE = AggregatingMergeTree
PARTITION BY (log_partition, toMonday(toDate(hour)))
ORDER BY (region, hour, venue_type, synthetic, log_partition)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 480;

CREATE MATERIALIZED VIEW IF NOT EXISTS region_hour_view TO region_hour AS
SELECT
    scans.log_partition AS log_partition,
    scans.synthetic AS synthetic,
    scans.region AS region,
    scans.venue_type AS venue_type,
    toStartOfHour(scans.event_time) AS hour,
    sum(scans.registration) AS registrations,
    countIf(scans.registration = 1 AND scans.direction != 'out') AS entries,
    countIf(scans.registration = 1 AND scans.direction = 'out') AS exits,
    sum(scans.fever) AS fever,
    sum(scans.red_encounter) AS red_encounters,
    sum(scans.refusal) AS refusals,
    countIf(scans.registration = 1 AND scans.sex = 'male') AS male,
    countIf(scans.registration = 1 AND scans.sex = 'female') AS female,
    countIf(scans.registration = 1 AND scans.sex = 'unknown') AS sex_unknown,
    countIf(scans.registration = 1 AND scans.age BETWEEN 0 AND 14) AS age_0_14,
    countIf(scans.registration = 1 AND scans.age BETWEEN 15 AND 39) AS age_15_39,
    countIf(scans.registration = 1 AND scans.age BETWEEN 40 AND 59) AS age_40_59,
    countIf(scans.registration = 1 AND scans.age >= 60) AS age_60_up,
    countIf(scans.registration = 1 AND scans.age < 0) AS age_unknown,
    uniqExactStateIf(scans.person, scans.registration = 1) AS people,
    uniqExactStateIf(scans.person, scans.fever = 1) AS fever_people
FROM scans
WHERE scans.site_kind IN ('venue', 'compound') AND scans.kind NOT IN ('display', 'release_notice')
GROUP BY log_partition, synthetic, region, venue_type, hour;

-- Visits of each grid by worker and day (T3).
CREATE TABLE IF NOT EXISTS grid_day
(
    log_partition  UInt16,
    synthetic      UInt8,
    grid           UInt32,
    region         UInt32,
    worker         UInt64,
    day            Date,
    registrations  SimpleAggregateFunction(sum, UInt64),
    fever          SimpleAggregateFunction(sum, UInt64),
    red_encounters SimpleAggregateFunction(sum, UInt64),
    refusals       SimpleAggregateFunction(sum, UInt64),
    people         AggregateFunction(uniqExact, UInt64),
    fever_people   AggregateFunction(uniqExact, UInt64)
)
ENGINE = AggregatingMergeTree
PARTITION BY (log_partition, toMonday(day))
ORDER BY (grid, day, worker, synthetic, region, log_partition)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 480;

CREATE MATERIALIZED VIEW IF NOT EXISTS grid_day_view TO grid_day AS
SELECT
    scans.log_partition AS log_partition,
    scans.synthetic AS synthetic,
    scans.site AS grid,
    scans.region AS region,
    scans.operator AS worker,
    toDate(scans.event_time) AS day,
    sum(scans.registration) AS registrations,
    sum(scans.fever) AS fever,
    sum(scans.red_encounter) AS red_encounters,
    sum(scans.refusal) AS refusals,
    uniqExactStateIf(scans.person, scans.registration = 1) AS people,
    uniqExactStateIf(scans.person, scans.fever = 1) AS fever_people
FROM scans
WHERE scans.site_kind = 'grid' AND scans.kind = 'grid_collection'
GROUP BY log_partition, synthetic, grid, region, worker, day;

-- Work of each tester by venue and day (T1, T2).
CREATE TABLE IF NOT EXISTS tester_day
(
    log_partition  UInt16,
    synthetic      UInt8,
    venue          UInt32,
    tester         UInt64,
    day            Date,
    registrations  SimpleAggregateFunction(sum, UInt64),
    fever          SimpleAggregateFunction(sum, UInt64),
    red_encounters SimpleAggregateFunction(sum, UInt64),
    refusals       SimpleAggregateFunction(sum, UInt64),
    people         AggregateFunction(uniqExact, UInt64),
    fever_people   AggregateFunction(uniqExact, UInt64)
)
ENGINE = AggregatingMergeTree
PARTITION BY (log_partition, toMonday(day))
ORDER BY (venue, tester, day, synthetic, log_partition)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 480;

CREATE MATERIALIZED VIEW IF NOT EXISTS tester_day_view TO tester_day AS
SELECT
    scans.log_partition AS log_partition,
    scans.synthetic AS synthetic,
    scans.site AS venue,
    scans.operator AS tester,
    toDate(scans.event_time) AS day,
    sum(scans.registration) AS registrations,
    sum(scans.fever) AS fever,
    sum(scans.red_encounter) AS red_encounters,
    sum(scans.refusal) AS refusals,
    uniqExactStateIf(scans.person, scans.registration = 1) AS people,
    uniqExactStateIf(scans.person, scans.fever = 1) AS fever_people
FROM scans
WHERE scans.site_kind = 'venue' AND scans.operator != 0 AND scans.kind NOT IN ('display', 'release_notice')
GROUP BY log_partition, synthetic, venue, tester, day;
