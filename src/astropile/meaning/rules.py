"""The rules of meaning, once: what each says, how grave it is, what it needs to be checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Rule:
    """
    One rule of meaning.

    Parameters
    ----------
    name : str
        A letter for the subject and a number: ``N3``.
    severity : {"error", "warning"}
        An error cannot be true; a warning is unlikely, or keeps readers from what they need.
    says : str
        What must hold.
    needs : str
        What a survey has to declare so that the rule can be checked.
    """

    name: str
    severity: Severity
    says: str
    needs: str = ""


_TABLE: Final = (
    # Documents and units
    Rule("D1", "error", "a licence is stated, were it 'unknown'"),
    Rule("D2", "error", "a citation is stated"),
    Rule("U1", "error", "every unit parses, in columns, formulas and records"),
    Rule("U2", "error", "a standard field's unit is one of its quantity"),
    Rule("U3", "warning", "fluxes have a unit, or say 'unknown'", "a flux or image"),
    Rule("U4", "error", "the unit of ivar is that of the flux to the power -2", "ivar, both units"),
    # Positions
    Rule("P1", "error", "no position is exactly (0, 0), which stands for none"),
    Rule("P2", "warning", "positions are not radians or hours", "20 objects"),
    Rule("P3", "error", "ra and dec are the native columns' position on the sky"),
    Rule("P4", "warning", "positions have more digits than float32 holds", "20 objects"),
    Rule("P5", "error", "an epoch of positions is a year; proper motions come with one"),
    Rule("P6", "error", "objects outside their partition are not in the RING scheme's pixel"),
    # Keys
    Rule("K1", "error", "identifiers are not Python's b'...' and have no blanks around them"),
    Rule("K2", "error", "identifiers are not numbers written with a decimal point or exponent"),
    Rule("K3", "error", "identifiers have not lost digits in a float", "large integers"),
    Rule("K4", "warning", "identifiers are not row numbers", "integers, 20 objects"),
    Rule("K5", "error", "an object_id does not stand for places over a minute of arc apart"),
    Rule("K6", "error", "identifiers are not empty"),
    # Brightness and redshift
    Rule("B1", "error", "mag has no values that stand for none, such as 99 or -999", "mag"),
    Rule("B2", "error", "ebv and extinction are from -0.5 to 100 where they are numbers", "either"),
    Rule("Z1", "error", "z has no values that stand for none and is above -0.01", "z"),
    Rule("Z2", "error", "z is not one number throughout", "z, 10 objects"),
    Rule("Z3", "error", "redshifts flagged bad are not better than the others", "z_err, flags"),
    Rule("Z4", "error", "z_err is not negative where the redshift is not flagged", "z_err"),
    Rule("Z5", "warning", "z_err is not 0 throughout", "z_err, 10 objects"),
    # Noise and masks
    Rule("N1", "error", "ivar is finite and not negative", "ivar"),
    Rule("N2", "error", "no ivar is 1e10 times the median of its object", "ivar"),
    Rule("N3", "error", "flux scatters as ivar says, within a factor of 10", "ivar"),
    Rule("N4", "error", "a mask flags the pixels without weight, not those with it", "mask, ivar"),
    Rule("N5", "error", "a mask does not flag nearly every pixel of nearly every object", "mask"),
    Rule("N6", "error", "bits and flags are not kept as floats, which lose them", "mask, quality"),
    Rule(
        "N7", "error", "edges are not padded with one value that counts as measured", "ivar, mask"
    ),
    Rule("N8", "warning", "an object has data: not all NaN, 0 or flagged", "a flux or image"),
    Rule("N9", "error", "no two observations have the same spectrum or cube", "a spectrum"),
    Rule("N10", "error", "flux is a number wherever ivar is above 0 and no mask flags it", "ivar"),
    Rule("N11", "error", "weights do not grow with the noise", "ivar"),
    Rule("N12", "warning", "no two observations have the same images", "an image"),
    # Wavelength grid
    Rule("G1", "error", "wavelengths are finite, above 0 and strictly increasing", "lambda"),
    Rule("G2", "error", "wavelengths are from 1 Angstrom to 1 cm", "lambda"),
    Rule("G3", "warning", "wavelengths in Angstrom do not look like nm or um", "lambda"),
    Rule("G4", "warning", "the steps of a wavelength grid do not jitter", "lambda"),
    Rule("G5", "warning", "vacuum or air is stated, and in which frame", "lambda"),
    Rule("G6", "warning", "lsf_sigma is not one number for every object and pixel", "lsf_sigma"),
    Rule("G7", "error", "a shared column is the same in every shard", "a shared column"),
    Rule("G8", "error", "lsf_sigma is a resolving power from 5 to a million", "lsf_sigma, lambda"),
    # Images
    Rule("I1", "error", "psf_fwhm is NaN or from 0.001 to 600 arcsec", "psf_fwhm"),
    Rule("I2", "error", "pixel_size is from 0.001 to 600 arcsec", "pixel_size"),
    Rule("I3", "warning", "psf_fwhm is from 0.3 to 50 pixels", "psf_fwhm, pixel_size"),
    Rule("I4", "error", "every image of a band names its filter", "filter"),
    Rule("I5", "error", "filters come in one order", "filter"),
    Rule("I6", "error", "extinction falls from u to y", "extinction, filters named by letters"),
    # Cubes
    Rule("C1", "error", "x and y are places in the cube, each once", "x, y"),
    Rule("C2", "error", "x is the row and y the column", "x, y and images of the same shape"),
    Rule("C3", "warning", "most spaxels of a cube have data", "spaxels"),
    # Times
    Rule("E1", "error", "times are finite", "time"),
    Rule("E2", "error", "times are float64, or differ by much more than float32 resolves", "time"),
    Rule("E3", "warning", "scale and zero point of times are stated", "time"),
    Rule("E4", "error", "times fit the zero point stated", "time, time_scale"),
    Rule("E5", "error", "times are not padded with 0, -99 or a repeated last value", "time"),
    Rule("E6", "error", "every band of a light curve has data", "a list of bands"),
    Rule("E7", "error", "flux_err is above 0 where it is a number", "flux_err"),
    # Joins
    Rule("J1", "warning", "bright pixels go with bright magnitudes", "mag, arrays, 30 objects"),
)

RULES: Final = {rule.name: rule for rule in _TABLE}
"""Every rule of meaning by its name."""
