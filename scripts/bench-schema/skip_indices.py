"""Skip index candidates for scan ids: one log partition's four weeks, in today's order."""

VARIANTS = {
    "none": "",
    "bloom 0.01 over 4 (before 0006)": "INDEX i scan_id TYPE bloom_filter(0.01) GRANULARITY 4",
    "bloom 0.01 over 1": "INDEX i scan_id TYPE bloom_filter(0.01) GRANULARITY 1",
    "bloom 0.0001 over 4 (today)": "INDEX i scan_id TYPE bloom_filter(0.0001) GRANULARITY 4",
    "bloom 0.0001 over 1": "INDEX i scan_id TYPE bloom_filter(0.0001) GRANULARITY 1",
}


def compare(bench, queries, partition):
    """Prints size and time of each variant."""
    tables = {}
    for number, (label, index) in enumerate(VARIANTS.items()):
        table = f"bench.indices_{number}"
        extra = f", {index}" if index else ""
        bench.engine.text(
            f"CREATE TABLE {table} (log_partition UInt16, log_offset UInt64 CODEC(Delta, ZSTD), scan_id UUID, person UInt64, site_kind Int8, site UInt32, "
            f"event_time DateTime64(3, 'Asia/Shanghai') CODEC(Delta, ZSTD){extra}) ENGINE = MergeTree "
            "PARTITION BY (log_partition, toMonday(toDate(event_time))) ORDER BY (site_kind, site, event_time, log_offset)")
        bench.engine.text(f"INSERT INTO {table} SELECT log_partition, log_offset, scan_id, person, toInt8(site_kind), site, event_time "
                          f"FROM tongxing.scans WHERE log_partition = {partition}")
        tables[label] = table
    bench.settle()
    bench.sizes([tuple(table.split(".")) for table in tables.values()])
    bench.times("Skip indices on scan ids, one log partition", {name: queries[name] for name in ["500 scan ids", "20 scan ids"]}, tables)
    for table in tables.values():
        bench.engine.text(f"DROP TABLE {table} SYNC")
