"""
Open FITS files that were checked to be whole, and take HDUs and columns from them.

Whatever is wrong with a file becomes a `NativeFileError` here, so that no survey delivers
pixels that a broken download never held. Knows nothing of any survey.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import shutil
import tempfile
import warnings
import zlib
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from astropile.errors import NativeFileError

_GZIP, _BZIP2, _FITS = b"\x1f\x8b", b"BZh", b"SIMPLE  ="
"""How the three kinds of file begin."""


class FitsFile:
    """
    A FITS file that is whole: plain, tile-compressed (.fz), gzip or bzip2.

    A gzip or bzip2 file is unpacked into a temporary file, so that any part of it can be read
    at once and a broken one is found before its first value is used.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    NativeFileError
        If the file is absent, empty, no FITS file, or shorter than its headers say.

    Examples
    --------
    ::

        with FitsFile(path) as file:
            plate = file.header(0)["PLATEID"]
            flux = file.column("COADD", "flux")
    """

    def __init__(self, path: Path) -> None:
        from astropy.io import fits

        self.path = Path(path)
        self._handle = self._unpacked()
        try:
            # astropy only warns of a file that ends early; `_check_whole` refuses it.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.hdus: Any = fits.open(self._handle, lazy_load_hdus=False)
                self._check_whole()
        except (OSError, ValueError, TypeError, KeyError, IndexError) as error:
            self._handle.close()
            if isinstance(error, NativeFileError):
                raise
            raise self.error("a whole FITS file", f"{type(error).__name__}: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; arrays already taken stay good."""
        self.hdus.close()
        self._handle.close()

    def error(self, expected: str, found: str) -> NativeFileError:
        """
        Make the error of this file.

        Parameters
        ----------
        expected, found : str
            What was looked for and what came instead.

        Returns
        -------
        NativeFileError
            To be raised by the caller.
        """
        return NativeFileError(str(self.path), expected, found)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Name of every HDU, in order; empty where it has none."""
        return tuple(hdu.name for hdu in self.hdus)

    def has(self, key: int | str) -> bool:
        """
        Tell whether there is such an HDU.

        Parameters
        ----------
        key : int or str
            Number from 0, or name in any case.

        Returns
        -------
        bool
            Whether there is.
        """
        if isinstance(key, int):
            return 0 <= key < len(self.hdus)
        return key.upper() in (name.upper() for name in self.names)

    def hdu(self, *keys: int | str) -> Any:
        """
        Give the first of some HDUs that is there.

        Parameters
        ----------
        *keys : int or str
            Numbers from 0, or names in any case, in order of preference.

        Returns
        -------
        astropy HDU
            The HDU.

        Raises
        ------
        NativeFileError
            If none of them is there.
        """
        for key in keys:
            if self.has(key):
                return self.hdus[key]
        wanted = " or ".join(repr(key) for key in keys)
        raise self.error(f"HDU {wanted}", f"{len(self.hdus)} HDUs named {list(self.names)}")

    def header(self, *keys: int | str) -> Any:
        """
        Give the header of the first of some HDUs that is there.

        Parameters
        ----------
        *keys : int or str
            As for `hdu`.

        Returns
        -------
        astropy.io.fits.Header
            The header.
        """
        return self.hdu(*keys).header

    def value(self, key: int | str, keyword: str) -> Any:
        """
        Give the value of a header keyword that must be there.

        Parameters
        ----------
        key : int or str
            As for `hdu`.
        keyword : str
            The keyword.

        Returns
        -------
        Any
            Its value.

        Raises
        ------
        NativeFileError
            If the HDU or the keyword is missing.
        """
        header = self.header(key)
        if keyword not in header:
            raise self.error(f"keyword {keyword} in HDU {key!r}", "no such keyword")
        return header[keyword]

    def image(self, *keys: int | str, rows: slice | None = None) -> NDArray[Any]:
        """
        Give the pixels of an image HDU.

        Parameters
        ----------
        *keys : int or str
            As for `hdu`.
        rows : slice, optional
            Which rows (the first axis of the array); only these are read. All by default.

        Returns
        -------
        ndarray
            A little-endian copy, scaled as the header says.

        Raises
        ------
        NativeFileError
            If the HDU is missing, holds no image, or cannot be unpacked.
        """
        hdu = self.hdu(*keys)
        if not hdu.is_image:
            raise self.error(f"an image in HDU {keys[0]!r}", type(hdu).__name__)
        try:
            data = hdu.data if rows is None else hdu.section[rows]
        except MemoryError:
            raise
        # A broken tile raises whatever its codec likes, from a private module of astropy.
        except Exception as error:
            raise self.error(f"an image in HDU {keys[0]!r}", str(error)) from error
        if data is None:
            raise self.error(f"an image in HDU {keys[0]!r}", "no data")
        return little_endian(data)

    def columns(self, *keys: int | str) -> tuple[str, ...]:
        """
        Name the columns of a table HDU.

        Parameters
        ----------
        *keys : int or str
            As for `hdu`.

        Returns
        -------
        tuple of str
            Names as spelled in the file.

        Raises
        ------
        NativeFileError
            If the HDU is missing or holds no table.
        """
        hdu = self.hdu(*keys)
        if hdu.is_image:
            raise self.error(f"a table in HDU {keys[0]!r}", type(hdu).__name__)
        return tuple(hdu.columns.names)

    def column(
        self,
        key: int | str | tuple[int | str, ...],
        name: str,
        rows: slice | NDArray[np.int64] | None = None,
    ) -> NDArray[Any]:
        """
        Give a column of a table HDU.

        Parameters
        ----------
        key : int, str or tuple of these
            As for `hdu`; a tuple gives several to choose from.
        name : str
            Name of the column, in any case; an exact match comes first.
        rows : slice or ndarray of int64, optional
            Which rows; all by default.

        Returns
        -------
        ndarray
            A little-endian copy, scaled as the header says; strings as bytes without the
            blanks that pad them. A column of variable length comes as an array of objects.

        Raises
        ------
        NativeFileError
            If the HDU or the column is missing.
        """
        keys = key if isinstance(key, tuple) else (key,)
        known = self.columns(*keys)
        if name not in known:
            same = [other for other in known if other.upper() == name.upper()]
            if not same:
                raise self.error(f"column {name!r} in HDU {keys[0]!r}", f"columns {list(known)}")
            name = same[0]
        hdu = self.hdu(*keys)
        # The column first, its rows then: to take rows of a table costs a header's worth of work.
        part = slice(None) if rows is None else rows
        raw = hdu.data.view(np.ndarray)[name]
        # Text straight from the bytes: astropy would decode each string for nothing.
        if raw.dtype.kind == "S" and type(hdu).__name__ == "BinTableHDU":
            return strip(np.array(raw[part]), leading=False)
        values = hdu.data.field(name)[part]
        if values.dtype.kind == "O":
            return np.array(values, dtype=object)
        return little_endian(values)

    def _unpacked(self) -> IO[bytes]:
        """Open the file, unpacked if it is compressed as a whole."""
        try:
            handle: IO[bytes] = self.path.open("rb")
        except OSError as error:
            raise self.error("a FITS file", error.strerror or str(error)) from error
        start = handle.read(len(_FITS))
        handle.seek(0)
        unpack: Any = None
        if start.startswith(_GZIP):
            unpack = gzip.open
        elif start.startswith(_BZIP2):
            unpack = bz2.open
        if unpack is not None:
            with tempfile.NamedTemporaryFile() as whole:
                try:
                    with contextlib.closing(handle), unpack(handle) as packed:
                        shutil.copyfileobj(packed, whole, 1 << 20)
                except (EOFError, OSError, zlib.error) as error:
                    raise self.error("a whole compressed file", str(error)) from error
                whole.flush()
                # Opened again to be read only; the name goes, the open file stays.
                handle = Path(whole.name).open("rb")  # noqa: SIM115
            start = handle.read(len(_FITS))
            handle.seek(0)
        if start != _FITS:
            handle.close()
            found = "an empty file" if not start else f"a file that starts with {start!r}"
            raise self.error("a FITS file", found)
        return handle

    def _check_whole(self) -> None:
        """Refuse a file that ends before its last HDU does, or amid a header."""
        size = self._handle.seek(0, 2)
        place = self.hdus[-1].fileinfo()
        end = place["datLoc"] + place["datSpan"]
        if size < end:
            raise self.error("a FITS file as long as its headers say", f"{size} of {end} bytes")
        self._handle.seek(end)
        if self._handle.read(8) == b"XTENSION":
            raise self.error("a whole FITS file", f"a broken header at byte {end}")


def little_endian(values: Any) -> NDArray[Any]:
    """
    Copy an array into the byte order stored.

    Parameters
    ----------
    values : array_like
        Values in any byte order.

    Returns
    -------
    ndarray
        A contiguous little-endian copy.
    """
    array = np.asarray(values)
    return np.array(array, dtype=array.dtype.newbyteorder("<"), order="C", subok=False)


def strip(values: Any, *, leading: bool = True) -> NDArray[np.bytes_]:
    """
    Take the padding off strings.

    Parameters
    ----------
    values : array_like of bytes or str
        Strings.
    leading : bool
        Take blanks in front off too (numbers written to the right).

    Returns
    -------
    ndarray of bytes
        The strings without blanks and NUL at their ends; no narrower than one byte.
    """
    array = np.asarray(values)
    if array.dtype.kind == "U":
        array = np.char.encode(array, "utf-8")
    width = max(array.dtype.itemsize, 1)
    stripped = np.char.rstrip(array, b" \x00")
    if leading:
        stripped = np.char.lstrip(stripped, b" ")
    return stripped.astype(f"S{width}")
