"""Claims about queries: SELECT works, everything else is refused, and nothing is ever written."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import re
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.config import TrainConfig, TrialConfig
from core.errors import InputError, StoreError
from core.schedule_terms import ScheduleConfig
from studies.formats import FORMS, formatted
from studies.query import check_query, run_query
from studies.query_process import close_off
from studies.store import Store
from studies.views import Views
from studies.watchers import resolved
from tests.studies.rows import metrics, of_config, recorded, segment, trial

TRIALS = [trial(seed=s) for s in (0, 1)] + [trial("shift", seed=s, switch=0.5) for s in (0, 1)]

REFUSED = [
    "",
    ";",
    "-- nothing",
    "SELEC 1",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP VIEW trials",
    "DROP VIEW trials",
    "DROP TABLE _metrics",
    "CREATE TABLE t AS SELECT 1",
    "CREATE OR REPLACE VIEW trials AS SELECT 1",
    "CREATE MACRO f(x) AS x",
    "ALTER VIEW trials RENAME TO t",
    "INSERT INTO trials VALUES (1)",
    "UPDATE trials SET seed = 0",
    "DELETE FROM trials",
    "TRUNCATE trials",
    "WITH x AS (DELETE FROM trials RETURNING *) SELECT * FROM x",
    "WITH x AS (INSERT INTO trials VALUES (1) RETURNING *) SELECT * FROM x",
    "COPY trials TO '{dir}/out.parquet'",
    "COPY (SELECT 1) TO '{dir}/out.csv'",
    "COPY trials FROM '{part}'",
    "EXPORT DATABASE '{dir}/out'",
    "IMPORT DATABASE '{dir}'",
    "ATTACH '{dir}/out.db'",
    "DETACH memory",
    "USE memory",
    "INSTALL httpfs",
    "LOAD httpfs",
    "PRAGMA database_list",
    "SET enable_external_access = true",
    "RESET lock_configuration",
    "SET VARIABLE x = 1",
    "CALL pragma_version()",
    "CALL enable_logging()",
    "EXPLAIN SELECT 1",
    "EXPLAIN ANALYZE SELECT 1",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "BEGIN",
    "CHECKPOINT",
    "VACUUM",
    "DESCRIBE trials",
    "SHOW TABLES",
    "SUMMARIZE trials",
    "SELECT * FROM (DESCRIBE trials)",
    "PIVOT trials ON arm USING count(*)",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('{part}')",
    "SELECT * FROM read_parquet('{part}')",
    "SELECT * FROM parquet_metadata('{part}')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM '{part}'",
    "SELECT * FROM '/etc/passwd'",
    'SELECT * FROM "{part}"',
    "SELECT (SELECT count(*) FROM read_csv('/etc/passwd'))",
    "SELECT * FROM trials WHERE EXISTS (FROM '/etc/passwd')",
    "WITH a AS (SELECT * FROM glob('*')) SELECT * FROM a",
    "SELECT 1 UNION ALL SELECT count(*) FROM '{part}'",
    "SELECT * FROM trials, LATERAL (SELECT * FROM glob('*'))",
    "SELECT * FROM secret",
    "SELECT * FROM TRIALS_OF_MINE",
    "SELECT * FROM _trials",
    "SELECT * FROM _metrics",
    "SELECT * FROM _drops",
    "SELECT * FROM _switches JOIN trials USING (trial_id)",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM pragma_database_size()",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM pg_catalog.pg_class",
    "SELECT * FROM other.trials",
    "SELECT * FROM query('SELECT 1')",
    "SELECT * FROM query_table('trials')",
    "SELECT * FROM json_execute_serialized_sql('x')",
    "SELECT * FROM python_map_function()",
    "SELECT getenv('HOME')",
    "SELECT current_setting('memory_limit')",
    "SELECT getvariable('x')",
    "SELECT nextval('s')",
    "SELECT write_log('x')",
    "SELECT pg_sleep(100)",
    "SELECT sleep_ms(100000)",
    "SELECT " + "(" * 5000 + "1" + ")" * 5000,
    "SELECT 1\0",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("query")
    Store.open(place / "store", create=True).commit(recorded(TRIALS))
    return place


@pytest.fixture
def ask(place):
    def ask(sql: str, **limits: float) -> pa.Table:
        return run_query(TRIALS, Store.open(place / "store"), sql, **limits)

    return ask


def digests(place: Path) -> dict[str, str]:
    files = (path for path in place.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("sql", REFUSED, ids=[sql[:60].replace("\0", "0") for sql in REFUSED])
def test_what_is_not_one_select_over_the_views_is_refused_and_writes_nothing(place, monkeypatch, sql):
    monkeypatch.chdir(place)
    secret = pa.table({"x": [1]})  # a variable that DuckDB would find by its name
    before = digests(place)
    part = next((place / "store" / "parts" / "metrics").iterdir())
    with pytest.raises(InputError) as error:
        check_query(sql.replace("{dir}", str(place)).replace("{part}", str(part)))
    assert str(error.value).strip()
    assert secret.num_rows == 1
    assert digests(place) == before


def test_there_are_forty_of_them_at_least():
    assert len(set(REFUSED)) >= 40


READS_OWN = tuple(f"{word}'{{part}}'" for word in ("read_blob(", "read_parquet(", "parquet_metadata(", "FROM "))
READS_OWN += ('FROM "{part}"',)
"""What the second wall lets through: the rows are read from those very files."""
FILES = [sql for sql in REFUSED if "{part}" in sql or "/etc/passwd" in sql or "TO '{dir}" in sql or "ATTACH" in sql]
FILES = [sql for sql in FILES if not any(own in sql for own in READS_OWN)]


@pytest.mark.parametrize("sql", [*FILES, "SET enable_external_access = true", "RESET lock_configuration"])
def test_the_second_wall_stands_without_the_first(place, sql):
    """What would get past the check of the syntax tree finds a connection without access to files."""
    part = next((place / "store" / "parts" / "metrics").iterdir())
    before = digests(place)
    views = Views(TRIALS, Store.open(place / "store"))
    close_off(views.connection, views.files)
    text = sql.replace("{dir}", str(place)).replace("{part}", str(part))
    with pytest.raises(duckdb.Error):
        views.connection.execute(text).fetchall()
    views.close()
    assert digests(place) == before


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(DISTINCT trial_id) AS n FROM trials JOIN metrics USING (trial_id) WHERE metrics.step = 100",
        "SELECT json_extract(config, '$.train.batch')::BIGINT // 16 AS n FROM trials LIMIT 1",
        "VALUES (4)",
    ],
)
def test_selects_are_answered(ask, sql):
    assert ask(sql).column(0).to_pylist() == [4]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) AS n FROM trials",
        "FROM trials SELECT count(*) AS n",
        "select count(*) as n from Trials; ",
        "WITH a AS (SELECT * FROM trials) SELECT count(*) AS n FROM a /* of all */",
        "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t WHERE n < 4) SELECT max(n) AS n FROM t",
        "SELECT count(*) AS n FROM main.trials",
        "SELECT count(*) AS n FROM range(4)",
        "SELECT count(*) AS n FROM trials WHERE \"schedule.switch\" = 0.5 OR arm = 'looped'",
        "SELECT sum(n)::BIGINT AS n FROM (SELECT count(*) OVER () / 4 AS n FROM trials)",
    ],
)
def test_a_select_in_any_form_passes_both_walls(place, sql):
    check_query(sql)
    views = Views(TRIALS, Store.open(place / "store"))
    close_off(views.connection, views.files)
    assert views.connection.execute(sql).fetchall() == [(4,)]
    views.close()


def test_a_query_that_is_wrong_says_what_is_wrong_on_few_lines(ask):
    with pytest.raises(InputError, match="nope") as error:
        ask("SELECT nope FROM trials")
    assert "LINE 1" not in str(error.value)
    with pytest.raises(InputError, match="two columns"):
        ask("SELECT 1 AS a, 2 AS a")


BOMBS = {
    "recursion": "WITH RECURSIVE t AS (SELECT 1 n UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t",
    "series": "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b",
    "rows": "SELECT * FROM generate_series(1, 1000000000000)",
    "list": "SELECT list(range) FROM range(10000000000)",
    "text, which no limit of DuckDB's stops": "SELECT length(rpad('x', 2000000000, 'y'))",
    "doubling": "WITH RECURSIVE t AS (SELECT 'xx' s UNION ALL SELECT s || s FROM t) SELECT length(s) FROM t",
    "distance, which no interrupt stops": "SELECT levenshtein(repeat('a', 1000000), repeat('b', 1000000))",
}


@pytest.mark.parametrize("sql", BOMBS.values(), ids=BOMBS)
def test_bombs_are_stopped_in_time_and_memory(ask, place, sql):
    before = digests(place)
    with pytest.raises(InputError, match=r"longer than 1 s|more memory than|larger than"):
        ask(sql, timeout_s=1.0, memory_bytes=256 << 20)
    assert digests(place) == before
    assert ask("SELECT count(*) FROM trials").column(0).to_pylist() == [4]


def test_a_trial_that_waits_for_a_criterion_goes_to_the_process_as_it_is(tmp_path):
    store = Store.open(tmp_path / "store", create=True)
    schedule = ScheduleConfig(kind="shift-scp", check_every=25, latest=80)
    config = TrialConfig(train=TrainConfig(steps=100, evaluate_every=25), schedule=schedule)
    one = of_config(config, "criterion", {})
    lineage = one.links[0].lineage
    store.commit(
        {
            "segments": [segment(lineage, 0, 30, evaluated=[0, 25], checked=[25])],
            "metrics": metrics(lineage, [0, 25]),
            "checks": [{"lineage": lineage, "step": 25, "val_loss": 1.0, "train_loss": 1.5, "grad_norm": None}],
        }
    )
    sql = "SELECT step, checks.val_loss, train_loss, grad_norm, status FROM checks JOIN trials USING (trial_id)"
    assert run_query(resolved([one], store), store, sql).to_pylist() == [
        {"step": 25, "val_loss": 1.0, "train_loss": 1.5, "grad_norm": None, "status": None}
    ]


def test_a_damaged_store_is_no_error_of_the_query(tmp_path):
    store = Store.open(tmp_path / "store", create=True)
    store.commit(recorded(TRIALS))
    next((store.root / "parts" / "metrics").iterdir()).unlink()
    with pytest.raises(StoreError, match="loopsweep verify"):
        run_query(TRIALS, store, "SELECT 1")


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ("river_share", "points in the view curves: WHERE quantity = 'river_share'"),
        ("c.kappa_valley", "points in the view curves: WHERE quantity = 'kappa_valley'"),
        ("eigenvalues", "points in the view curves: WHERE quantity = 'top_eigenvalue' or 'bottom_eigenvalue'"),
        ("spectrum", "rows in the view spectra"),
        ("loss_surface", "rows in the view surfaces"),
        ("gradient_curvature", "columns top_cosine, top_share"),
        (
            "val_loss_loops",
            "points in the view curves: WHERE quantity = 'val_loss_loops', "
            "and a column for each of measure.test_loops, as val_loss_loops_8",
        ),
    ],
)
def test_a_quantity_that_is_no_column_is_said_with_its_place(ask, column, said):
    """DuckDB names columns that look alike."""
    with pytest.raises(InputError) as raised:
        ask(f"SELECT {column} FROM curvature AS c")
    assert str(raised.value) == f"{column.removeprefix('c.')} is no column; it has {said}"


def test_other_columns_that_are_missed_have_their_near_names(ask):
    with pytest.raises(InputError, match=r"^there is no column val_los; near are val_loss, .*loopsweep tables"):
        ask("SELECT val_los FROM metrics")


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("SELCT 1", 'syntax error at or near "SELCT"; a query is one SELECT of DuckDB\'s SQL'),
        ("SELECT $x AS a", "no value is given for $x; add --set NAME=VALUE for each"),
        ("SELECT ? AS a", "parameters of a query have names; write $name for ? and add --set name=VALUE"),
        ("SELECT model.depth FROM trials", "stands in double quotes"),
        ('SELECT "train.lr" FROM metrics', "json_extract(config, '$.train.lr')"),
        ("SELECT CAST('x' AS INTEGER)", "Could not convert string 'x' to INT32"),
        ("SELECT '\udcff'", "a query is text in UTF-8"),
        ("DESCRIBE trials", "`loopsweep tables STUDY` describes the views"),
    ],
)
def test_what_is_wrong_is_one_line_without_the_name_of_an_exception(ask, sql, says):
    with pytest.raises(InputError) as raised:
        ask(sql)
    assert says in str(raised.value)
    assert not re.search(r"Error:|\n", str(raised.value))


# --- formats

RESULT = pa.table(
    {
        "name": ["a", 'b "c", \n\x1b[31m', None],
        "x": [0.1 + 0.2, 1e-300, None],
        "n": [2**62, -1, None],
        "bad": [math.nan, math.inf, 1.0],
        "map": pa.array([[("k", 1.5)], [], None], pa.map_(pa.string(), pa.float64())),
        "list": [[1, 2], [], None],
    }
)


def test_json_is_an_array_of_row_objects_with_every_digit_and_without_nan():
    text = formatted(RESULT, "json").decode()
    rows = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert [row["x"] for row in rows] == [0.1 + 0.2, 1e-300, None]
    assert [row["n"] for row in rows] == [2**62, -1, None]
    assert [row["bad"] for row in rows] == [None, None, 1.0]
    assert (rows[0]["map"], rows[0]["list"], rows[1]["map"]) == ({"k": 1.5}, [1, 2], {})
    assert json.loads(formatted(RESULT.slice(0, 0), "json")) == []


def test_csv_brings_back_the_same_doubles():
    rows = list(csv.DictReader(io.StringIO(formatted(RESULT, "csv").decode(), newline="")))
    assert [float(row["x"]) for row in rows[:2]] == [0.1 + 0.2, 1e-300]
    assert rows[1]["name"] == 'b "c", \n\x1b[31m'
    assert rows[2]["x"] == ""


def test_parquet_keeps_types():
    back = pq.read_table(io.BytesIO(formatted(RESULT, "parquet")))
    assert back.schema.equals(RESULT.schema)
    assert back.drop_columns("bad").equals(RESULT.drop_columns("bad"))


def test_a_table_shows_all_rows_and_no_control_characters():
    text = formatted(RESULT, "table").decode()
    assert len(text.splitlines()) == 2 + RESULT.num_rows
    assert "\x1b" not in text


WORDS = pa.table(
    {
        "id": ["3f9a" * 4, "77c0" * 4],
        "x": [0.1 + 0.2, 1e-300],
        "method": pa.array([[("λ", "lanczos × 3")], [("λ", "exact " * 40)]], pa.map_(pa.string(), pa.string())),
        "config": ["{" + "y" * 300 + "}", "short"],
    }
)


@pytest.mark.parametrize("form", ["table", "csv"])
def test_texts_in_cells_are_readable_and_whole(form):
    text = formatted(WORDS, form).decode()
    assert "lanczos × 3" in text
    assert "exact " * 40 in text
    assert "y" * 300 in text
    assert "…" not in text


def test_only_long_texts_are_cut_and_only_where_the_terminal_is_narrower():
    whole = formatted(WORDS, "table").decode()
    assert formatted(WORDS, "table", width=1000).decode() == whole
    lines = formatted(WORDS, "table", width=100).decode().splitlines()
    assert max(map(len, lines)) <= 100
    assert all(word in lines[2] for word in ("3f9a" * 4, "0.30000000000000004", "lanczos × 3", "yyy…"))
    assert "exact" in lines[3]
    assert lines[3].endswith("short")
    narrow = formatted(WORDS, "table", width=10).decode()
    assert "0.30000000000000004" in narrow
    assert "3f9a3f9a3f9…" in narrow


def test_spans_of_time_are_texts_in_every_form():
    spans = pa.array([pa.MonthDayNano([1, 3, 62_500_000_000]), pa.MonthDayNano([0, 0, 0]), None])
    result = pa.table({"span": spans})
    words = ["1 month 3 days 00:01:02.5", "00:00:00", None]
    assert [row["span"] for row in json.loads(formatted(result, "json"))] == words
    assert pq.read_table(io.BytesIO(formatted(result, "parquet")))["span"].to_pylist() == words
    with pytest.raises(InputError, match="parquet cannot hold the result"):
        formatted(pa.table({"spans": pa.array([[spans[0]]], pa.list_(pa.month_day_nano_interval()))}), "parquet")


def test_an_unknown_format_is_refused():
    assert "parquet" in FORMS
    with pytest.raises(InputError, match="'csv'"):
        formatted(RESULT, "cvs")


def test_results_of_wide_sums_and_times_have_a_form(ask):
    result = ask(
        "SELECT sum(seed) AS s, TIMESTAMPTZ '2026-01-02 03:04:05+00' AS t, 1.50::DECIMAL(9,2) AS d FROM trials"
    )
    assert json.loads(formatted(result, "json")) == [{"s": 2, "t": "2026-01-02T03:04:05+00:00", "d": 1.5}]
