"""Builds the data set of `make data-set`: 100 million scans and the last week's rollups in an engine's data folder, once.

The same seed gives the same rows. The folder lies outside of the tree; a finished one is left alone, and keeps the tables' design
of the build that made it.
usage: data_set.py <folder> [rows]
"""

import concurrent.futures
import pathlib
import shutil
import sys
import time

from engine import Engine, migrations

SEED = 20220110
PARTITIONS = 12
PEOPLE = 20_000_000
VENUES = 120_000
WEEKS = 4
DAYS = 7 * WEEKS
# Monday 2022-01-03 00:00 in Shanghai.
FIRST_MS = 1_641_139_200_000
# All venue types of the weekday profile together, by their shares.
HOURS = [3, 1, 1, 0, 1, 4, 24, 79, 104, 68, 45, 47, 62, 64, 53, 41, 48, 71, 92, 82, 54, 38, 22, 11]
DATABASE = "tongxing"


def scans(partition, first, count, rows):
    """The SELECT of some of a log partition's scans."""
    total, cumulative = 0, []
    for weight in HOURS:
        total += weight + 0.5
        cumulative.append(total)
    shares = [repr(share / total) for share in cumulative]
    shares[-1] = "1.000001"
    text = (pathlib.Path(__file__).parent / "scans.sql").read_text()
    values = {"cumulative": "[" + ", ".join(shares) + "]", "seed": SEED, "rows": float(rows), "days": DAYS,
              "first_ms": FIRST_MS, "partitions": PARTITIONS, "partition": partition, "people": PEOPLE,
              "venues": VENUES, "from": first, "count": count}
    text = "\n".join(line for line in text.splitlines() if not line.startswith("--"))
    for name, value in values.items():
        text = text.replace("{%s}" % name, str(value))
    return text


def in_parallel(work, items, started, what):
    """Runs work on every item, two at a time, and says how far it is."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for done, _ in enumerate(pool.map(work, items), 1):
            if done % PARTITIONS == 0:
                print(f"{what}: {done} of {len(items)} slices, {time.monotonic() - started:.0f} s", flush=True)


def build(folder, rows):
    """Fills a folder that does not hold a finished data set. One statement makes one log partition's share of a week, so that
    its rows come sorted in one part."""
    needed = rows * 250
    folder.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder.parent).free
    if free < needed:
        raise SystemExit(f"the data set needs {needed >> 30} GiB free at {folder.parent}; there are {free >> 30}")
    shutil.rmtree(folder, ignore_errors=True)
    started = time.monotonic()
    views = []
    with Engine(folder) as engine:
        engine.text(f"CREATE DATABASE {DATABASE}")
        for statement in migrations():
            if statement.startswith("CREATE MATERIALIZED VIEW"):
                views.append(statement)
            else:
                engine.text(statement, DATABASE)
        share = rows // (PARTITIONS * WEEKS)
        shares = [(week, partition) for week in range(WEEKS) for partition in range(PARTITIONS)]
        in_parallel(lambda s: engine.text(f"INSERT INTO scans {scans(s[1], s[0] * share, share, rows)}", DATABASE), shares, started, "raw scans")
        all_slices = engine.rows("SELECT DISTINCT log_partition, toMonday(toDate(event_time)) AS monday FROM scans ORDER BY monday, log_partition", DATABASE)
        for view in views:
            table = view.split(" TO ")[1].split()[0]
            # Distinct people by venue and hour are as much work as raw; the last week's decide.
            slices = all_slices if table == "corrections" else all_slices[-PARTITIONS:]
            select = view.split(" AS\n", 1)[1]

            def fill(slice_of):
                partition, monday = slice_of
                condition = f"scans.log_partition = {partition} AND toMonday(toDate(scans.event_time)) = '{monday}' AND "
                engine.text(f"INSERT INTO {table} {select.replace('WHERE ', 'WHERE ' + condition, 1)}", DATABASE)

            in_parallel(fill, slices, started, table)
        for view in views:
            engine.text(view, DATABASE)
    (folder / "finished").write_text(f"{rows}\n")
    return time.monotonic() - started


def main():
    folder = pathlib.Path(sys.argv[1])
    rows = int(sys.argv[2]) if len(sys.argv) > 2 else 100_000_000
    finished = folder / "finished"
    if finished.exists() and finished.read_text() == f"{rows}\n":
        print(f"the data set of {rows:,} scans is in {folder} already")
        return
    seconds = build(folder, rows)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{rows // (PARTITIONS * WEEKS) * PARTITIONS * WEEKS:,} scans and the last week's rollups (seed {SEED}) in {folder}: {seconds:.0f} s, {size / 1e9:.1f} GB")


if __name__ == "__main__":
    main()
