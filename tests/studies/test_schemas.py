"""Claims about the declared tables."""

from __future__ import annotations

import pyarrow as pa
import pytest

from core.errors import InputError
from core.quantities import COLUMNS
from studies.metrics import metric
from studies.schemas import TABLES, table


@pytest.mark.parametrize("name", TABLES)
def test_every_column_says_its_class_and_meaning_in_the_field_metadata(name):
    for field in table(name).schema():
        assert field.metadata[b"class"] in (b"result", b"execution")
        assert field.metadata[b"doc"]


@pytest.mark.parametrize("name", TABLES)
def test_keys_are_columns_and_results(name):
    columns = {c.name: c for c in table(name).columns}
    assert all(columns[key].kind == "result" for key in table(name).key)


def test_numbers_are_float64_and_carry_units():
    schema = table("metrics").schema()
    assert all(f.type == pa.float64() for f in schema if pa.types.is_floating(f.type))
    assert schema.field("val_loss").metadata[b"unit"] == b"nats/token"
    assert schema.field("stage").metadata[b"unit"] == b""  # whoever reads units finds one of every column


def test_a_stratum_column_is_typed_by_its_family():
    column = table("metrics").column("val_accuracy_len_17")
    assert (column.type, column.unit, column.kind) == (pa.float64(), "fraction", "result")


@pytest.mark.parametrize(
    ("name", "near"), [("val_los", "val_loss"), ("traim_loss_x", "train_loss"), ("stratum", "known")]
)
def test_an_undeclared_column_is_refused_with_the_nearest(name, near):
    with pytest.raises(InputError, match=near):
        table("metrics").column(name)


def test_an_unknown_table_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="'metrics'"):
        table("metric")


@pytest.mark.parametrize("name", COLUMNS)
def test_each_number_of_a_measurement_is_a_column_and_a_metric(name):
    assert table("curvature").column(name).type == pa.float64()
    assert metric(name).unit
