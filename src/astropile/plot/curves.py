"""Panels that show curves: spectra with their lines, light curves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astropile.plot.lines import LINES, in_air
from astropile.plot.panels import BLUE, GREEN, GREY, ORANGE, PURPLE, Panel
from astropile.plot.pictures import good_pixels
from astropile.plot.words import Example, Side, number_of, redshift, unit_of, with_unit


def spectrum_of(example: Example) -> Mapping[str, Any] | None:
    """
    Give the spectrum of an object.

    Parameters
    ----------
    example : mapping
        The object.

    Returns
    -------
    mapping or None
        None where it has none.
    """
    found = example.get("spectrum")
    if not isinstance(found, Mapping) or not {"flux", "lambda"} <= found.keys():
        return None
    return found if np.ndim(found["flux"]) == 1 and np.size(found["flux"]) else None


def spectrum_panel(
    side: Side,
    spectrum: Mapping[str, Any],
    width: float,
    *,
    place: str = "spectrum",
    title: str = "",
) -> Panel:
    """
    Show a spectrum with its error, its bad pixels, and lines at the object's redshift.

    Parameters
    ----------
    side : Side
        The object.
    spectrum : mapping
        Record with ``flux``, ``lambda`` and, where known, ``ivar`` and ``mask``.
    width : float
        Width of the panel [inch].
    place : str
        The standard field that holds it.
    title : str
        What stands above it.

    Returns
    -------
    Panel
        The spectrum.
    """

    def draw(axes: Any) -> None:
        wavelength = np.asarray(spectrum["lambda"], float)
        # Padding of spectra of unlike length lies at wavelength 0 or -1.
        real = np.isfinite(wavelength) & (wavelength > 0)
        wavelength = wavelength[real]
        flux = np.asarray(spectrum["flux"], float)[real]
        good = good_pixels(spectrum)[real]
        axes.plot(
            wavelength, np.where(good, flux, np.nan), color=BLUE, lw=0.6, label="flux", zorder=3
        )
        ivar = spectrum.get("ivar")
        if ivar is not None and np.shape(ivar) == np.shape(spectrum["flux"]):
            variance = 1 / np.where(good, np.asarray(ivar, float)[real], np.nan)
            axes.plot(wavelength, np.sqrt(variance), color=GREY, lw=0.5, label="error")
        else:
            variance = np.ones(len(flux))
        if not good.all():
            axes.fill_between(
                wavelength,
                0,
                1,
                where=~good,
                step="mid",
                transform=axes.get_xaxis_transform(),
                color=ORANGE,
                alpha=0.18,
                linewidth=0,
                label="masked",
            )
        axes.set_ylim(_flux_limits(flux[good], variance[good]))
        if len(wavelength) > 1:
            axes.set_xlim(wavelength.min(), wavelength.max())
        _mark_lines(axes, side)
        survey = side.survey
        medium = ", ".join(filter(None, (survey.wavelength_medium, survey.wavelength_frame)))
        axes.set_xlabel(f"wavelength, {medium} [Å]" if medium else "wavelength [Å]")
        axes.set_ylabel(with_unit("flux", unit_of(survey, place, "flux")))
        axes.legend(
            loc="lower right",
            bbox_to_anchor=(1.0, 0.99),
            ncols=3,
            handlelength=1.2,
            columnspacing=1.0,
            borderaxespad=0.1,
        )
        axes.set_title(title, loc="left")

    return Panel(width, draw)


def named_spectrum(side: Side, width: float) -> Panel | None:
    """
    Show the spectrum of an object under its survey's name.

    Parameters
    ----------
    side : Side
        The object.
    width : float
        Width of the panel [inch].

    Returns
    -------
    Panel or None
        None where it has no spectrum.
    """
    spectrum = spectrum_of(side.example)
    if spectrum is None:
        return None
    title = ", ".join(filter(None, (side.label, redshift(side.example))))
    return spectrum_panel(side, spectrum, width, title=title)


def spaxel_panel(side: Side, spaxel: Mapping[str, Any], width: float) -> Panel:
    """
    Show the spectrum of one spaxel.

    Parameters
    ----------
    side : Side
        The object.
    spaxel : mapping
        One of its spaxels.
    width : float
        Width of the panel [inch].

    Returns
    -------
    Panel
        The spectrum.
    """
    title = f"spaxel + : row {int(spaxel['x'])}, column {int(spaxel['y'])}"
    return spectrum_panel(side, spaxel, width, place="spaxels", title=title)


def light_curve_panel(side: Side, width: float) -> Panel | None:
    """
    Show a light curve.

    Parameters
    ----------
    side : Side
        The object.
    width : float
        Width of the panel [inch].

    Returns
    -------
    Panel or None
        None where it has none.
    """
    curve = side.example.get("lightcurve")
    if not isinstance(curve, Mapping) or not np.size(curve.get("time", ())):
        return None
    value = next((name for name in ("flux", "mag") if name in curve), None)
    if value is None:
        return None

    def draw(axes: Any) -> None:
        error = curve.get(f"{value}_err")
        axes.errorbar(curve["time"], curve[value], error, fmt="o", ms=3, color=BLUE, lw=0.8)
        if value == "mag":
            axes.invert_yaxis()
        time = f"time, {side.survey.time_scale}" if side.survey.time_scale else "time"
        axes.set_xlabel(with_unit(time, unit_of(side.survey, "lightcurve", "time")))
        axes.set_ylabel(with_unit(value, unit_of(side.survey, "lightcurve", value)))

    return Panel(width, draw)


def _flux_limits(flux: NDArray[np.float64], variance: NDArray[np.float64]) -> tuple[float, float]:
    """Limits that hold the lines but neither lone outliers nor the noisy ends."""
    if not len(flux):
        return 0.0, 1.0
    quiet = flux[(variance <= 9 * np.median(variance)) | (flux > 8 * np.sqrt(variance))]
    wide = np.lib.stride_tricks.sliding_window_view(quiet, min(5, len(quiet)))
    smooth = np.median(wide, axis=1)
    low, high = min(0.0, float(np.percentile(smooth, 0.5))), float(smooth.max())
    if high <= low:
        return low - 1.0, low + 1.0
    # Room above for the names of the lines.
    return low - 0.05 * (high - low), high + 0.5 * (high - low)


def _mark_lines(axes: Any, side: Side) -> None:
    z = number_of(side.example.get("z"))
    if z is None:
        return
    if side.survey.wavelength_frame == "rest":
        z = 0.0
    is_star = abs(z) < 0.002
    low, high = axes.get_xlim()
    level, before = 0, -math.inf
    for line in LINES:
        rest = line.wavelength
        if side.survey.wavelength_medium == "air":
            rest = in_air(rest)
        at = rest * (1 + z)
        if not low < at < high or (is_star and not line.in_stars):
            continue
        # Names that would touch stand on three levels.
        level = (level + 1) % 3 if at - before < 0.06 * (high - low) else 0
        before = at
        top = 0.83 - 0.06 * level
        colour = PURPLE if line.emission else GREEN
        axes.axvline(at, ymax=top - 0.01, color=colour, lw=0.6, ls=":", zorder=0)
        axes.annotate(
            line.label,
            (at, top),
            xycoords=("data", "axes fraction"),
            ha="center",
            va="bottom",
            fontsize=6.5,
            color=colour,
        )
