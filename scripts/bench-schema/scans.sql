-- Scan number n of the data set, a function of the seed and n alone; a statement makes some of one log partition's.
-- A name in braces stands for what data_set.py puts in.
--
-- Arrival order runs through the log partitions in turn, so offsets are dense. A day has the hourly shape of
-- loadtest/profiles/guangdong-weekday.toml, all venue types together. Venues are drawn with density 1 / (rank + 100), people
-- by their activity; seven of ten check-ins are at one of a person's own four venues. Two in a hundred arrive up to three days late.
WITH
    {cumulative} AS cumulative,
    (n, salt) -> cityHash64({seed}, salt, n) / 18446744073709551616. AS draw,
    (n) -> n / {rows} * {days} AS day_of,
    -- Milliseconds of arrival: the hour of the day by its share, straight within the hour.
    (n) -> arrayFirstIndex(c -> c > day_of(n) - floor(day_of(n)), cumulative) AS hour_of,
    (n) -> toInt64({first_ms} + floor(day_of(n)) * 86400000 + 3600000 * (hour_of(n) - 1 +
        (day_of(n) - floor(day_of(n)) - if(hour_of(n) = 1, 0., cumulative[hour_of(n) - 1]))
        / (cumulative[hour_of(n)] - if(hour_of(n) = 1, 0., cumulative[hour_of(n) - 1])))) AS arrival_of,
    (n, salt) -> if(draw(n, salt) < 0.02, toInt64(draw(n, salt + 1) * 259200000), toInt64(50 + draw(n, salt + 1) * 2000)) AS delay_of,
    (n) -> reinterpretAsUUID(bitOr(bitOr(bitShiftLeft(toUInt128(toUInt64(arrival_of(n) - delay_of(n, 10))), 80), bitShiftLeft(toUInt128(bitOr(28672, bitAnd(cityHash64({seed}, 12, n), 4095))), 64)), toUInt128(bitOr(9223372036854775808, bitShiftRight(cityHash64({seed}, 13, n), 2))))) AS id_of,
    number * {partitions} + {partition} AS n,
    toUInt16({partition}) AS p,
    toUInt32(floor({people} / {partitions} * pow(draw(n, 1), 1.3))) * {partitions} + p AS person_number,
    draw(n, 2) AS kind_draw,
    multiIf(kind_draw < 0.45, 1, kind_draw < 0.50, 2, kind_draw < 0.54, 3, kind_draw < 0.60, 4, 0) AS kind_number,
    if(draw(n, 3) < 0.7, draw(person_number, 20 + cityHash64({seed}, 4, n) % 4), draw(n, 5)) AS site_draw,
    multiIf(kind_number = 3, 1, kind_number = 4, 2, 0) AS site_kind_number,
    multiIf(kind_number IN (3, 4), toUInt32(1 + floor(site_draw * 20000)),
            toUInt32(1 + floor(100 * pow({venues} / 100. + 1, site_draw) - 100))) AS site_number,
    cityHash64({seed}, 30 + site_kind_number, site_number) AS site_hash,
    draw(person_number, 40) AS person_draw,
    arrival_of(n) AS arrival,
    arrival - delay_of(n, 10) AS happened,
    kind_number IN (0, 3) AND draw(n, 6) < 0.001 AS is_fever,
    draw(person_number, 41) < 0.002 AS is_red,
    kind_number NOT IN (2, 5) AND NOT (is_red AND kind_number = 1) AS is_registration
SELECT
    p AS log_partition,
    toUInt64(intDiv(n, {partitions})) AS log_offset,
    id_of(n) AS scan_id,
    cityHash64({seed}, 50, person_number) AS person,
    kind_number AS kind,
    if(kind_number = 2 AND draw(n, 7) < 0.5, -1, site_kind_number) AS site_kind,
    if(site_kind = -1, 0, site_number) AS site,
    if(site_kind_number = 0, toUInt16(1 + cityHash64({seed}, 8, n) % 2), 0) AS checkpoint,
    if(site_kind = -1, 0, toUInt32(440100000 + (site_hash % 21) * 1000 + (bitShiftRight(site_hash, 8) % 80))) AS region,
    if(site_kind_number = 0, toInt8(1 + bitShiftRight(site_hash, 16) % 15), 0) AS venue_type,
    if(kind_number = 0, if(draw(n, 9) < 0.3, 2, 1), 0) AS direction,
    multiIf(kind_number NOT IN (0, 3), 0, is_fever, 2, 1) AS band,
    if(kind_number IN (0, 3), toInt16(if(is_fever, 375, 361) + cityHash64({seed}, 14, n) % 8), NULL) AS decidegrees,
    multiIf(is_red, 2, person_draw < 0.01, 1, 0) AS colour,
    multiIf(is_red, 2, person_draw < 0.01, 8, 0) AS categories,
    4 AS status_version,
    if(is_red AND kind_number = 1, 1, 0) AS disposition,
    toInt8(1 + cityHash64({seed}, 42, person_number) % 2) AS sex,
    toInt16(floor(draw(person_number, 43) * 85)) AS age,
    multiIf(kind_draw > 0.98, 2, kind_number = 2, 0, 1) AS carrier,
    if(kind_number IN (0, 3), cityHash64({seed}, 15, site_kind_number, site_number, cityHash64({seed}, 16, n) % 4), 0) AS operator,
    fromUnixTimestamp64Milli(happened, 'Asia/Shanghai') AS event_time,
    fromUnixTimestamp64Milli(arrival - toInt64(2 + cityHash64({seed}, 17, n) % 20), 'Asia/Shanghai') AS received_at,
    fromUnixTimestamp64Milli(arrival, 'Asia/Shanghai') AS appended_at,
    if(draw(n, 18) < 0.0005 AND n > 1200000, id_of(n - 1200000), toUUID('00000000-0000-0000-0000-000000000000')) AS corrects,
    toUUID('00000000-0000-0000-0000-000000000000') AS party,
    0 AS synthetic,
    is_registration AS registration,
    is_fever AS fever,
    is_red AND kind_number NOT IN (2, 5) AS red_encounter,
    is_red AND kind_number = 1 AS refusal
FROM numbers({from}, {count})
