"""
Match surveys on the sky and give what belongs together as a dataset.

The dataset is a list of row numbers over all sides: nothing is copied until someone reads a
row or saves it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import datasets
import numpy as np
import pyarrow as pa
from astropy.table import Table
from numpy.typing import NDArray

from astropile.catalog import Catalog
from astropile.errors import MatchError, UnknownColumnError
from astropile.hf.builder import TreeBuilder
from astropile.hf.dataset import lazy_dataset
from astropile.hf.describe import merged_info
from astropile.hf.origin import tree_rows
from astropile.hf.pairs import OWN_COLUMNS, PairRows
from astropile.hf.rows import TreeRows, as_numpy
from astropile.hf.source import Rows, RowSource
from astropile.hf.terms import told
from astropile.hf.views import ChosenRows, DatasetRows
from astropile.match.contents import Content, TableContent, TreeContent
from astropile.match.inputs import SkyTable, as_positions, open_side
from astropile.match.opening import NO_SIDE
from astropile.match.package import SHARD_NBYTES, SUBSET, save_tree
from astropile.match.sample import FindPairs, MatchedSample, match_surveys
from astropile.match.sides import Side, tree_provenance
from astropile.match.sureness import Errors
from astropile.names import COMMON_COLUMNS

if TYPE_CHECKING:
    from astropile.build import BuildReport


class _Two(NamedTuple):
    catalog: Table
    dataset: datasets.Dataset


class CrossMatch(_Two):
    """
    What `cross_match_datasets` gives: unpacks into two.

    Attributes
    ----------
    catalog : astropy.table.Table
        One line per pair: positions, separation, identifiers and row numbers of both sides.
    dataset : datasets.Dataset
        One example per pair, with everything both sides have; read when asked for.
    sample : MatchedSample
        The row numbers of each side, and the sides.
    """

    sample: MatchedSample

    @classmethod
    def of(cls, sample: MatchedSample, dataset: datasets.Dataset) -> Self:
        """
        Put together what a match gave.

        Parameters
        ----------
        sample : MatchedSample
            The match.
        dataset : datasets.Dataset
            Its rows with all their data.

        Returns
        -------
        CrossMatch
            Both.
        """
        made = cls(sample.catalog, dataset)
        made.sample = sample
        return made

    def save_tree(
        self,
        tree: str | os.PathLike[str],
        *,
        subset: str = SUBSET,
        order: int | None = None,
        layout: Literal["compact", "fast"] = "compact",
        shard_nbytes: int = SHARD_NBYTES,
        overwrite: bool = False,
        progress: bool | None = None,
    ) -> BuildReport:
        """
        Package the matched objects as a tree of their own: see `astropile.match.save_tree`.

        Parameters
        ----------
        tree : path
            The data folder; the subset is made in it.
        subset, order, layout, shard_nbytes, overwrite, progress
            As for `astropile.match.save_tree`.

        Returns
        -------
        BuildReport
            What was done.
        """
        return save_tree(
            self.sample,
            tree,
            subset=subset,
            order=order,
            layout=layout,
            shard_nbytes=shard_nbytes,
            overwrite=overwrite,
            progress=progress,
        )


def cross_match_datasets(
    left: Any,
    right: Any,
    *others: Any,
    match_radius: float = 1.0,
    flat: bool = False,
    find: FindPairs = "nearest",
    join: str = "inner",
    anchor: str | None = None,
    on: Mapping[str, str] | None = None,
    left_columns: Sequence[str] | None = None,
    right_columns: Sequence[str] | None = None,
    epochs: Mapping[str, float | str] | None = None,
    summary: bool = False,
    errors: Mapping[str, Errors] | None = None,
    **options: Any,
) -> CrossMatch:
    """
    Match two or more surveys on the sky.

    Parameters
    ----------
    left, right : DatasetBuilder, Dataset, Catalog, table or path
        What `load_dataset_builder`, `load_dataset` or `open_catalog` gave, the folder of a
        tree, or any map-style dataset with columns ``ra`` and ``dec`` [deg, ICRS]; or whatever
        else `astropile.match.as_positions` takes: tables of any library, files, HATS catalogues,
        here or behind a URL.
        The examples then have the table's rows, with ``ra`` and ``dec`` in degrees.
    *others : DatasetBuilder, Dataset, Catalog or path
        Further surveys. A number in third place is the radius.
    match_radius : float
        Largest accepted separation [arcsec], inclusive.
    flat : bool
        Give the columns of all sides side by side, each with its side's name behind it
        (``image_hsc``), instead of one record per side.
    find : {'nearest', 'all', 'mutual', 'best', 'best1', 'best2'}
        ``nearest``: the nearest right object of each left one. ``mutual``: pairs in which
        each is the nearest of the other. ``best``: the closest pair, the closest of those that
        share no object with it, and so on. Of two surveys also ``all``: every pair, and in
        the words of STILTS ``best1``: as ``nearest``, ``best2``: the nearest left object of
        each right one.
    join : str
        Which objects to keep: those with a counterpart in all surveys (``inner``), also
        those of the left side or anchor without one (``left``), also those of the others
        (``outer``); of two surveys also ``right``, or in the words of STILTS ``1and2``,
        ``1or2``, ``all1``, ``all2``, ``1not2``, ``2not1``, ``1xor2``.
    anchor : str, optional
        Name of the survey whose objects the others are matched with, if there are more than
        two surveys or `on` is given; by default the first.
    on : mapping of str to str, optional
        Match by equal identifiers, not by position: names of the surveys, the anchor among
        them, and the column of each that holds identifiers.
    left_columns, right_columns : sequence of str, optional
        Fields to keep of a side; by default all.
    epochs : mapping of str to float or str, optional
        When the positions of each survey hold [Julian year], or its column that says so for
        each row; where a survey is not named, its column ``ref_epoch``. Objects are then matched
        where they were seen, by the proper motions there are: see `astropile.match.match_moving`.
    summary : bool
        Also measure how much of the match is chance, for about ten times the cost of the match
        and all positions of both sides: `astropile.match.MatchSummary`, as a dict under
        ``summary`` of the catalogue's ``meta``, and the column ``chance_probability``: how
        likely an unrelated object lies as near. Of more than two surveys for each matched
        with the anchor by position: a dict by name, and columns ``chance_probability_<name>``.
    errors : mapping of str to float, str or tuple of str, optional
        With `summary`, standard errors of positions: of a survey one [arcsec], a column, or the
        columns of both coordinates; without a unit, arcseconds. Where a survey is not named, its
        columns of `astropile.match.inputs.ERROR_NAMES`. Where both sides have errors there is the
        column ``match_probability``: how likely the two are one object.
    **options : object
        Of whole trees: `memory_bytes`, `executor` and `progress`, as for `cross_match`.

    Returns
    -------
    CrossMatch
        ``catalog``: an `astropy.table.Table` with units; its ``meta`` states radius, sizes
        and provenance. ``dataset``: a `datasets.Dataset` of ``ra``, ``dec`` (mean direction
        of the two), ``healpix`` (NESTED, at the left side's order), ``separation`` and one
        record per side under its survey's name, or its name with ``_left`` and ``_right``
        where both are of one survey. A survey without a part in a row is null there, and
        masked in the catalogue. With more than two surveys, ``separation_<name>`` is the
        angle from the anchor's object; surveys of one name are told apart by ``_1``, ``_2``.

    Raises
    ------
    MatchError
        If the radius is negative, not finite or too large, a side has no positions, or the
        options do not go together.
    TypeError
        If a side or the radius is of no type that can be used.

    Notes
    -----
    Several left objects may have the same nearest right one: each gives a pair. Among right
    objects equally far the first wins. Without `epochs`, positions are compared as they are.
    Partitions, shards, the poles and right ascension 0 are no borders. With more than
    two surveys the result does not depend on the order of those beside the anchor: see
    `astropile.match.match_many`.

    Examples
    --------
    >>> hsc = load_dataset_builder("~/data/hsc")  # doctest: +SKIP
    >>> decals = load_dataset_builder("~/data/decals")  # doctest: +SKIP
    >>> catalog, dataset = cross_match_datasets(hsc, decals, match_radius=1.0)  # doctest: +SKIP
    >>> dataset.save_to_disk("hsc_meets_decals")  # doctest: +SKIP
    """
    if others and isinstance(others[-1], int | float | np.number):
        others, match_radius = others[:-1], others[-1]
    radius_arcsec = match_radius
    sides = [_side(left, "left", left_columns), _side(right, "right", right_columns)]
    sides += [_side(other, f"{n}.", None) for n, other in enumerate(others, 3)]
    sample = match_surveys(
        *sides,
        match_radius=radius_arcsec,
        find=find,
        join=join,
        anchor=anchor,
        on=on,
        epochs=epochs,
        summary=summary,
        errors=errors,
        **options,
    )
    names = list(sample.sides)
    for name in names:
        if not flat and name in OWN_COLUMNS:
            raise MatchError("a side", "a name that is no column of a pair", repr(name))
    own = {
        "ra": sample.ra,
        "dec": sample.dec,
        "healpix": np.asarray(sample.catalog["healpix"]),
        **sample.separations,
    }
    rows = list(sample.rows.values())
    source = PairRows([side.kept for side in sides], names, rows, own, flat=flat)
    return CrossMatch.of(sample, lazy_dataset(source, _info(sides, sample, radius_arcsec)))


class SourceSide(Side):
    """
    Rows of a dataset or of a builder, as a side of a match.

    Parameters
    ----------
    source : RowSource
        The rows.
    side : str
        Which side, for messages.
    names : sequence of str, optional
        Fields to keep.
    sky : SkyTable, optional
        The table that the rows are, where they are one.
    """

    def __init__(
        self,
        source: RowSource,
        side: str,
        names: Sequence[str] | None,
        sky: SkyTable | None = None,
    ) -> None:
        self.source, self._sky = source, sky
        self._names = None if names is None else list(names)
        missing = [name for name in ("ra", "dec") if name not in source.schema.names]
        if missing and not isinstance(source, TreeRows):
            raise MatchError(f"the {side} side", "columns ra and dec", f"no {missing[0]}")
        self.kept = source if names is None else ChosenRows(source, list(names))

    @property
    def name(self) -> str:
        """The source's name."""
        return self.source.name

    def __len__(self) -> int:
        return len(self.source)

    @property
    def provenance(self) -> dict[str, str]:
        """What the rows come from, where it is one survey."""
        if isinstance(self.source, TreeRows):
            return tree_provenance(self.source.catalog)
        return {"dataset": self.source.name, "fingerprint": self.source.fingerprint}

    @property
    def order(self) -> int:
        """HEALPix order of the tree, where it is one."""
        source = self.source
        return source.catalog.order if isinstance(source, TreeRows) else super().order

    @property
    def licence(self) -> str:
        """The survey's licence, where it is one."""
        source = self.source
        return source.survey.licence if isinstance(source, TreeRows) else super().licence

    @property
    def tree(self) -> Catalog | None:
        """The catalog, where the side is all of one."""
        if isinstance(self.source, TreeRows) and self.source.chosen_rows is None:
            return self.source.catalog
        return None

    @property
    def part(self) -> tuple[Catalog, Rows | None] | None:
        """The tree whose objects the rows are, if they are, and which."""
        found = tree_rows(self.source)
        return None if found is None else (found.catalog, found.chosen_rows)

    def positions(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """
        Read the positions of all rows.

        Returns
        -------
        ra, dec : ndarray, shape (n,), float64
            Positions [deg, ICRS].
        """
        if isinstance(self.source, TreeRows):
            found = self.source.light(["ra", "dec"])
        else:
            found = {name: as_numpy(self.source.column(name)) for name in ("ra", "dec")}
        return found["ra"], found["dec"]

    def lines(self, rows: Rows) -> dict[str, NDArray[Any]]:
        """
        Read the light columns that a line of the catalogue shows.

        Parameters
        ----------
        rows : ndarray of int64
            Which rows.

        Returns
        -------
        dict of str to ndarray
            Identifiers and positions.
        """
        shown = [name for name in COMMON_COLUMNS if name != "healpix"]
        if isinstance(self.source, TreeRows):
            return self.source.light(shown, rows)
        table = self.source.read(rows, [name for name in shown if name in self.source.types])
        columns = zip(table.column_names, table.columns, strict=True)
        return {name: as_numpy(column) for name, column in columns}

    def column(self, name: str) -> NDArray[Any]:
        """
        Read one light column of all rows.

        Parameters
        ----------
        name : str
            The column.

        Returns
        -------
        ndarray
            Its values.
        """
        if isinstance(self.source, TreeRows):
            return self.source.light([name])[name]
        if name not in self.source.types:
            raise UnknownColumnError(name, self.source.name, tuple(self.source.types))
        return as_numpy(self.source.column(name))

    def table(self) -> SkyTable:
        """
        Give the rows with their columns of one number or text each.

        Returns
        -------
        SkyTable
            The rows.
        """
        if self._sky is not None:
            return self._sky
        if isinstance(self.source, TreeRows):
            catalog, rows = self.source.catalog, self.source.chosen_rows
            if rows is None:
                return as_positions(catalog)
            return as_positions(catalog.light().take(pa.array(rows)), "ra", "dec", name=self.name)
        return as_positions(lazy_dataset(self.source))

    def content(self) -> Content:
        """
        Give what the rows bring into a tree.

        Returns
        -------
        Content
            The native columns of a tree, or the columns of a dataset.
        """
        source = tree_rows(self.source) or self.source
        if isinstance(source, TreeRows):
            fields = tuple(source.types) if self._names is None else tuple(self._names)
            whole = set(TreeRows(source.catalog).types) <= set(fields)
            return TreeContent(source.catalog, source.chosen_rows, None if whole else fields)
        units = {} if self._sky is None else self._sky.units()
        kept = self.kept
        return TableContent(
            self.name,
            kept.schema,
            len(source),
            kept.read,
            units,
            self.provenance,
        )


def _side(value: Any, side: str, names: Sequence[str] | None) -> SourceSide:
    """Take whatever rows come from."""
    if isinstance(value, datasets.DatasetDict):
        if len(value) != 1:
            raise TypeError(f"the {side} side: which split of {', '.join(value)}?")
        value = next(iter(value.values()))
    match value:
        case TreeBuilder():
            return SourceSide(value.rows, side, names)
        case datasets.Dataset():
            return SourceSide(DatasetRows(value), side, names)
        case Catalog():
            return SourceSide(TreeRows(value), side, names)
    try:
        opened = open_side(value)
    except MatchError as error:
        if error.what != NO_SIDE:
            raise
        raise TypeError(
            f"the {side} side is a builder or dataset of astropile, a Catalog, a table or a "
            f"path, not {type(value).__name__}"
        ) from error
    if isinstance(opened, Catalog):
        return SourceSide(TreeRows(opened), side, names)
    info = datasets.DatasetInfo(dataset_name=opened.name)
    rows = DatasetRows(datasets.Dataset(opened.table(), info=info))
    return SourceSide(rows, side, names, opened)


def _info(
    sides: Sequence[SourceSide], sample: MatchedSample, radius_arcsec: float
) -> datasets.DatasetInfo:
    names = list(sample.sides)
    intro = (
        f"Objects of {names[0]} with those of {' and '.join(names[1:])} "
        f"within {radius_arcsec:g} arcsec."
    )
    terms = told(sample.catalog.meta.get("licence_flags", ()))
    name = "_".join(dict.fromkeys(side.source.name for side in sides))
    return merged_info(
        [side.source.info for side in sides], "\n\n".join(filter(None, [intro, terms])), name
    )
