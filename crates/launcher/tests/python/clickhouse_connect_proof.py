"""Proves that clickhouse-connect works against the engine on the port given."""

import datetime
import sys
import uuid

import clickhouse_connect
from clickhouse_connect.driver.exceptions import DatabaseError

PORT = int(sys.argv[1])
ZONE = datetime.timezone(datetime.timedelta(hours=8))


def client(**options):
    return clickhouse_connect.get_client(host="127.0.0.1", port=PORT, **options)


def equal(found, expected):
    assert found == expected, f"found {found!r}, expected {expected!r}"


def refused(code, call, *arguments):
    try:
        call(*arguments)
    except DatabaseError as error:
        assert f"code: {code}" in str(error).lower() or f"Code: {code}" in str(error), error
        return
    raise AssertionError(f"{arguments} was not refused")


def queries(c):
    assert c.ping()
    assert c.server_version.startswith("26."), c.server_version
    equal(c.query("SELECT number, toString(number) FROM numbers(3)").result_rows, [(0, "0"), (1, "1"), (2, "2")])
    text = "a'b\\c 通行"
    equal(c.query("SELECT {x:UInt32}, {s:String}", parameters={"x": 5, "s": text}).result_rows, [(5, text)])
    equal(c.query("SELECT %(x)s, %(s)s", parameters={"x": 5, "s": text}).result_rows, [(5, text)])
    equal(c.query("SELECT 1 AS a, 'x' AS b LIMIT 0").column_names, ("a", "b"))
    equal(c.query("SELECT getSetting('max_threads')", settings={"max_threads": 1}).result_rows, [(1,)])
    equal(c.raw_query("SELECT 1, 'x'", fmt="CSV"), b'1,"x"\n')
    with c.query_row_block_stream("SELECT number FROM numbers(200000)") as stream:
        equal(sum(len(block) for block in stream), 200000)


def inserts(c):
    c.command(
        "CREATE TABLE visits (at DateTime64(3, 'Asia/Shanghai'), place LowCardinality(String), id UUID,"
        " kind Enum8('in' = 1, 'out' = 2), degrees Nullable(Float64)) ENGINE = MergeTree ORDER BY at"
    )
    at = datetime.datetime(2026, 11, 16, 8, 0, 0, 123000, tzinfo=ZONE)
    rows = [
        [at + datetime.timedelta(hours=hour), f"门{hour}", uuid.uuid4(), "in" if hour % 2 else "out", 36.5 if hour % 3 else None]
        for hour in range(500)
    ]
    names = ["at", "place", "id", "kind", "degrees"]
    summary = c.insert("visits", rows, column_names=names)
    equal(summary.written_rows, 500)
    found = c.query("SELECT * FROM visits ORDER BY at").result_rows
    equal(len(found), 500)
    for row, expected in zip(found, rows):
        equal(list(row[1:]), expected[1:])
        equal(row[0].timestamp(), expected[0].timestamp())
    c.raw_insert("visits", ["at", "place"], "2026-12-31 10:00:00\traw\n".encode(), fmt="TabSeparated")
    equal(c.query("SELECT count() FROM visits WHERE place = 'raw'").result_rows, [(1,)])
    equal(c.command("SELECT count() FROM visits"), 501)


def errors(c):
    refused(60, c.query, "SELECT * FROM nowhere")
    refused(62, c.query, "SELEC 1")
    refused(395, c.query, "SELECT throwIf(number = 3) FROM numbers(5)")
    refused(57, c.command, "CREATE TABLE visits (a Int8) ENGINE = Memory")
    refused(60, c.insert, "nowhere", [[1]], ["a"])
    # The connection is usable afterwards, and no part of a failed answer is left behind.
    equal(c.query("SELECT 42").result_rows, [(42,)])


def sessions():
    first, second = client(database="shop"), client(database="shop")
    first.command("CREATE TEMPORARY TABLE mine (n UInt8)")
    first.insert("mine", [[1], [2]], column_names=["n"])
    equal(first.query("SELECT sum(n) FROM mine").result_rows, [(3,)])
    refused(60, second.query, "SELECT * FROM mine")
    refused(60, first.query, "SELECT * FROM nowhere")
    equal(first.query("SELECT sum(n) FROM mine").result_rows, [(3,)])
    first.command("SET max_result_rows = 77")
    equal(first.command("SELECT getSetting('max_result_rows')"), 77)
    equal(second.command("SELECT getSetting('max_result_rows')"), 0)


def other_clients():
    equal(client(database="system").command("SELECT currentDatabase()"), "system")
    for compression in (False, True, "lz4", "gzip"):
        c = client(database="shop", compress=compression, username="anyone", password="anything")
        c.command("CREATE OR REPLACE TABLE numbers (n UInt64) ENGINE = Memory")
        c.insert("numbers", [[n] for n in range(50000)], column_names=["n"])
        equal(c.query("SELECT sum(n) FROM numbers").result_rows, [(50000 * 49999 // 2,)])


main = client(database="shop")
queries(main)
inserts(main)
errors(main)
sessions()
other_clients()
print("all proven")
