"""FITS files: whole or refused."""

import bz2
import gzip

import numpy as np
import pytest
from astropy.io import fits

from astropile.errors import NativeFileError
from astropile.surveys._fits import FitsFile, little_endian, strip


def hdus() -> fits.HDUList:
    values = np.random.default_rng(1).normal(size=(50, 60)).astype("f4")
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column("flux", "E", array=[1.0, 2.0, 3.0]),
            fits.Column("NAME", "6A", array=[b"ab    ", b"", b"  cd  "]),
            fits.Column("ID", "K", bzero=2**63, array=np.array([1, 2, 2**63 + 5], dtype="u8")),
            fits.Column("OK", "L", array=[True, False, True]),
        ],
        name="COADD",
    )
    packed = fits.CompImageHDU(values, name="PACKED", compression_type="GZIP_2", quantize_level=0)
    return fits.HDUList([fits.PrimaryHDU(np.arange(4, dtype="u2")), table, packed])


@pytest.fixture
def path(tmp_path):
    hdus().writeto(tmp_path / "whole.fits")
    return tmp_path / "whole.fits"


@pytest.mark.parametrize("pack", [None, gzip.compress, bz2.compress])
def test_values_come_little_endian_whatever_the_packing(path, pack):
    """Columns and images are the file's values in native types, packed or not."""
    if pack is not None:
        path.write_bytes(pack(path.read_bytes()))
    with FitsFile(path) as file:
        assert file.names == ("PRIMARY", "COADD", "PACKED")
        flux = file.column("COADD", "FLUX")
        name, number, ok = (file.column(1, key) for key in ("name", "id", "ok"))
        image = file.image("packed")
        first = file.image(0)
    assert flux.dtype == "<f4"
    assert flux.tolist() == [1.0, 2.0, 3.0]
    assert name.tolist() == [b"ab", b"", b"  cd"]
    assert number.dtype == "<u8"
    assert number.tolist() == [1, 2, 2**63 + 5]
    assert ok.tolist() == [True, False, True]
    assert first.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(image, hdus()["PACKED"].data)


def test_no_length_of_a_cut_file_gives_values_that_were_not_there(path):
    """A file cut anywhere is refused when opened, or when the lost HDU is asked for."""
    whole = path.read_bytes()
    with FitsFile(path) as file:
        flux, image = file.column("COADD", "flux"), file.image("PACKED")
    for length in range(0, len(whole), 479):
        path.write_bytes(whole[:length])
        found = []
        try:
            with FitsFile(path) as file:
                found.append(file.column("COADD", "flux"))
                found.append(file.image("PACKED"))
        except NativeFileError:
            pass
        assert len(found) < 2
        for value, expected in zip(found, (flux, image), strict=False):
            np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_a_cut_compressed_file_is_refused(path, pack):
    """A compressed file that ends early, or is damaged, is refused when opened."""
    packed = pack(path.read_bytes())
    middle = len(packed) // 2
    for content in (packed[:-9], packed[:middle], packed[:middle] + b"#" * 9 + packed[middle:]):
        path.write_bytes(content)
        with pytest.raises(NativeFileError):
            FitsFile(path)


@pytest.mark.parametrize("content", [b"", b"SIMPLE", b"<html>", b"SIMPLE  =" + b" " * 4000])
def test_what_is_no_fits_file_is_refused(path, content):
    """An empty file, a web page or a stray start of a header is refused."""
    path.write_bytes(content)
    with pytest.raises(NativeFileError, match="FITS file"):
        FitsFile(path)


def test_an_absent_file_is_refused(tmp_path):
    """A file that is not there, or is a folder, is refused with its path."""
    with pytest.raises(NativeFileError, match=r"nothing\.fits"):
        FitsFile(tmp_path / "nothing.fits")
    with pytest.raises(NativeFileError):
        FitsFile(tmp_path)


def test_errors_say_what_is_there(path):
    """What is missing is named together with what there is."""
    with FitsFile(path) as file:
        with pytest.raises(NativeFileError, match="'SPALL' or 9, found 3 HDUs"):
            file.hdu("SPALL", 9)
        with pytest.raises(NativeFileError, match=r"column 'ivar'.*'flux', 'NAME'"):
            file.column("COADD", "ivar")
        with pytest.raises(NativeFileError, match="keyword PLATEID"):
            file.value(0, "PLATEID")
        with pytest.raises(NativeFileError, match="an image in HDU 'COADD'"):
            file.image("COADD")
        with pytest.raises(NativeFileError, match="a table in HDU 0"):
            file.columns(0)
        assert file.column(("SPALL", 1), "flux", slice(1, 3)).tolist() == [2.0, 3.0]


def test_small_helpers():
    """Byte order and padding are taken off without touching values."""
    assert little_endian(np.arange(3, dtype=">i4")).dtype == "<i4"
    assert little_endian(np.arange(3, dtype=">i4")).tolist() == [0, 1, 2]
    assert strip(np.array([b"  12 ", b"\x00", b""])).tolist() == [b"12", b"", b""]
    assert strip(np.array(["  a "]), leading=False).tolist() == [b"  a"]
