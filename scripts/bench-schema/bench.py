"""Compares designs of the tables on the data set of `make data-set`, and prints bytes a row and query times, both sides.

Statements are those that the program runs; where one is a proposal, its name says so. Every query runs once unmeasured, without the cache of conditions, then in
rounds that alternate between the candidates; medians are printed.
usage: bench.py <folder of the data set> [rounds] [parts of it, by commas: size,codecs,statements,inserts,order,partitions,indices,rollups]
"""

import statistics
import sys
import time
import urllib.request

import column_codecs
import skip_indices
from engine import Engine, Refused, migrations

PARTITION = 5
# The last week of the data set.
MONDAY = "2022-01-24"
SLICE = f"log_partition = {PARTITION} AND toMonday(toDate(event_time)) = toDate('{MONDAY}')"
# What the queries read of raw.
READ = ("log_partition, log_offset, scan_id, person, kind, site_kind, site, region, venue_type, direction, sex, age, operator, "
        "event_time, appended_at, synthetic, registration, fever, red_encounter, refusal")
NOW_KEY = "(site_kind, site, event_time, log_offset)"
NOW_PARTITIONS = "(log_partition, toMonday(toDate(event_time)))"
ORDERS = {
    "person first": "(person, event_time, log_offset)",
    "offset first": "(log_offset)",
}
PARTITIONINGS = {
    "month": "(log_partition, toStartOfMonth(toDate(event_time)))",
    "day": "(log_partition, toDate(event_time))",
}
SUM_CODECS = {"lz4": "CODEC(LZ4)", "zstd": "CODEC(ZSTD(1))", "t64": "CODEC(T64, LZ4)"}
FLOW = "kind NOT IN ('display', 'release_notice')"
SUMS = ["registrations", "entries", "exits", "fever", "red_encounters", "refusals", "male", "female", "sex_unknown",
        "age_0_14", "age_15_39", "age_40_59", "age_60_up", "age_unknown"]
COUNTED = ("sum(registration) AS registrations, countIf(registration = 1 AND direction != 'out') AS entries, sum(fever) AS fevers, "
           "countIf(registration = 1 AND sex = 'male') AS male, countIf(registration = 1 AND age BETWEEN 15 AND 39) AS age_15_39, "
           "uniqExactIf(person, registration = 1) AS people, uniqExactIf(person, fever = 1) AS fever_people")


def between(first, last, column="event_time"):
    return f"{column} >= toDateTime('{first}', 'Asia/Shanghai') AND {column} < toDateTime('{last}', 'Asia/Shanghai')"


class Bench:
    def __init__(self, engine, rounds):
        self.engine, self.rounds = engine, rounds

    def settle(self):
        """Waits until no merge is running."""
        while int(self.engine.value("SELECT count() FROM system.merges")) > 0:
            time.sleep(0.2)

    def copy(self, table, key, partitions, columns="*"):
        """A copy of raw with another key or other partitions, filled slice by slice as the data set was."""
        started = time.monotonic()
        indices = "INDEX by_offset log_offset TYPE minmax GRANULARITY 1, INDEX by_scan_id scan_id TYPE bloom_filter(0.01) GRANULARITY 4"
        names = [n for (n,) in self.engine.rows("SELECT name FROM system.columns WHERE database = 'tongxing' AND table = 'scans' ORDER BY position")]
        wanted = names if columns == "*" else [n.strip() for n in columns.split(",")]
        types = {n: (t, c) for n, t, c in self.engine.rows(
            "SELECT name, type, compression_codec FROM system.columns WHERE database = 'tongxing' AND table = 'scans' FORMAT TSVRaw")}
        definitions = ", ".join(f"{n} {types[n][0]} {types[n][1]}" for n in wanted)
        self.engine.text(f"CREATE TABLE bench.{table} ({definitions}, {indices}) ENGINE = MergeTree PARTITION BY {partitions} ORDER BY {key} "
                         "SETTINGS old_parts_lifetime = 1")
        wide = "month" in table
        period = "toStartOfMonth(toDate(event_time))" if wide else "toMonday(toDate(event_time))"
        for partition, start in self.engine.rows(f"SELECT DISTINCT log_partition, {period} AS start FROM tongxing.scans ORDER BY start, log_partition"):
            self.engine.text(f"INSERT INTO bench.{table} SELECT {', '.join(wanted)} FROM tongxing.scans WHERE log_partition = {partition} AND {period} = '{start}'")
        self.settle()
        print(f"({table} filled in {time.monotonic() - started:.0f} s)", flush=True)

    def sizes(self, tables):
        print("\n## Size: rows, parts, bytes a row with indices and marks, the largest columns")
        for database, table in tables:
            where = f"database = '{database}' AND table = '{table}' AND active"
            rows, parts, size, skip = self.engine.rows(
                f"SELECT sum(rows), count(), sum(bytes_on_disk), sum(secondary_indices_compressed_bytes) FROM system.parts WHERE {where}")[0]
            rows = int(rows)
            columns = self.engine.rows(
                "SELECT column, sum(column_data_compressed_bytes) AS size FROM system.parts_columns "
                f"WHERE {where} GROUP BY column ORDER BY size DESC LIMIT 9")
            largest = ", ".join(f"{name} {int(b) / rows:.2f}" for name, b in columns)
            print(f"{database}.{table}: {rows:,} rows, {parts} parts, {int(size) / rows:.2f} B a row, skip indices {int(skip) / rows:.2f} B: {largest}", flush=True)

    def times(self, title, queries, tables):
        """Every query on every table, alternating; `{t}` in a query is the table."""
        print(f"\n## {title}: median milliseconds of {self.rounds} (least to most)")
        for name, query in queries.items():
            took = {label: [] for label in tables}
            for turn in range(self.rounds + 1):
                for label, table in tables.items():
                    started = time.monotonic()
                    try:
                        self.engine.text(query.format(t=table) + " FORMAT Null SETTINGS use_query_condition_cache = 0")
                    except Refused as refused:
                        print(f"{name}: {label}: {refused}")
                        took[label].append(float("nan"))
                        continue
                    if turn > 0:
                        took[label].append((time.monotonic() - started) * 1000)
            cells = [f"{label} {statistics.median(v):.0f} ({min(v):.0f}–{max(v):.0f})" for label, v in took.items()]
            print(f"{name:46} " + " | ".join(cells), flush=True)

    def inserts(self, designs):
        """Batches of 20,000 rows of one log partition, as the aggregator sends them, with every view; alternating."""
        batches = []
        last = int(self.engine.value(f"SELECT max(log_offset) FROM tongxing.scans WHERE log_partition = {PARTITION}"))
        names = [n for (n,) in self.engine.rows("SELECT name FROM system.columns WHERE database = 'tongxing' AND table = 'scans' ORDER BY position")]
        for number in range(self.rounds * 3):
            first = last - (number + 1) * 20_000
            sql = (f"SELECT {', '.join(names)} FROM tongxing.scans WHERE log_partition = {PARTITION} AND log_offset >= {first} "
                   f"AND log_offset < {first + 20_000} ORDER BY log_offset FORMAT RowBinary")
            batches.append(urllib.request.urlopen(f"http://{self.engine.address}/", sql.encode()).read())
        for label, (database, change) in designs.items():
            self.engine.text(f"CREATE DATABASE {database}")
            for statement in migrations():
                for changed in change(statement):
                    self.engine.text(changed, database)
        took = {label: [] for label in designs}
        for batch in batches:
            for label, (database, _) in designs.items():
                started = time.monotonic()
                self.engine.text("INSERT INTO scans FORMAT RowBinary", database, body=batch)
                took[label].append(time.monotonic() - started)
        print(f"\n## Inserts of 20,000 rows, median of {len(batches)} batches")
        for label, values in took.items():
            middle = statistics.median(values)
            print(f"{label:40} {middle * 1000:.0f} ms ({min(values) * 1000:.0f}–{max(values) * 1000:.0f}), {20_000 / middle:,.0f} rows/s", flush=True)
        for database, _ in designs.values():
            self.engine.text(f"DROP DATABASE {database} SYNC")


def raw_queries(engine):
    """Statements of aggregator/src/recovery.rs, warehouse/src/slices.rs and query/src/{flow,statistics}.rs on raw."""
    newest = int(engine.value(f"SELECT max(log_offset) FROM tongxing.scans WHERE log_partition = {PARTITION}"))
    below = newest - 20_000
    ids = [i for (i,) in engine.rows(
        f"SELECT scan_id FROM tongxing.scans WHERE {SLICE} AND site_kind = 'venue' ORDER BY cityHash64(scan_id) LIMIT 500")]
    # A busy venue and a person who was there.
    venue, region, person = engine.rows(f"SELECT site, region, person FROM tongxing.scans WHERE {SLICE} AND site_kind = 'venue' AND site = 40 LIMIT 1")[0]
    partition = f"log_partition = {PARTITION}"
    listed = lambda some: ", ".join(f"'{i}'" for i in some)
    window = ("WITH (SELECT max(appended_at) FROM {t} WHERE " + partition + " AND log_offset < %(below)d%(floor)s) AS newest "
              "SELECT person, scan_id, toUnixTimestamp64Milli(appended_at) AS appended_ms FROM {t} WHERE " + partition +
              " AND log_offset < %(below)d%(floor)s AND appended_at >= newest - toIntervalMillisecond(600000) ORDER BY log_offset DESC LIMIT 500000")
    seen = "SELECT person, scan_id FROM {t} WHERE " + partition + f" AND log_offset < {below} AND "
    view = ("SELECT count(), sum(cityHash64(log_partition, synthetic, site, region, venue_type, hour, registrations, entries, fevers, male, age_15_39, people, fever_people)) FROM "
            "(SELECT log_partition, synthetic, site, region, venue_type, toStartOfHour(event_time) AS hour, " + COUNTED +
            " FROM {t} WHERE " + SLICE + f" AND site_kind = 'venue' AND {FLOW} GROUP BY log_partition, synthetic, site, region, venue_type, hour)")
    day = between("2022-01-26 00:00:00", "2022-01-27 00:00:00")
    month = between("2022-01-03 00:00:00", "2022-01-31 00:00:00")
    return {
        "newest offset of a partition": "SELECT max(log_offset) FROM {t} WHERE " + partition + " HAVING count() > 0",
        "… from the position on (proposed)": "SELECT max(log_offset) FROM {t} WHERE " + partition + f" AND log_offset >= {below} HAVING count() > 0",
        "window of ten minutes": window % {"below": below, "floor": ""},
        "… of the newest 500,000 offsets (proposed)": window % {"below": below, "floor": f" AND log_offset >= {below - 500_000}"},
        "offsets of a pending range of 20,000": "SELECT log_offset FROM {t} WHERE " + partition + f" AND log_offset >= {below} AND log_offset < {below + 20_000}",
        "500 scan ids": seen + f"scan_id IN ({listed(ids)})",
        "20 scan ids": seen + f"scan_id IN ({listed(ids[:20])})",
        "slices that hold raw rows": "SELECT DISTINCT log_partition, toInt32(toMonday(toDate(event_time))) AS monday FROM {t}",
        "proof of one slice, raw side": view,
        "a venue's corrected day by hour": "SELECT toUnixTimestamp(toStartOfHour(event_time)) AS start, " + COUNTED + " FROM {t} WHERE site_kind = 'venue' AND site = " + venue + f" AND {FLOW} AND synthetic = 0 AND {day} GROUP BY start",
        "a venue's corrected four weeks": "SELECT " + COUNTED + " FROM {t} WHERE site_kind = 'venue' AND site = " + venue + f" AND {FLOW} AND synthetic = 0 AND {month}",
        "a township's corrected day": "SELECT " + COUNTED + " FROM {t} WHERE site_kind IN ('venue', 'compound') AND region = " + region + f" AND {FLOW} AND synthetic = 0 AND {day}",
        "a person's places in 14 days (X5, to come)": "SELECT site_kind, site, event_time FROM {t} WHERE person = " + person + " AND " + between("2022-01-17 00:00:00", "2022-01-31 00:00:00"),
        "who was at a venue in an hour (X5, to come)": "SELECT DISTINCT person FROM {t} WHERE site_kind = 'venue' AND site = " + venue + " AND " + between("2022-01-26 12:00:00", "2022-01-26 13:00:00"),
    }


def rollup_queries(engine):
    """Statements of query/src/{flow,statistics}.rs, warehouse/src/slices.rs and the dashboards on the rollups."""
    sums = ", ".join(f"sum({name}) AS {name}" for name in SUMS)
    figures = sums.replace("sum(", "sum({t}.") + ", uniqExactMerge({t}.people) AS people, uniqExactMerge({t}.fever_people) AS fever_people"
    week = between("2022-01-24 00:00:00", "2022-01-31 00:00:00", "hour")
    day = between("2022-01-26 00:00:00", "2022-01-27 00:00:00", "hour")
    stored = "SELECT count(), sum(cityHash64(%s)) FROM (SELECT %s, " + sums.replace("sum(", "sum(t.") + f", uniqExactMerge(t.people) AS people, uniqExactMerge(t.fever_people) AS fever_people FROM {{t}} AS t WHERE log_partition = {PARTITION} AND toMonday(toDate(hour)) = toDate('{MONDAY}') GROUP BY %s)"
    return {
        "venue": {
            "a venue's week by hour": f"SELECT toUnixTimestamp(hour) AS start, {figures} FROM {{t}} WHERE venue = 40 AND synthetic = 0 AND {week} GROUP BY start",
            "a venue's week": f"SELECT {figures} FROM {{t}} WHERE venue = 40 AND synthetic = 0 AND {week}",
            "all venues' day by hour (dashboard)": f"SELECT hour AS time, sum(entries) AS i, sum(exits) AS o FROM {{t}} WHERE {day} AND synthetic <= 1 GROUP BY time ORDER BY time",
            "all venues' day, people (dashboard)": f"SELECT uniqExactMerge(people) AS people FROM {{t}} WHERE {day} AND synthetic <= 1",
            "proof of one slice, stored side": stored % (("log_partition, synthetic, venue, region, venue_type, hour, registrations, people",) + ("log_partition, synthetic, venue, region, venue_type, hour",) * 2),
        },
        "region": {
            "a township's week by hour": f"SELECT toUnixTimestamp(hour) AS start, {figures} FROM {{t}} WHERE region = 440105023 AND synthetic = 0 AND {week} GROUP BY start",
            "a district's day by hour": f"SELECT toUnixTimestamp(hour) AS start, {figures} FROM {{t}} WHERE (region BETWEEN 440105000 AND 440105999 OR region BETWEEN 440105 AND 440105) AND synthetic = 0 AND {day} GROUP BY start",
            "the province's day": f"SELECT {figures} FROM {{t}} WHERE (region BETWEEN 440000000 AND 449999999 OR region BETWEEN 440000 AND 449999) AND synthetic = 0 AND {day}",
            "the province's week, fever (dashboard)": f"SELECT hour AS time, sum(fever) AS f, uniqExactMerge(fever_people) AS p FROM {{t}} WHERE region BETWEEN 440000000 AND 449999999 AND {week} AND synthetic <= 1 GROUP BY time",
        },
    }


def copy_rollup(bench, source, table, key, states="", numbers=""):
    """A copy of a rollup with another key or other codecs."""
    started = time.monotonic()
    engine = bench.engine
    definitions = []
    for name, kind in engine.rows(f"SELECT name, type FROM system.columns WHERE database = 'tongxing' AND table = '{source}' ORDER BY position FORMAT TSVRaw"):
        codec = states if kind.startswith("AggregateFunction") else numbers if kind.startswith("Simple") else ""
        definitions.append(f"{name} {kind} {codec}")
    engine.text(f"CREATE TABLE bench.{table} ({', '.join(definitions)}) ENGINE = AggregatingMergeTree PARTITION BY (log_partition, toMonday(toDate(hour))) "
                f"ORDER BY {key} SETTINGS old_parts_lifetime = 1")
    for (partition,) in engine.rows(f"SELECT DISTINCT _partition_id FROM tongxing.{source}"):
        engine.text(f"INSERT INTO bench.{table} SELECT * FROM tongxing.{source} WHERE _partition_id = '{partition}'")
    bench.settle()
    print(f"({table} filled in {time.monotonic() - started:.0f} s)", flush=True)


def main():
    folder = sys.argv[1]
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    only = set(sys.argv[3].split(",")) if len(sys.argv) > 3 else {"size", "codecs", "order", "partitions", "indices", "rollups", "inserts"}
    began = time.monotonic()
    with Engine(folder) as engine:
        engine.text("DROP DATABASE IF EXISTS bench SYNC")
        engine.text("CREATE DATABASE bench")
        bench = Bench(engine, rounds)
        bench.settle()
        queries = raw_queries(engine)
        if "size" in only:
            bench.sizes([("tongxing", table) for table in ["scans", "corrections", "venue_hour", "region_hour", "grid_day", "tester_day"]])
        if "codecs" in only:
            column_codecs.compare(engine, SLICE, rounds)
        if "inserts" in only:
            same = lambda statement: [statement]
            without_views = lambda s: [] if "MATERIALIZED VIEW" in s else [s]
            unindexed = lambda s: [] if " INDEX " in s and s.startswith("ALTER") else [s.replace(",\n    INDEX by_offset log_offset TYPE minmax GRANULARITY 1,\n    INDEX by_scan_id scan_id TYPE bloom_filter(0.01) GRANULARITY 4", "")]
            before = lambda s: [] if "CODEC(T64" in s or " INDEX " in s and s.startswith("ALTER") else [s]
            by_person = lambda s: [s.replace("ORDER BY " + NOW_KEY, "ORDER BY (person, event_time, log_offset)")]
            by_day = lambda s: [s.replace("toMonday(toDate(event_time))", "toDate(event_time)").replace("toMonday(toDate(hour))", "toDate(hour)").replace("toMonday(day)", "day")]
            bench.inserts({"today": ("bench_a", same), "before codecs and indices (0006)": ("bench_f", before), "raw alone": ("bench_b", without_views), "without skip indices": ("bench_c", unindexed),
                           "person first": ("bench_d", by_person), "partitions of a day": ("bench_e", by_day)})
        if "statements" in only:
            bench.times("Statements on raw", queries, {"today": "tongxing.scans"})
        if "order" in only:
            tables = {"today": "tongxing.scans"}
            for label, key in ORDERS.items():
                table = "order_" + label.replace(" ", "_")
                bench.copy(table, key, NOW_PARTITIONS)
                tables[label] = f"bench.{table}"
            bench.sizes([("tongxing", "scans")] + [tuple(t.split(".")) for t in list(tables.values())[1:]])
            bench.times("ORDER BY of raw", queries, tables)
            for table in list(tables.values())[1:]:
                engine.text(f"DROP TABLE {table} SYNC")
        if "partitions" in only:
            tables = {"week": "tongxing.scans"}
            for label, partitions in PARTITIONINGS.items():
                bench.copy(f"partitions_{label}", NOW_KEY, partitions, READ)
                tables[label] = f"bench.partitions_{label}"
            bench.sizes([tuple(t.split(".")) for t in list(tables.values())[1:]])
            bench.times("PARTITION BY of raw", queries, tables)
            for table in list(tables.values())[1:]:
                engine.text(f"DROP TABLE {table} SYNC")
        if "indices" in only:
            skip_indices.compare(bench, queries, PARTITION)
        if only & {"rollups", "sums"}:
            of = rollup_queries(engine)
            hour_first = {"venue": "(hour, venue, synthetic, region, venue_type, log_partition)", "region": "(hour, region, venue_type, synthetic, log_partition)"}
            now = {"venue": "(venue, hour, synthetic, region, venue_type, log_partition)", "region": "(region, hour, venue_type, synthetic, log_partition)"}
            for kind, some in of.items():
                source = f"{kind}_hour"
                tables = {"today": f"tongxing.{source}"}
                if "rollups" in only:
                    copy_rollup(bench, source, f"{source}_time", hour_first[kind])
                    tables["hour first"] = f"bench.{source}_time"
                for label, codec in SUM_CODECS.items():
                    table = f"{source}_{label.lower()}"
                    copy_rollup(bench, source, table, now[kind], "", codec)
                    tables[f"sums {codec}"] = f"bench.{table}"
                bench.sizes([tuple(t.split(".")) for t in tables.values()])
                bench.times(f"{source}", {name: query.replace("{t}.", source + ".").replace("FROM {t} WHERE", "FROM {t} AS " + source + " WHERE") for name, query in some.items()}, tables)
                for table in list(tables.values())[1:]:
                    engine.text(f"DROP TABLE {table} SYNC")
        engine.text("DROP DATABASE bench SYNC")
    print(f"\nin all {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
