"""The standard view of a small survey that uses every kind of alias."""

import numpy as np
import pyarrow as pa
import pytest

from astropile.arrow import to_numpy
from astropile.errors import FormatError, SchemaError, UnknownColumnError
from astropile.schema import (
    BadPixels,
    Column,
    Constant,
    Formula,
    Ragged,
    Record,
    RecordList,
    Stack,
    Survey,
)
from astropile.view import (
    Leaf,
    ListOf,
    Struct,
    arrow_type,
    columns_needed,
    standard_records,
    standard_table,
    unify,
    view_names,
    view_type,
)

DOC = "A column."
FACTS = {
    "project": "TOY",
    "survey": "Toy",
    "release": "DR1",
    "subset": "dr1",
    "title": "",
    "description": "",
    "homepage": "",
    "citation": "",
    "licence": "unknown",
}


def _survey(columns, aliases, **facts):
    needed = (
        Column("ID", "int64", DOC),
        Column("RA", "float64", DOC, unit="deg"),
        Column("DEC", "float64", DOC, unit="deg"),
    )
    base = {"object_id": "ID", "observation_id": "ID", "ra": "RA", "dec": "DEC"}
    return Survey(
        name="toy", columns=(*needed, *columns), aliases={**base, **aliases}, **{**FACTS, **facts}
    )


def _common(n):
    ids = np.arange(n, dtype=np.int64) + 2**60
    return {
        "ID": ids,
        "RA": np.linspace(-5.0, 5.0, n),
        "DEC": np.linspace(0.0, 1.0, n),
        "object_id": ids,
        "observation_id": ids,
        "ra": np.linspace(-5.0, 5.0, n) % 360.0,
        "dec": np.linspace(0.0, 1.0, n),
        "healpix": np.full(n, 1171),
    }


def _rows(survey, columns, n, names=None):
    table = standard_table(survey, {**_common(n), **columns}, n, names)
    table.validate(full=True)
    expected = pa.schema(
        [(name, arrow_type(node)) for name, node in view_type(survey, names).items()]
    )
    assert table.schema == expected
    return standard_records(table)


IMAGES = _survey(
    (
        Column("CUTOUT", "float32", DOC, shape=(2, 3, 4), unit="nanomaggy"),
        Column("MASK", "uint8", DOC, shape=(2, 3, 4), bits={"SAT": 1, "EDGE": 7}),
        Column("SEEING_G", "float32", DOC, unit="arcsec"),
        Column("SEEING_R", "float32", DOC, unit="arcsec"),
        Column("A_G", "float64", DOC),
        Column("FLUX", "float32", DOC, shape=(2,)),
        Column("NAME", "S4", DOC),
        Column("OK", "bool", DOC),
    ),
    {
        "image": RecordList(
            {
                "array": "CUTOUT",
                "mask": BadPixels("MASK", bits=("EDGE",)),
                "psf_fwhm": Stack(("SEEING_G", Formula("2 * SEEING_R"))),
                "filter": Constant(("g", "r")),
                "pixel_size": Constant(0.25),
                "units": Constant("nanomaggy"),
                "extra": Record({"flux": "FLUX", "note": Constant((None, "x"))}),
            }
        ),
        "mag": Formula("22.5 - A_G", dtype="float64", unit="mag"),
    },
)


def _image_columns(n):
    rng = np.random.default_rng(1)
    return {
        "CUTOUT": rng.normal(size=(n, 2, 3, 4)).astype("<f4"),
        "MASK": rng.integers(0, 256, (n, 2, 3, 4)).astype("u1"),
        "SEEING_G": np.arange(n, dtype="<f4"),
        "SEEING_R": np.arange(n, dtype="<f4") + 1,
        "A_G": np.arange(n, dtype="<f8"),
        "FLUX": rng.normal(size=(n, 2)).astype("<f4"),
        "NAME": np.array([text.encode() for text in ("é", " b ", "")[:n]], "S4"),
        "OK": np.arange(n) % 2 == 0,
    }


def test_names_come_in_order_and_each_native_column_is_shown_once():
    """Provenance, common, aliases, then what no alias shows as it is."""
    assert view_names(IMAGES) == (
        *("provenance", "object_id", "observation_id", "ra", "dec", "healpix", "image", "mag"),
        *("MASK", "SEEING_R", "A_G", "NAME", "OK"),
    )


def test_types_say_dtype_shape_and_unit():
    """A record list is one struct per entry, without the entries' dimension."""
    kinds = view_type(IMAGES)
    assert kinds["provenance"] == Struct(
        {"project": Leaf("string"), "survey": Leaf("string"), "release": Leaf("string")}
    )
    assert kinds["ra"] == Leaf("float64", unit="deg")
    assert kinds["object_id"] == Leaf("int64")
    assert kinds["MASK"] == Leaf("uint8", (2, 3, 4))
    assert kinds["mag"] == Leaf("float64", unit="mag")
    image = kinds["image"]
    assert isinstance(image, ListOf)
    assert isinstance(image.item, Struct)
    assert dict(image.item.fields) == {
        "array": Leaf("float32", (3, 4), "nanomaggy"),
        "mask": Leaf("bool", (3, 4)),
        "psf_fwhm": Leaf("float32", (), "arcsec"),
        "filter": Leaf("string"),
        "pixel_size": Leaf("float32", (), "arcsec"),
        "units": Leaf("string"),
        "extra": Struct({"flux": Leaf("float32"), "note": Leaf("string", nullable=True)}),
    }


def test_images_are_the_columns_values():
    """Every field of every band equals its column, dtype and bits kept."""
    columns = _image_columns(3)
    for row, record in enumerate(_rows(IMAGES, columns, 3)):
        assert record["provenance"] == {"project": "TOY", "survey": "Toy", "release": "DR1"}
        assert record["object_id"] == 2**60 + row
        assert record["object_id"].dtype == np.int64
        assert 0 <= record["ra"] < 360
        assert len(record["image"]) == 2
        for band, image in enumerate(record["image"]):
            assert image["array"].dtype == np.float32
            np.testing.assert_array_equal(image["array"], columns["CUTOUT"][row, band])
            np.testing.assert_array_equal(image["mask"], columns["MASK"][row, band] >= 128)
            assert image["psf_fwhm"] == (row, 2 * (row + 1))[band]
            assert image["filter"] == "gr"[band]
            assert image["pixel_size"] == np.float32(0.25)
            assert image["extra"]["flux"] == columns["FLUX"][row, band]
            assert image["extra"]["note"] == (None, "x")[band]
        assert record["mag"] == 22.5 - row
        assert record["OK"] == (row % 2 == 0)
        assert record["OK"].dtype == bool
    assert [r["NAME"] for r in _rows(IMAGES, columns, 3, ["NAME"])] == ["é", " b ", ""]


def test_no_copy_of_pixels():
    """The Arrow buffer of an image column is the numpy array itself."""
    columns = {**_common(3), **_image_columns(3)}
    table = standard_table(IMAGES, columns, 3, ["image"])
    pixels = table.column("image").chunk(0).values.field("array").values.values
    assert pixels.buffers()[1].address == columns["CUTOUT"].ctypes.data


def test_no_objects_give_the_whole_schema():
    """An empty table has the same types."""
    assert _rows(IMAGES, _image_columns(0), 0) == []


def test_columns_needed_are_those_of_the_names():
    """Reading is projected to what a name is made of; native names work as well."""
    assert columns_needed(IMAGES, ["mag", "ra"]) == ("A_G", "ra")
    assert columns_needed(IMAGES, ["provenance"]) == ()
    assert columns_needed(IMAGES, ["RA"]) == ("RA",)
    assert columns_needed(IMAGES)[:5] == ("object_id", "observation_id", "ra", "dec", "healpix")
    assert set(columns_needed(IMAGES)[5:]) == set(IMAGES.column_names) - {"ID", "RA", "DEC"}


def test_unknown_name_is_named():
    """With the nearest one."""
    with pytest.raises(UnknownColumnError, match=r"no column 'imaeg'.*did you mean 'image'"):
        standard_table(IMAGES, {}, 0, ["imaeg"])


def test_native_name_of_an_alias_gives_the_native_values():
    """What an alias shows is also found by the survey's own name, unwrapped."""
    (record,) = _rows(IMAGES, _image_columns(1), 1, ["RA", "CUTOUT"])
    assert record["RA"] == -5.0
    assert record["CUTOUT"].shape == (2, 3, 4)


CUBES = _survey(
    (
        Column("CFLUX", "float32", DOC, shape=("spaxel", 5)),
        Column("WAVE", "float64", DOC, shape=(5,), unit="Angstrom", shared=True),
        Column("CX", "int16", DOC, shape=("spaxel",)),
        Column("USE", "bool", DOC, shape=("spaxel",)),
        Column("SCALE", "float32", DOC),
        Column("MAPS", "float32", DOC, shape=(2, "row", "col")),
        Column("IVARS", "float32", DOC, shape=(2, "row", "col")),
        Column("PSF", "float32", DOC, shape=("row", "col")),
        Column("GOOD", "bool", DOC, shape=("row", "col")),
        Column("TAGS", "S3", DOC, shape=("tag",)),
    ),
    {
        "spaxels": RecordList(
            {
                "flux": "CFLUX",
                "lambda": "WAVE",
                "x": "CX",
                "scaled": Formula("CFLUX * SCALE + WAVE * 0"),
                "pixel_size": "SCALE",
            },
            where="USE",
        ),
        "images": (
            RecordList({"label": Constant(("vel", "sig")), "data": "MAPS", "ivar": "IVARS"}),
            Record({"label": Constant("psf"), "data": "PSF", "mask": BadPixels("GOOD", good=True)}),
        ),
        "half": Formula("CX / 2"),
        "stacked": Stack(("CX", "CX")),
    },
)


def _cube_columns():
    rng = np.random.default_rng(2)
    spaxels, shapes = (3, 0, 2), ((2, 3), (1, 1), (4, 2))

    def ragged(make, *, flat=False):
        return Ragged.of([make(i) for i in range(3)], flat=flat)

    return {
        "CFLUX": ragged(lambda i: rng.normal(size=(spaxels[i], 5)).astype("<f4")),
        "WAVE": np.arange(5.0) + 3600,
        "CX": ragged(lambda i: np.arange(spaxels[i], dtype="<i2") + 10 * i),
        "USE": ragged(lambda i: np.arange(spaxels[i]) != 1),
        "SCALE": np.array([1, 2, 3], "<f4"),
        "MAPS": ragged(lambda i: rng.normal(size=(2, *shapes[i])).astype("<f4"), flat=True),
        "IVARS": ragged(lambda i: rng.normal(size=(2, *shapes[i])).astype("<f4"), flat=True),
        "PSF": ragged(lambda i: rng.normal(size=shapes[i]).astype("<f4"), flat=True),
        "GOOD": ragged(lambda i: rng.random(shapes[i]) > 0.5, flat=True),
        "TAGS": ragged(lambda i: np.array([b"a", b"bc", b""][: i + 1], "S3")),
    }


def _check_cubes(records, columns):
    for row, record in enumerate(records):
        used = columns["USE"][row]
        assert len(record["spaxels"]) == used.sum()
        for spaxel, place in zip(record["spaxels"], np.flatnonzero(used), strict=True):
            flux = columns["CFLUX"][row][place]
            np.testing.assert_array_equal(spaxel["flux"], flux)
            np.testing.assert_array_equal(spaxel["lambda"], columns["WAVE"])
            assert spaxel["x"] == columns["CX"][row][place]
            np.testing.assert_array_equal(spaxel["scaled"], flux * columns["SCALE"][row])
            assert spaxel["pixel_size"] == columns["SCALE"][row]
        assert [image["label"] for image in record["images"]] == ["vel", "sig", "psf"]
        for place in (0, 1):
            image = record["images"][place]
            np.testing.assert_array_equal(image["data"], columns["MAPS"][row][place])
            np.testing.assert_array_equal(image["ivar"], columns["IVARS"][row][place])
            assert image["mask"] is None
        psf = record["images"][2]
        np.testing.assert_array_equal(psf["data"], columns["PSF"][row])
        np.testing.assert_array_equal(psf["mask"], ~columns["GOOD"][row])
        assert psf["ivar"] is None
        np.testing.assert_array_equal(record["half"], columns["CX"][row] / 2)
        np.testing.assert_array_equal(record["stacked"], [columns["CX"][row]] * 2)
        assert list(record["TAGS"]) == ["a", "bc", ""][: row + 1]


def test_ragged_columns_shared_axes_and_filters():
    """Spaxels in the field only, maps of several kinds in one list, all by object."""
    columns = _cube_columns()
    _check_cubes(_rows(CUBES, columns, 3), columns)


def test_types_of_ragged_columns():
    """Lengths that vary are None; fields that some records lack may be null."""
    kinds = view_type(CUBES)
    spaxel = kinds["spaxels"].item.fields
    assert spaxel["flux"] == Leaf("float32", (5,))
    assert spaxel["lambda"] == Leaf("float64", (5,), "Angstrom")
    assert spaxel["x"] == Leaf("int16")
    image = kinds["images"].item.fields
    assert image["data"] == Leaf("float32", (None, None))
    assert image["mask"] == Leaf("bool", (None, None), nullable=True)
    assert kinds["TAGS"] == Leaf("string", (None,))
    assert kinds["stacked"] == Leaf("int16", (2, None))


def test_more_values_than_arrow_addresses_come_in_pieces(monkeypatch):
    """Objects are split until 32-bit offsets reach; the rows stay the same."""
    monkeypatch.setattr("astropile.arrow.MAX_VALUES", 20)
    columns = _cube_columns()
    table = standard_table(CUBES, {**_common(3), **columns}, 3)
    assert table.column("spaxels").num_chunks > 1
    _check_cubes(standard_records(table), columns)


def test_text_that_is_not_utf8_is_refused():
    """With the column's name."""
    columns = _image_columns(1) | {"NAME": np.array([b"\xff\xfe"], "S4")}
    with pytest.raises(FormatError, match="column 'NAME' of survey toy: expected UTF-8"):
        _rows(IMAGES, columns, 1)


def test_missing_bit_and_wrong_number_of_entries_are_refused():
    """A survey whose aliases do not fit its columns says so."""
    survey = _survey(
        (Column("M", "int32", DOC, shape=(2,), bits={"A": 31}),),
        {"bad": BadPixels("M", bits=("A",)), "worse": BadPixels("M", bits=("Q",))},
    )
    (record,) = _rows(survey, {"M": np.array([[-(2**31), 1]], "<i4")}, 1, ["bad"])
    assert record["bad"].tolist() == [True, False]
    with pytest.raises(SchemaError, match="bit Q"):
        _rows(survey, {"M": np.zeros((1, 2), "<i4")}, 1, ["worse"])
    survey = _survey(
        (Column("X", "int32", DOC, shape=(2,)),),
        {"list": RecordList({"x": "X", "band": Constant(("g", "r", "i"))})},
    )
    with pytest.raises(SchemaError, match="one value for each of 2 entries"):
        view_type(survey)


def test_shared_columns_are_every_objects():
    """A column given once comes with each object, alone and in a record."""
    survey = _survey(
        (
            Column("W", "float64", DOC, shape=(3,), shared=True),
            Column("BAND", "S1", DOC, shape=(2,), shared=True),
            Column("F", "float32", DOC, shape=(2, 3)),
        ),
        {
            "spectrum": RecordList({"flux": "F", "lambda": "W", "band": "BAND"}),
            "wide": Formula("F * W"),
            "nothing": Constant(None),
        },
    )
    columns = {
        "W": np.array([1.0, 2.0, 3.0]),
        "BAND": np.array([b"b", b"r"]),
        "F": np.arange(12, dtype="<f4").reshape(2, 2, 3),
    }
    records = _rows(survey, columns, 2, ["spectrum", "W", "wide", "nothing"])
    assert [s["band"] for s in records[1]["spectrum"]] == ["b", "r"]
    assert records[1]["spectrum"][1]["lambda"].tolist() == [1.0, 2.0, 3.0]
    assert records[0]["W"].tolist() == [1.0, 2.0, 3.0]
    np.testing.assert_array_equal(records[1]["wide"], columns["F"][1] * columns["W"])
    assert records[0]["nothing"] is None


def test_unify_holds_the_values_of_both():
    """Numbers widen without losing digits, sizes that differ vary, kinds that differ fail."""
    assert unify(Leaf("int32"), Leaf("int64"), "x") == Leaf("int64")
    assert unify(Leaf("int64"), Leaf("uint64"), "x") == Leaf("string")
    assert unify(Leaf("int64"), Leaf("string"), "x") == Leaf("string")
    assert unify(Leaf("float32", (2, 3), "Jy"), Leaf("float32", (2, 4)), "x") == Leaf(
        "float32", (2, None)
    )
    assert unify(Struct({"a": Leaf("bool")}), Struct({"b": Leaf("int8")}), "x") == Struct(
        {"a": Leaf("bool", nullable=True), "b": Leaf("int8", nullable=True)}
    )
    with pytest.raises(SchemaError, match="'x' in the same field"):
        unify(Leaf("int32", (2,)), ListOf(Struct({"a": Leaf("int8")})), "x")


def test_arrow_values_with_nulls_keep_dtype_and_null():
    """A missing number is None, the others keep their dtype; rows of unequal length are lists."""
    values = to_numpy(pa.array([1, None, 2**63 - 1], pa.int64()))
    assert values == [1, None, 2**63 - 1]
    assert values[2].dtype == np.int64
    (rows,) = to_numpy(pa.array([[[1.0], [2.0, 3.0]]], pa.list_(pa.list_(pa.float32()))))
    assert [row.tolist() for row in rows] == [[1.0], [2.0, 3.0]]
    assert rows[0].dtype == np.float32
    table = pa.table({"x": pa.array([[{"a": [1.0]}], None, []])})
    assert [r["x"] for r in standard_records(table)][1:] == [None, []]


def test_entries_that_are_all_kept_are_not_copied():
    """Where `where` holds for every entry, images lie over the memory that was read."""
    survey = _survey(
        (
            Column("IMAGE", "float32", DOC, shape=(2, 8, 8)),
            Column("THERE", "bool", DOC, shape=(2,)),
        ),
        {"image": RecordList({"array": "IMAGE"}, where="THERE")},
    )
    values = np.arange(3 * 2 * 64, dtype="<f4").reshape(3, 2, 8, 8)
    there = np.ones((3, 2), bool)
    for whole in (True, False):
        there[1, 0] = whole
        table = standard_table(survey, {"IMAGE": values, "THERE": there}, 3, ["image"])
        array = table["image"].chunk(0).values.field(0)
        while not pa.types.is_floating(array.type):
            array = array.storage if isinstance(array, pa.ExtensionArray) else array.values
        assert (array.buffers()[1].address == values.ctypes.data) is whole
        found = [len(record) for record in table["image"].to_pylist()]
        assert found == [2, 1 + whole, 2]
        np.testing.assert_array_equal(array.to_numpy().reshape(-1, 8, 8), values[there])
