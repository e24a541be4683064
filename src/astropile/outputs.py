"""
Rows as the objects that astronomers work with: tables with units, images, spectra.

What is read is what the tree holds; here it only gets units, text and containers. The optional
packages are imported where they are used.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from astropile.arrow import to_numpy
from astropile.errors import MissingExtraError, SchemaError, UnknownColumnError
from astropile.hdf5.writer import COMMON
from astropile.manifest import Root
from astropile.names import COMMON_COLUMNS, FIELD_UNITS
from astropile.schema import Column, Ragged
from astropile.view import Leaf, ListOf, Struct, standard_records, view_names, view_type

IMAGE_NAMES: Final = ("image", "images")
"""Standard names of lists of images; the first that a survey has is taken."""

SPECTRUM_NAME: Final = "spectrum"

_PIXELS: Final = ("array", "data")
"""Fields of an image that hold its pixels."""

_ROW: Final = "row"


class Outputs:
    """What a `Catalog` can give rows as."""

    path: Path
    root: Root

    if TYPE_CHECKING:  # What a catalog brings.

        def check_rows(self, rows: ArrayLike) -> NDArray[np.int64]: ...  # noqa: D102
        def standard(  # noqa: D102
            self, rows: ArrayLike, names: Sequence[str] | None = None
        ) -> pa.Table: ...
        def take(  # noqa: D102
            self,
            rows: ArrayLike,
            columns: Sequence[str] | None = None,
            *,
            out: Mapping[str, NDArray[Any]] | None = None,
        ) -> dict[str, NDArray[Any] | Ragged]: ...

    # -- tables

    def table(self, rows: ArrayLike, columns: Sequence[str] | None = None) -> Any:
        """
        Give rows as an astropy table with units.

        Parameters
        ----------
        rows : array_like of int or bool
            Row numbers in any order, or one boolean per object.
        columns : sequence of str, optional
            Native and common columns, and standard names that are not records; by default all
            native columns.

        Returns
        -------
        astropy.table.QTable
            One row per object, in the order of `rows`. Numbers with a unit are quantities of
            their own dtype, text is str; a column whose shape varies holds one array per row; a
            column that all objects share stands in every row, read-only, and takes no memory.

        Raises
        ------
        UnknownColumnError
            If a column is not there.
        SchemaError
            If a standard name is a record.
        IndexError
            If a row is not there.
        """
        from astropy.table import Column as TableColumn
        from astropy.table import QTable
        from astropy.units import Quantity

        chosen = self.check_rows(rows)
        made: dict[str, Any] = {}
        for name, column, values in self._values(chosen, columns):
            unit = _unit(column.unit)
            if isinstance(values, list):
                whole = values if not column.unit else [_quantity(v, unit) for v in values]
                made[name] = TableColumn(_objects(whole))
            elif column.unit and values.dtype.kind in "iuf":
                made[name] = Quantity(values, unit, dtype=values.dtype, copy=False)
            else:
                made[name] = TableColumn(values, copy=False)
            made[name].info.description = column.doc
        return QTable(made, meta=self._facts(), copy=False)

    def to_pandas(self, rows: ArrayLike, columns: Sequence[str] | None = None) -> Any:
        """
        Give rows as a pandas data frame.

        Parameters
        ----------
        rows : array_like of int or bool
            Row numbers in any order, or one boolean per object.
        columns : sequence of str, optional
            As for `table`.

        Returns
        -------
        pandas.DataFrame
            One row per object, its index the row numbers. A column with more than one number per
            object holds one array per row. ``attrs["units"]`` has the units.

        Raises
        ------
        MissingExtraError
            If pandas is not installed.
        UnknownColumnError, SchemaError, IndexError
            As for `table`.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingExtraError("a pandas data frame", "pandas") from error
        chosen = self.check_rows(rows)
        made: dict[str, Any] = {}
        units: dict[str, str] = {}
        for name, column, values in self._values(chosen, columns):
            single = isinstance(values, np.ndarray) and values.ndim == 1
            made[name] = values if single else _objects(list(values))
            units[name] = column.unit
        frame = pd.DataFrame(made, index=pd.Index(chosen, name=_ROW))
        frame.attrs.update(self._facts(), units=units)
        return frame

    def to_arrow(self, rows: ArrayLike, columns: Sequence[str] | None = None) -> pa.Table:
        """
        Give rows as an Arrow table.

        Parameters
        ----------
        rows : array_like of int or bool
            Row numbers in any order, or one boolean per object.
        columns : sequence of str, optional
            Native and common columns and standard names, records too; by default all native
            columns.

        Returns
        -------
        pyarrow.Table
            One row per object; arrays as lists of lists, text as str. The metadata of a native or
            common column's field has its ``unit`` and ``description``.

        Raises
        ------
        UnknownColumnError
            If a column is not there.
        IndexError
            If a row is not there.
        """
        survey = self.root.survey
        table = self.standard(rows, survey.column_names if columns is None else columns)
        facts = {column.name: column for column in (*COMMON, *survey.columns)}
        fields = []
        for field in table.schema:
            if field.name in facts:
                column = facts[field.name]
                facts_of = {"unit": column.unit, "description": column.doc}
                fields.append(field.with_metadata(facts_of))
            else:
                fields.append(field)
        return table.cast(pa.schema(fields, metadata=self._facts()))

    def to_dataset(self, rows: ArrayLike, columns: Sequence[str] | None = None) -> Any:
        """
        Give rows as a Hugging Face dataset, none of them read yet.

        Parameters
        ----------
        rows : array_like of int or bool
            Row numbers in any order, repeated or not, or one boolean per object.
        columns : sequence of str, optional
            Standard names, and native columns; by default all standard names.

        Returns
        -------
        datasets.Dataset
            One example per row, in the order of `rows`, as `load_dataset` gives them. Nothing is
            copied, nothing is written: examples are read from the tree when asked for, also after
            select, shuffle or pickling.

        Raises
        ------
        MissingExtraError
            If `datasets` is not installed.
        UnknownColumnError
            If a column is not there.
        IndexError
            If a row is not there.
        """
        # Datasets stand on catalogs: what is above is looked up when it is wanted.
        hf: Any = importlib.import_module("astropile.hf")
        return hf.load_dataset(self, rows=self.check_rows(rows), columns=columns)

    def _values(
        self, rows: NDArray[np.int64], columns: Sequence[str] | None
    ) -> Iterator[tuple[str, Column, Any]]:
        """Read columns: name, facts, and an array of n values or a list of n arrays."""
        survey = self.root.survey
        names = list(dict.fromkeys(survey.column_names if columns is None else columns))
        stored = (*COMMON_COLUMNS, *survey.column_names)
        unknown = [name for name in names if name not in stored and name not in survey.aliases]
        if unknown:
            raise UnknownColumnError(unknown[0], self._place, view_names(survey))
        native: dict[str, str] = {}
        for name in names:
            source = name if name in stored else survey.aliases[name]
            if isinstance(source, str):
                native[name] = source
        facts = {column.name: column for column in (*COMMON, *survey.columns)}
        taken = self.take(rows, list(native.values())) if native else {}
        for name in names:
            if name in native:
                column = facts[native[name]]
                yield name, column, _plain(taken[native[name]], len(rows), shared=column.shared)
            else:
                yield name, *self._standard_values(rows, name)

    def _standard_values(self, rows: NDArray[np.int64], name: str) -> tuple[Column, Any]:
        """Work out a standard name that is neither a column nor a record."""
        survey = self.root.survey
        node = view_type(survey, [name])[name]
        if not isinstance(node, Leaf):
            raise SchemaError(name, "a number, text or array per object", "records", self._place)
        values = to_numpy(self.standard(rows, [name])[name])
        doc = getattr(survey.aliases[name], "doc", "") or f"Standard name {name}."
        column = Column(name, "S1" if node.dtype in ("string", "null") else node.dtype, doc)
        return Column(name, column.dtype, doc, unit=node.unit), _stacked(values)

    @property
    def _place(self) -> str:
        return f"{self.root.survey.name}/{self.root.subset}"

    def _facts(self) -> dict[str, str]:
        """Say where rows come from, and what is due to whoever made them."""
        survey = self.root.survey
        facts = {**survey.provenance, "subset": self.root.subset, "snapshot": self.root.snapshot}
        return {**facts, "licence": survey.licence, "citation": survey.citation}

    # -- objects

    def images(self, row: int, name: str | None = None) -> list[Any]:
        """
        Give the images of an object, one per band.

        Parameters
        ----------
        row : int
            Row number.
        name : str, optional
            Standard name of the images, where a survey has more than one kind.

        Returns
        -------
        list of astropy.nddata.CCDData
            Pixels with their unit; `uncertainty` where the survey has inverse variances or
            errors; `mask` True where a pixel is bad. The header has ``FILTER``, ``PSF_FWHM``
            and what else the survey says of the image (units in the comments), the object's
            ``OBJECT_ID``, ``RA`` and ``DEC``, and ``PROJECT``, ``SURVEY``, ``RELEASE``.

        Raises
        ------
        UnknownColumnError
            If the survey has no images.
        IndexError
            If the row is not there.
        """
        from astropy.nddata import CCDData, InverseVariance, StdDevUncertainty

        survey = self.root.survey
        known = tuple(alias for alias in IMAGE_NAMES if alias in survey.aliases)
        chosen = name or (known[0] if known else IMAGE_NAMES[0])
        if chosen not in survey.aliases:
            raise UnknownColumnError(chosen, self._place, known or tuple(survey.aliases))
        kind = view_type(survey, [chosen])[chosen]
        item = kind.item if isinstance(kind, ListOf) else None
        if not isinstance(item, Struct) or not any(field in item.fields for field in _PIXELS):
            raise SchemaError(chosen, "a list of images", "something else", self._place)
        example = self._example(row, chosen)
        images = []
        for entry in example[chosen]:
            fields = dict(entry)
            pixels = next(fields.pop(field) for field in _PIXELS if field in fields)
            unit, ivar, err, mask = (fields.pop(f, None) for f in ("units", "ivar", "err", "mask"))
            uncertainty = None
            if ivar is not None:
                uncertainty = InverseVariance(ivar)
            elif err is not None:
                uncertainty = StdDevUncertainty(err)
            header = _header({**fields, **_identity(example), **survey.provenance})
            images.append(
                CCDData(
                    np.asarray(pixels),
                    unit=_unit(unit or ""),
                    uncertainty=uncertainty,
                    mask=None if mask is None else np.asarray(mask, bool),
                    meta=header,
                )
            )
        return images

    def spectrum(self, row: int) -> Any:
        """
        Give the spectrum of an object.

        Parameters
        ----------
        row : int
            Row number.

        Returns
        -------
        specutils.Spectrum
            Flux and wavelengths with their units, the inverse variance as `uncertainty`, `mask`
            True where a pixel is bad, and the redshift where it is known. `meta` has the other
            fields of the record, the object's identifiers and position, and the provenance.

        Raises
        ------
        UnknownColumnError
            If the survey has no spectra.
        MissingExtraError
            If specutils is not installed.
        IndexError
            If the row is not there.
        """
        try:
            from specutils import Spectrum
        except ImportError as error:
            raise MissingExtraError("a specutils spectrum", "specutils") from error
        from astropy.nddata import InverseVariance

        survey = self.root.survey
        if SPECTRUM_NAME not in survey.aliases:
            raise UnknownColumnError(SPECTRUM_NAME, self._place, tuple(survey.aliases))
        has_redshift = "z" in survey.aliases
        names = [SPECTRUM_NAME, "z"] if has_redshift else [SPECTRUM_NAME]
        example = self._example(row, *names)
        kind = view_type(survey, [SPECTRUM_NAME])[SPECTRUM_NAME]
        assert isinstance(kind, Struct)
        fields = _quantities(example[SPECTRUM_NAME], kind)
        ivar, mask = fields.pop("ivar", None), fields.pop("mask", None)
        redshift = float(np.nan if example.get("z") is None else example["z"])
        meta = {**fields, **_identity(example), **survey.provenance}
        for fact in ("wavelength_medium", "wavelength_frame"):
            if getattr(survey, fact):
                meta[fact] = getattr(survey, fact)
        return Spectrum(
            flux=meta.pop("flux"),
            spectral_axis=meta.pop("lambda"),
            uncertainty=None if ivar is None else InverseVariance(ivar),
            mask=None if mask is None else np.asarray(mask, bool),
            redshift=redshift if np.isfinite(redshift) else None,
            meta=meta,
        )

    def _example(self, row: int, *names: str) -> dict[str, Any]:
        table = self.standard([row], [*names, "object_id", "observation_id", "ra", "dec"])
        return standard_records(table)[0]


def _plain(values: NDArray[Any] | Ragged, n: int, *, shared: bool) -> Any:
    """Give text as str, ragged values as a list, and a shared value n times over."""
    if isinstance(values, Ragged):
        return [_decoded(value) for value in values]
    if shared:
        return np.broadcast_to(_decoded(values), (n, *values.shape))
    return _decoded(values)


def _decoded(values: NDArray[Any]) -> NDArray[Any]:
    return np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values


def _stacked(values: Any) -> Any:
    """Make one array of arrays of one shape; leave others as a list."""
    if isinstance(values, np.ndarray):
        return values
    if all(isinstance(value, str) or value is None for value in values):
        return np.array(values, dtype=object if None in values else str)
    shapes = {np.shape(value) for value in values}
    return np.stack(values) if len(shapes) == 1 else list(values)


def _objects(values: Sequence[Any]) -> NDArray[Any]:
    """Make an array of objects without numpy looking into them."""
    whole = np.empty(len(values), object)
    for place, value in enumerate(values):
        whole[place] = value
    return whole


@cache
def _unit(text: str) -> Any:
    from astropy.units import Unit, UnrecognizedUnit, def_unit

    unit = Unit(text, parse_strict="silent")
    # What nobody can parse ("unknown") stays what it says, and converts to nothing else.
    return def_unit(text) if isinstance(unit, UnrecognizedUnit) else unit


def _quantity(values: Any, unit: Any) -> Any:
    from astropy.units import Quantity

    array = np.asarray(values)
    return (
        Quantity(array, unit, dtype=array.dtype, copy=False)
        if array.dtype.kind in "iuf"
        else (array)
    )


def _quantities(record: Mapping[str, Any], kind: Struct) -> dict[str, Any]:
    """Put units on the fields of a record."""
    found: dict[str, Any] = {}
    for name, value in record.items():
        node = kind.fields[name]
        if isinstance(node, Struct) and value is not None:
            found[name] = _quantities(value, node)
        elif isinstance(node, Leaf) and (node.unit or name in ("flux", "lambda", "ivar")):
            found[name] = _quantity(value, _unit(node.unit))
        else:
            found[name] = value
    return found


def _identity(example: Mapping[str, Any]) -> dict[str, Any]:
    names = ("object_id", "observation_id", "ra", "dec")
    return {name: getattr(example[name], "item", lambda v=example[name]: v)() for name in names}


def _header(values: Mapping[str, Any]) -> Any:
    """Write what a FITS header can hold: one number or text each, the unit in the comment."""
    from astropy.io.fits import Header

    header = Header()
    for name, value in values.items():
        plain = value.item() if isinstance(value, np.generic) else value
        if isinstance(plain, float) and not np.isfinite(plain):
            plain = None
        if isinstance(plain, str):
            plain = plain.encode("ascii", "backslashreplace").decode()
        if plain is None or isinstance(plain, bool | int | float | str):
            unit = FIELD_UNITS.get(name, "")
            key = name if len(name) <= 8 else f"HIERARCH {name}"
            header[key] = (plain, f"[{unit}]" if unit else "")
    return header
