"""Codec candidates of each column of raw, and what each costs: one slice (log partition, week) in one part, in today's order."""

import statistics
import time

OFFSETS = ["LZ4", "ZSTD(1)", "Delta, LZ4", "Delta, ZSTD(1)", "DoubleDelta, ZSTD(1)", "T64, ZSTD(1)"]
TIMES = ["LZ4", "ZSTD(1)", "Delta, LZ4", "Delta, ZSTD(1)", "DoubleDelta, LZ4", "DoubleDelta, ZSTD(1)", "T64, ZSTD(1)"]
RANDOM = ["NONE", "LZ4", "ZSTD(1)", "ZSTD(3)"]
SMALL = ["LZ4", "ZSTD(1)", "ZSTD(3)", "T64, LZ4", "T64, ZSTD(1)"]
PLAIN = ["LZ4", "ZSTD(1)", "ZSTD(3)"]
CANDIDATES = {
    "log_offset": OFFSETS, "event_time": TIMES, "received_at": TIMES, "appended_at": TIMES,
    "scan_id": RANDOM, "person": RANDOM, "operator": PLAIN, "site": SMALL, "region": SMALL, "age": SMALL,
    "decidegrees": PLAIN, "categories": SMALL, "checkpoint": SMALL, "kind": PLAIN, "sex": PLAIN, "direction": PLAIN,
    "venue_type": PLAIN, "registration": PLAIN, "carrier": PLAIN, "corrects": PLAIN,
}


def compare(engine, slice_condition, rounds):
    """Prints bytes a row and the time to read the column, for each candidate."""
    types = dict(engine.rows("SELECT name, type FROM system.columns WHERE database = 'tongxing' AND table = 'scans' FORMAT TSVRaw"))
    columns = [(name, codec, f"{name}__{number}") for name, codecs in CANDIDATES.items() for number, codec in enumerate(codecs)]
    definitions = ", ".join(f"{label} {types[name]} CODEC({codec})" for name, codec, label in columns)
    key = "key_kind Int8, key_site UInt32, key_time Int64, key_offset UInt64"
    engine.text(f"CREATE TABLE bench.codecs ({key}, {definitions}) ENGINE = MergeTree ORDER BY (key_kind, key_site, key_time, key_offset) "
                "SETTINGS min_bytes_for_wide_part = 0")
    selected = ", ".join(name for name, _, _ in columns)
    engine.text("INSERT INTO bench.codecs SELECT toInt8(site_kind), site, toUnixTimestamp64Milli(event_time), log_offset, "
                f"{selected} FROM tongxing.scans WHERE {slice_condition}")
    rows = int(engine.value("SELECT count() FROM bench.codecs"))
    sizes = {name: (int(compressed), int(marks)) for name, compressed, marks in engine.rows(
        "SELECT column, sum(column_data_compressed_bytes), sum(column_marks_bytes) FROM system.parts_columns "
        "WHERE database = 'bench' AND table = 'codecs' AND active GROUP BY column")}
    took = {label: [] for _, _, label in columns}
    for _ in range(rounds):
        for name, _, label in columns:
            started = time.monotonic()
            engine.text(f"SELECT count() FROM bench.codecs WHERE NOT ignore({label})", max_threads=1)
            took[label].append(time.monotonic() - started)
    print(f"\n## Codecs, {rows:,} rows of one slice, bytes a row and milliseconds to read the column on one thread")
    for name, codecs in CANDIDATES.items():
        entries = [f"{codec}: {sizes[label][0] / rows:.3f} B, {statistics.median(took[label]) * 1000:.0f} ms"
                   for column, codec, label in columns if column == name]
        print(f"{name:13}", " | ".join(entries))
    engine.text("DROP TABLE bench.codecs SYNC")
