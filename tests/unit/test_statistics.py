"""Statistics of a tree: what numpy gives of the same values, kept with it, and resumed."""

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pytest

import astropile
import toy
from astropile.cli.main import main
from astropile.errors import FormatError, SampleError, UnknownColumnError
from astropile.schema import Column, Record
from astropile.statistics import (
    Statistics,
    compute_statistics,
    open_statistics,
    save_statistics,
    statistics_path,
    update_statistics,
)
from astropile.statistics.flatten import field_values
from astropile.testing.server import serve

N = 40


def build(folder, seed=1, **options):
    batch = toy.make_batch(N, seed=seed)
    batch["Z"][::7] = np.nan
    toy.write_native(folder / "native" / "a.npz", batch)
    facts = {"order": 0, "shard_nbytes": 400_000, "progress": False, **options}
    astropile.build_catalog(toy.SURVEY, folder / "native", folder / "toy", **facts)
    return batch


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("statistics")
    return folder / "toy", build(folder)


@pytest.fixture
def catalog(built):
    return astropile.open_catalog(built[0])


@pytest.fixture
def own(tmp_path):
    """A tree that the test may change."""
    build(tmp_path)
    return tmp_path / "toy"


def agree(statistic, values, n_missing=0, n_masked=0):
    """Equal to what numpy gives of the values."""
    exact = values.astype(np.float64)
    assert statistic.count == len(values)
    assert (statistic.n_missing, statistic.n_masked) == (n_missing, n_masked)
    assert (statistic.minimum, statistic.maximum) == (values.min(), values.max())
    assert statistic.mean == pytest.approx(exact.mean(), rel=1e-12, abs=1e-13)
    assert statistic.std == pytest.approx(exact.std(), rel=1e-12)
    shares = np.array([0.25, 0.5, 0.75])
    low, high = (
        np.quantile(exact, shares + sign * statistic.sketch.rank_error, method="inverted_cdf")
        for sign in (-1, 1)
    )
    found = statistic.quantile(shares)
    assert ((low <= found) & (found <= high)).all()


def test_a_whole_tree_is_as_numpy_has_it(catalog, built):
    """Scalars, images by band with their mask, spectra and light curves, against the input."""
    batch = built[1]
    found = compute_statistics(catalog, block_nbytes=100_000)
    is_there = np.isfinite(batch["Z"])
    agree(found["z"].total, batch["Z"][is_there], n_missing=int((~is_there).sum()))
    assert found["z"].total.missing_fraction == 6 / 40
    bad = (batch["IMAGE_MASK"] & 3) > 0
    for k, name in enumerate("gr"):
        here = found["image.array"].channels[name]
        agree(here, batch["IMAGE"][:, k][~bad[:, k]], n_masked=int(bad[:, k].sum()))
    agree(found["image.array"].total, batch["IMAGE"][~bad], n_masked=int(bad.sum()))
    agree(found["spectrum.flux"].total, batch["FLUX"].ravel())
    agree(found["lightcurve.time"].total, np.concatenate(batch["LC_TIME"]))
    assert found["lightcurve.time"].n_objects == N
    assert found["lightcurve.time"].n_absent == sum(not len(x) for x in batch["LC_TIME"])
    agree(found["spectrum.extra.good"].total, batch["GOOD"].astype("u1"))
    assert found["image.array"].unit == "nanomaggy"
    assert not {"object_id", "healpix", "image.mask"} & set(found.fields)


def test_rows_of_a_split_alone_count(catalog, built):
    """Given rows, in any order or as booleans, nothing of the other rows comes in."""
    rows = np.array([30, 3, 17, 8, 9])
    found = compute_statistics(catalog, ["FLUX_R", "z"], rows=rows)
    taken = catalog.take(np.sort(rows), ["FLUX_R"])["FLUX_R"]
    agree(found["FLUX_R"].total, taken)
    assert found.n_objects == 5
    chosen = np.zeros(N, bool)
    chosen[rows] = True
    assert compute_statistics(catalog, ["FLUX_R", "z"], rows=chosen) == found
    others = compute_statistics(catalog, ["FLUX_R", "z"], rows=np.flatnonzero(~chosen))
    agree(others.merge(found)["FLUX_R"].total, built[1]["FLUX_R"])
    none = compute_statistics(catalog, ["z"], rows=[])
    assert (none.n_objects, none["z"].total.n_values) == (0, 0)


def test_workers_change_nothing(catalog):
    """Two processes give every bit that one gives, quantiles too."""
    one = compute_statistics(catalog, ["FLUX_R", "image"])
    two = compute_statistics(catalog, ["FLUX_R", "image"], workers=2)
    assert two.to_json() == one.to_json()


def test_a_sample_is_a_share_and_repeats(catalog):
    """A share of 0.5 looks at about half the objects, the same ones each time."""
    found = compute_statistics(catalog, ["FLUX_R"], sample=0.5, seed=3)
    assert 10 <= found.n_objects <= 30
    assert found == compute_statistics(catalog, ["FLUX_R"], sample=0.5, seed=3)
    assert found != compute_statistics(catalog, ["FLUX_R"], sample=0.5, seed=4)


def test_a_run_goes_on_where_it_stopped(own, tmp_path):
    """After a failure half way, shards that were done are not read again."""
    catalog = astropile.open_catalog(own)
    wanted = compute_statistics(catalog, ["FLUX_R"])
    first, last = catalog.shards[0].path, catalog.shards[-1].path
    away = tmp_path / "away"
    parts = tmp_path / "parts"
    last.rename(away)
    with pytest.raises((FormatError, OSError)):
        compute_statistics(astropile.open_catalog(own), ["FLUX_R"], parts=parts)
    kept = sorted(path.name for path in parts.glob("*/*"))
    assert len(kept) == len(catalog.shards) - 1
    (next(parts.glob("*")) / kept[1]).write_text("{}")  # such a part is made again
    away.rename(last)
    first.rename(away)
    assert compute_statistics(astropile.open_catalog(own), ["FLUX_R"], parts=parts) == wanted
    assert not list(parts.glob("*"))


def test_what_lies_beside_values_holds_for_them():
    """Masks, inverse variances and bands of a record, for each value or each record, and nulls."""
    curves = [
        {"flux": [1.0, 2.0, 9.0], "ivar": [1.0, 3.0, 0.0], "band": ["g", "r", "g"], "n": 1},
        None,
        {"flux": [4.0, None], "ivar": [1.0, 1.0], "band": ["r", "g"], "n": None},
        {"flux": [], "ivar": [], "band": [], "n": 3},
    ]
    maps = [
        [{"label": "a", "filter": None, "data": [[1, 2]], "mask": [[True, False]]}],
        [],
        None,
        [{"label": "b", "filter": None, "data": [[3], [4]], "mask": None}],
    ]
    kind = pa.struct({"flux": pa.list_(pa.float64()), "ivar": pa.list_(pa.float64())})
    kind = pa.struct([*kind, ("band", pa.list_(pa.string())), ("n", pa.int32())])
    entry = {"label": pa.string(), "filter": pa.string(), "data": pa.list_(pa.list_(pa.int64()))}
    entry["mask"] = pa.list_(pa.list_(pa.bool_()))
    table = pa.table(
        {
            "curve": pa.array(curves, kind),
            "maps": pa.array(maps, pa.list_(pa.struct(list(entry.items())))),
        }
    )
    found = {values.path: values for values in field_values(table)}
    assert set(found) == {"curve.flux", "curve.ivar", "curve.n", "maps.data"}
    flux = found["curve.flux"]
    assert flux.missing.tolist() == [False, False, False, False, True]
    assert flux.masked.tolist() == [False, False, True, False, False]
    assert [flux.channel_names[c] for c in flux.channels] == ["g", "r", "g", "r", "g"]
    assert (flux.n_objects, flux.n_absent) == (4, 2)
    assert found["curve.n"].missing.tolist() == [False, True, True, False]
    assert found["maps.data"].values.tolist() == [1, 2, 3, 4]
    assert found["maps.data"].n_absent == 2
    assert found["maps.data"].masked.tolist() == [True, False, False, False]
    assert not found["maps.data"].has_weight.any()
    assert flux.has_weight.all()
    assert [found["maps.data"].channel_names[c] for c in found["maps.data"].channels] == list(
        "aabb"
    )


def test_weights_are_inverse_variances(built):
    """A weighted mean counts each value by its ivar, in the statistics of a whole field."""
    survey = dataclasses.replace(
        toy.SURVEY,
        aliases={**toy.SURVEY.aliases, "spectrum": Record({"flux": "FLUX", "ivar": "WEIGHT"})},
        columns=(
            *toy.SURVEY.columns,
            Column("WEIGHT", "float32", "Inverse variance.", shape=("wave",)),
        ),
    )
    folder = built[0].parent / "weighted"
    rng = np.random.default_rng(0)
    batch = toy.make_batch(6, seed=4)
    batch["WEIGHT"] = np.maximum(rng.normal(1, 1, batch["FLUX"].shape), 0).astype("f4")
    toy.write_native(folder / "native" / "a.npz", batch)
    astropile.build_catalog(survey, folder / "native", folder / "toy", order=0, progress=False)
    found = compute_statistics(astropile.open_catalog(folder / "toy"), ["spectrum.flux"])
    flux, weight = (batch[name].astype(float) for name in ("FLUX", "WEIGHT"))
    mean = np.average(flux, weights=weight)
    std = np.sqrt(np.average((flux - mean) ** 2, weights=weight))
    scaling = found.normalizer("spectrum.flux", weighted=True)
    assert scaling.center == pytest.approx(mean, rel=1e-11)
    assert scaling.scale == pytest.approx(std, rel=1e-12)
    assert found["spectrum.flux"].total.n_masked == (weight == 0).sum()
    agree(found["spectrum.flux"].total, batch["FLUX"][weight > 0], n_masked=(weight == 0).sum())


def test_a_normalizer_is_plain_arrays(catalog, built):
    """Mean and deviation, or median and quartiles, for all or for each band in the order asked."""
    found = compute_statistics(catalog, ["image.array", "FLUX_R", "image.pixel_size"])
    flux = built[1]["FLUX_R"].astype(float)
    plain = found.normalizer("FLUX_R")
    assert plain.center.shape == plain.scale.shape == ()
    np.testing.assert_allclose(plain, [flux.mean(), flux.std()], rtol=1e-12)
    low, middle, high = np.quantile(flux, [0.25, 0.5, 0.75], method="inverted_cdf")
    robust = found.normalizer("FLUX_R", robust=True)
    np.testing.assert_allclose(robust, [middle, 0.7413011 * (high - low)], rtol=1e-6)
    bands = found.normalizer("image.array", channels=["r", "g"])
    each = [found["image.array"].channels[name] for name in "rg"]
    assert bands.center.tolist() == [one.mean for one in each]
    assert bands.scale.tolist() == [one.std for one in each]
    assert found.normalizer("image.pixel_size") == (0.25, 1.0)
    for options, sentence in [
        ({"path": "FLUX"}, "field: expected one of FLUX_R"),
        ({"path": "image.array", "channels": ["z"]}, "expected one of 'g', 'r', found 'z'"),
        ({"path": "FLUX_R", "weighted": True}, "expected inverse variances beside it, found none"),
        ({"path": "FLUX_R", "weighted": True, "robust": True}, "expected robust or weighted"),
    ]:
        with pytest.raises(SampleError, match=sentence):
            found.normalizer(**options)


def test_they_are_kept_with_the_tree_until_it_changes(own, tmp_path):
    """Read back equal, here and over HTTP; those of another snapshot are noticed."""
    with pytest.raises(SampleError, match="as `astropile stats` makes, found none"):
        open_statistics(own)
    catalog = astropile.open_catalog(own)
    found = compute_statistics(catalog, ["z", "image.array"])
    path = save_statistics(found, statistics_path(catalog.path))
    back = open_statistics(own)
    assert back.to_json() == found.to_json()
    assert open_statistics(path) == found
    with serve(own) as server:
        assert open_statistics(f"{server.url}/main").to_json() == found.to_json()
    assert main(["validate", str(own), "--quiet"]) == 0
    assert main(["verify", str(own), "--quiet"]) == 0
    build(tmp_path, seed=2, overwrite=True)
    save_statistics(found, path)
    with pytest.raises(SampleError, match="expected those of the snapshot"):
        open_statistics(own)
    assert open_statistics(own, stale=True) == found


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fields", {"z": {}}),
        ("statistics_format", "99"),
        ("fields", {"z": {"unit": "", "n_objects": 1, "n_absent": 0, "channels": {"": {"a": 1}}}}),
    ],
)
def test_a_damaged_file_is_refused(catalog, tmp_path, name, value):
    """Whatever is wrong in it, the error names the file or the part."""
    path = save_statistics(compute_statistics(catalog, ["z"]), tmp_path / "z.json")
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, name: value}))
    with pytest.raises(FormatError, match=r"z\.json"):
        open_statistics(path)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(FormatError, match="expected JSON"):
        open_statistics(path)


def test_a_damaged_sketch_is_refused(catalog):
    """One whose values do not add up is not taken for a sketch."""
    facts = compute_statistics(catalog, ["z"]).to_json()
    facts["fields"]["z"]["channels"][""]["sketch"]["n"] += 1
    with pytest.raises(FormatError, match="expected values that stand for 35, found 34"):
        Statistics.from_json(facts)


def test_what_is_there_is_not_gathered_again(own):
    """Columns add up; a tree without its shards still shows what was gathered."""
    catalog = astropile.open_catalog(own)
    update_statistics(catalog, ["z"])
    both = update_statistics(catalog, ["FLUX_R"])
    assert set(both.fields) == {"z", "FLUX_R"}
    assert open_statistics(own) == both
    for shard in catalog.shards:
        shard.path.unlink()
    again = astropile.open_catalog(own)
    assert update_statistics(again, ["z"]) == both
    assert update_statistics(again, ["z"], sample=0.1) == both
    with pytest.raises(SampleError, match="expected statistics of the sample"):
        update_statistics(again, ["mag"], sample=0.1)
    assert open_statistics(own) == both


def test_wrong_arguments_are_named(catalog):
    """A column without numbers or a share of nothing is refused before anything is read."""
    with pytest.raises(UnknownColumnError, match=r"did you mean 'spectrum.flux'"):
        compute_statistics(catalog, ["spectrum.fluxx"])
    with pytest.raises(UnknownColumnError, match="NAME"):
        compute_statistics(catalog, ["NAME"])
    with pytest.raises(SampleError, match="sample: expected above 0, at most 1, found 0"):
        compute_statistics(catalog, sample=0)
    with pytest.raises(SampleError, match="workers: expected at least 1, found 0"):
        compute_statistics(catalog, workers=0)


def test_the_command_prints_a_table_and_json(own, capsys):
    """One line per field and band, sorted; the same numbers as JSON; kept in the tree."""
    assert main(["stats", str(own), "--columns", "z,image.array"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "toy/main: 40 objects"
    assert lines[2].split()[:3] == ["field", "channel", "unit"]
    assert [line.split()[:2] for line in lines[3:5]] == [["image.array", "g"], ["image.array", "r"]]
    assert lines[5].split()[:5] == ["z", "34", "15", "%", "-"]
    assert main(["stats", str(own), "--columns", "z", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)["subsets"][0]
    assert list(facts["fields"]) == ["z"]
    one = facts["fields"]["z"]["channels"][""]
    assert (one["n_values"], one["n_missing"]) == (40, 6)
    assert one["mean"] == open_statistics(own)["z"].total.mean
    assert not list((own / "main" / "statistics").glob(".*"))


def test_the_command_reads_what_a_url_keeps(own, tmp_path, capsys):
    """Shown if it is there; else gathered into a file that is named."""
    with serve(own) as server:
        url = f"{server.url}/main"
        assert main(["stats", url, "--columns", "z"]) == 3
        assert "expected a file to write them to" in capsys.readouterr().err
        file = tmp_path / "here.json"
        assert main(["stats", url, "--columns", "z", "-o", str(file)]) == 0
        update_statistics(astropile.open_catalog(own), ["z"])
        assert main(["stats", url, "--columns", "z"]) == 0
    assert open_statistics(file).to_json() == open_statistics(own).to_json()


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["--sample", "2"], 2, "--sample is above 0 and at most 1, not 2.0"),
        (["--workers", "0"], 2, "--workers is at least 1, not 0"),
        (["--columns", "zz"], 3, "no column 'zz'"),
    ],
)
def test_a_wrong_command_line_is_one_sentence(built, capsys, words, status, sentence):
    """Status and sentence tell what is wrong, and nothing is written."""
    assert main(["stats", str(built[0]), *words]) == status
    assert sentence in capsys.readouterr().err
    assert not (built[0] / "main" / "statistics").exists()
