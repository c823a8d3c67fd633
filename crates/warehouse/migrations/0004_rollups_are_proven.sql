-- Rollups are a function of raw rows, and raw rows are synced before an insert is answered. A rollup part that a power cut
-- takes is therefore found by the proof that follows every restart of the engine, and rebuilt (warehouse::slices). Merged
-- parts stay synced, because their sources may belong to slices that no proof visits.
--
-- Merged rollup parts' sources leave after a minute instead of eight: they are most of the parts that the engine keeps in mind.
--
-- An insert fills five rollup parts of some twenty files each beside the raw part; see docs/decisions/0004.
ALTER TABLE corrections MODIFY SETTING fsync_after_insert = 0, fsync_part_directory = 0, old_parts_lifetime = 60, max_suspicious_broken_parts = 100000;
ALTER TABLE venue_hour MODIFY SETTING fsync_after_insert = 0, fsync_part_directory = 0, old_parts_lifetime = 60, max_suspicious_broken_parts = 100000;
ALTER TABLE region_hour MODIFY SETTING fsync_after_insert = 0, fsync_part_directory = 0, old_parts_lifetime = 60, max_suspicious_broken_parts = 100000;
ALTER TABLE grid_day MODIFY SETTING fsync_after_insert = 0, fsync_part_directory = 0, old_parts_lifetime = 60, max_suspicious_broken_parts = 100000;
ALTER TABLE tester_day MODIFY SETTING fsync_after_insert = 0, fsync_part_directory = 0, old_parts_lifetime = 60, max_suspicious_broken_parts = 100000;
