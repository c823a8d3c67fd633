-- Sums are small numbers, most of them 0 or 1, of which LZ4 makes a byte or two a row. Without their common high bits (T64) they
-- take a fifth, and are read as fast (docs/decisions/0007). States of distinct people do not compress. Applies to parts written
-- from now on; older ones follow as they merge.
ALTER TABLE venue_hour
    MODIFY COLUMN registrations CODEC(T64, LZ4),
    MODIFY COLUMN entries CODEC(T64, LZ4),
    MODIFY COLUMN exits CODEC(T64, LZ4),
    MODIFY COLUMN fever CODEC(T64, LZ4),
    MODIFY COLUMN red_encounters CODEC(T64, LZ4),
    MODIFY COLUMN refusals CODEC(T64, LZ4),
    MODIFY COLUMN male CODEC(T64, LZ4),
    MODIFY COLUMN female CODEC(T64, LZ4),
    MODIFY COLUMN sex_unknown CODEC(T64, LZ4),
    MODIFY COLUMN age_0_14 CODEC(T64, LZ4),
    MODIFY COLUMN age_15_39 CODEC(T64, LZ4),
    MODIFY COLUMN age_40_59 CODEC(T64, LZ4),
    MODIFY COLUMN age_60_up CODEC(T64, LZ4),
    MODIFY COLUMN age_unknown CODEC(T64, LZ4);
ALTER TABLE region_hour
    MODIFY COLUMN registrations CODEC(T64, LZ4),
    MODIFY COLUMN entries CODEC(T64, LZ4),
    MODIFY COLUMN exits CODEC(T64, LZ4),
    MODIFY COLUMN fever CODEC(T64, LZ4),
    MODIFY COLUMN red_encounters CODEC(T64, LZ4),
    MODIFY COLUMN refusals CODEC(T64, LZ4),
    MODIFY COLUMN male CODEC(T64, LZ4),
    MODIFY COLUMN female CODEC(T64, LZ4),
    MODIFY COLUMN sex_unknown CODEC(T64, LZ4),
    MODIFY COLUMN age_0_14 CODEC(T64, LZ4),
    MODIFY COLUMN age_15_39 CODEC(T64, LZ4),
    MODIFY COLUMN age_40_59 CODEC(T64, LZ4),
    MODIFY COLUMN age_60_up CODEC(T64, LZ4),
    MODIFY COLUMN age_unknown CODEC(T64, LZ4);
ALTER TABLE grid_day
    MODIFY COLUMN registrations CODEC(T64, LZ4),
    MODIFY COLUMN fever CODEC(T64, LZ4),
    MODIFY COLUMN red_encounters CODEC(T64, LZ4),
    MODIFY COLUMN refusals CODEC(T64, LZ4);
ALTER TABLE tester_day
    MODIFY COLUMN registrations CODEC(T64, LZ4),
    MODIFY COLUMN fever CODEC(T64, LZ4),
    MODIFY COLUMN red_encounters CODEC(T64, LZ4),
    MODIFY COLUMN refusals CODEC(T64, LZ4);
