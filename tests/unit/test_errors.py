"""Every error carries its facts and says one sentence."""

import pickle

import pytest

from astropile import errors

ALL = [
    errors.SchemaError("FLUX", "float32 (n, 7781)", "float32 (3, 5)", "toy-001.fits"),
    errors.NativeFileError("a.fits", "the HDU 'COADD'", "PRIMARY, SPALL"),
    errors.BuildError("tree/main", "it exists already"),
    errors.FormatError("astropile.json", "JSON", "HTML"),
    errors.UntrustedFileError("shard.hdf5, ra", "data in the file itself", "virtual storage"),
    errors.FormatVersionError("astropile.json", "format 1.0", "'9.0'"),
    errors.TreeNotFoundError("/nowhere", "there is no such folder"),
    errors.UnknownSurveyError("dessi", ("desi", "hsc")),
    errors.UnknownColumnError("FLUXX", "toy/main", ("FLUX", "IVAR")),
    errors.MatchError("match_radius", "a number of arcsec >= 0", "-1.0"),
    errors.SampleError("fractions", "shares that add up to 1", "0.9"),
    errors.QueryError("z >", "syntax error"),
    errors.DownloadError("dest/main", "it is another subset"),
    errors.IntegrityError("a.hdf5, block 3", "the SHA-256 of its manifest", "another"),
    errors.StoreError("http://127.0.0.1/hsc/a.hdf5", "bytes 0-9", "503 Service Unavailable"),
    errors.MissingExtraError("a figure", "plot"),
]


def test_all_are_here():
    """No subclass is left out of this page."""

    def subclasses(kind):
        return {kind}.union(*(subclasses(sub) for sub in kind.__subclasses__()))

    public = {kind for kind in subclasses(errors.AstroPileError) if kind.__name__[0] != "_"}
    assert public - {errors.AstroPileError} == {type(e) for e in ALL}


@pytest.mark.parametrize("error", ALL, ids=lambda e: type(e).__name__)
def test_pickles(error):
    """An error raised in another process arrives whole."""
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert back.args == error.args
    assert str(back) == str(error)
    assert "\n" not in str(error)


def test_sentences():
    """The sentence names the nearest thing there is."""
    assert str(ALL[7]) == ("no survey named 'dessi'; did you mean 'desi'? Known surveys: desi, hsc")
    assert str(ALL[0]) == (
        "column 'FLUX' in toy-001.fits: expected float32 (n, 7781), found float32 (3, 5)"
    )
