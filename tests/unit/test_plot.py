"""Pictures: what is drawn, with which labels, from which pixels."""

import dataclasses
import sys

import numpy as np
import pytest

import toy
from astropile.errors import MissingExtraError
from astropile.plot import (
    Matched,
    Side,
    draw_matches,
    draw_object,
    draw_separations,
    draw_sky,
    has_picture,
    save_figure,
)
from astropile.plot.curves import spectrum_panel
from astropile.plot.lines import LINES, in_air
from astropile.plot.pictures import brightest_spaxel, maps_of
from astropile.plot.stretch import asinh_grey, asinh_rgb, band_of, colour_bands, white_weights
from astropile.plot.words import pretty_unit, unit_of
from astropile.schema import Column, Constant, Record, RecordList, Survey

SIDE = 40


def gaussian(peak=50.0, noise=1.0, seed=0, side=SIDE):
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    rng = np.random.default_rng(seed)
    return peak * np.exp(-(x**2 + y**2) / 40) + rng.normal(0, noise, (side, side))


def imaging(**facts):
    """A survey of images."""
    columns = (
        Column("ID", "int64", "Identifier."),
        Column("RA", "float64", "Right ascension.", unit="deg"),
        Column("DEC", "float64", "Declination.", unit="deg"),
        Column("IMAGE", "float32", "Image.", shape=(3, SIDE, SIDE), unit="nanomaggy"),
    )
    aliases = {
        "object_id": "ID",
        "observation_id": "ID",
        "ra": "RA",
        "dec": "DEC",
        "image": RecordList({"array": "IMAGE", "filter": Constant(("g", "r", "i"))}),
    }
    facts = {"name": "img", "survey": "Images", **facts}
    return make_survey(columns, aliases, **facts)


def spectra(**facts):
    """A survey of spectra and of cubes."""
    n, unit = 500, "1e-17 erg / (s cm2 Angstrom)"
    columns = (
        Column("ID", "int64", "Identifier."),
        Column("RA", "float64", "Right ascension.", unit="deg"),
        Column("DEC", "float64", "Declination.", unit="deg"),
        Column("FLUX", "float32", "Flux.", shape=(n,), unit=unit),
        Column("WAVE", "float32", "Wavelength.", shape=(n,), unit="Angstrom"),
        Column("CUBE", "float32", "Spaxels.", shape=("spaxel", n), unit=unit),
        Column("ROW", "int16", "Row.", shape=("spaxel",)),
        Column("COL", "int16", "Column.", shape=("spaxel",)),
    )
    aliases = {
        "object_id": "ID",
        "observation_id": "ID",
        "ra": "RA",
        "dec": "DEC",
        "spectrum": Record({"flux": "FLUX", "lambda": "WAVE"}),
        "spaxels": RecordList({"flux": "CUBE", "x": "ROW", "y": "COL"}),
    }
    facts = {"wavelength_medium": "vacuum", "wavelength_frame": "observed", **facts}
    return make_survey(columns, aliases, **{"name": "spec", "survey": "Spectra", **facts})


def make_survey(columns, aliases, **facts):
    texts = dict.fromkeys(
        ("project", "subset", "title", "description", "homepage", "citation", "licence"), "x"
    )
    return Survey(**{**texts, "release": "DR1", **facts}, columns=columns, aliases=aliases)


def image_side(**facts):
    bands = [
        {
            "array": gaussian(peak, seed=seed).astype("f4"),
            "filter": name,
            "psf_fwhm": 0.8,
            "pixel_size": facts.pop("pixel_size", 0.25) if facts else 0.25,
            "mask": np.zeros((SIDE, SIDE), bool),
        }
        for seed, (name, peak) in enumerate((("g", 30.0), ("r", 50.0), ("i", 70.0)))
    ]
    example = {"object_id": 7, "ra": 150.0, "dec": 2.0, "mag": 18.25, "image": bands}
    return Side(imaging(), example)


def make_spectrum(n=500, z=0.1):
    wave = np.linspace(4000, 9000, n)
    flux = 10 + 40 * np.exp(-0.5 * ((wave - 6564.61 * (1 + z)) / 15) ** 2)
    ivar = np.full(n, 4.0)
    mask = np.zeros(n, bool)
    mask[100:110] = True
    ivar[200:210] = 0
    return {"flux": flux, "ivar": ivar, "lambda": wave, "mask": mask}


def spectrum_side(z=0.1, **facts):
    example = {
        "object_id": "s-1",
        "ra": 10.0,
        "dec": -5.0,
        "z": z,
        "z_err": 2e-5,
        "spectrum": make_spectrum(z=z or 0.0),
    }
    return Side(spectra(**facts), example)


def cube_side():
    spectrum = make_spectrum()
    spaxels = [
        {**spectrum, "flux": spectrum["flux"] * (1 + 5 * (x == 2 and y == 1)), "x": x, "y": y}
        for x in range(4)
        for y in range(3)
    ]
    velocity = np.linspace(-100, 100, 12).reshape(4, 3)
    images = [
        {"label": "emline_gvel_ha_6564", "data": velocity, "mask": velocity > 90, "units": "km / s"}
    ]
    example = {
        "object_id": "c-1",
        "ra": 10.0,
        "dec": -5.0,
        "z": 0.1,
        "spaxel_size": 0.5,
        "spaxels": spaxels,
        "images": images,
    }
    return Side(spectra(), example)


def axes_of(figure):
    figure.canvas.draw()
    return figure.get_axes()


def texts(axes):
    return [text.get_text() for text in axes.texts]


# --------------------------------------------------------------------------------------
# Brightness and colour


def test_a_grey_image_runs_from_0_to_1_and_keeps_holes():
    """The brightest pixel is 1, the sky is dark, a pixel that is no number stays one."""
    image = gaussian()
    image[3, 4] = np.nan
    grey = asinh_grey(image)
    assert np.isnan(grey[3, 4])
    assert np.nanmax(grey) == 1.0
    assert np.nanmin(grey) == 0.0
    assert np.nanmedian(grey) < 0.2


@pytest.mark.parametrize("value", [0.0, 5.0, np.nan])
def test_an_image_without_structure_gives_no_warning(value):
    """A constant or empty image is drawn too."""
    flat = np.full((5, 6), value)
    assert asinh_grey(flat).shape == (5, 6)
    rgb = asinh_rgb(flat, flat, flat)
    assert rgb.shape == (5, 6, 3)
    assert np.isfinite(rgb).all()


def test_a_colour_does_not_change_with_brightness():
    """Twice as much red as blue in the faint wing and in the bright core."""
    light = gaussian(noise=0.0)
    rgb = asinh_rgb(2 * light, 1.5 * light, light)
    for row, column in ((20, 20), (20, 26)):
        red, green, blue = rgb[row, column]
        assert red / blue == pytest.approx(2, rel=0.05)
        assert green / blue == pytest.approx(1.5, rel=0.05)
    assert rgb.min() >= 0
    assert rgb.max() <= 1


def test_pixels_outside_the_image_come_out_black():
    """Not a number in one band is black in all."""
    light = gaussian()
    hole = light.copy()
    hole[:10] = np.nan
    rgb = asinh_rgb(hole, hole, hole)
    assert (rgb[:10] == 0).all()
    assert rgb[20, 20].max() == 1.0


@pytest.mark.parametrize(
    ("filters", "chosen"),
    [
        (["g", "r", "i", "z", "y"], (2, 1, 0)),
        (["g", "r", "z"], (2, 1, 0)),
        (["HSC-G", "HSC-R", "HSC-I"], (2, 1, 0)),
        (["u", "z", "y"], (2, 1, 0)),
        (["F105W", "F125W", "F160W", "F814W"], (3, 2, 0)),
        (["F814W"], None),
    ],
)
def test_three_bands_are_chosen_for_the_colours(filters, chosen):
    """The reddest is shown red; unknown filters in their order; fewer than three: none."""
    assert colour_bands(filters) == chosen


def test_bands_are_known_by_many_names():
    """Names of filters reduce to a band, or stay."""
    assert [band_of(name) for name in ("g", "HSC-G", "decam_z", "F814W")] == [
        "g",
        "g",
        "z",
        "F814W",
    ]
    assert white_weights(["i", "r", "g"])[1] == 1.0
    assert white_weights(["F160W", "r", "g"]) == (1.0, 1.0, 1.0)


# --------------------------------------------------------------------------------------
# Lines and units


def test_h_alpha_in_air_is_where_it_is_measured():
    """6564.61 Angstrom in vacuum is 6562.80 in air; the ultraviolet stays in vacuum."""
    assert in_air(6564.61) == pytest.approx(6562.80, abs=0.01)
    assert in_air(1215.67) == 1215.67
    assert [line.wavelength for line in LINES] == sorted(line.wavelength for line in LINES)


def test_units_come_from_the_columns():
    """A field's unit is that of its native column, also in a list of records."""
    assert unit_of(spectra(), "spectrum", "flux") == "1e-17 erg / (s cm2 Angstrom)"
    assert unit_of(spectra(), "spaxels", "flux") == "1e-17 erg / (s cm2 Angstrom)"
    assert unit_of(toy.SURVEY.resolve({"wave": 5}), "spectrum", "lambda") == "Angstrom"
    assert pretty_unit("km / s") == r"$\mathrm{km\,s^{-1}}$"
    assert pretty_unit("no unit at $all$") == "no unit at ?all?"


# --------------------------------------------------------------------------------------
# Figures


def test_an_object_of_three_bands_has_four_pictures_with_axes_in_arcsec():
    """Colours, then each band with its seeing; positions run from minus to plus half a side."""
    figure = draw_object(image_side())
    axes = axes_of(figure)
    assert [one.get_title() for one in axes] == [
        "i r g, asinh",
        "g, PSF 0.80″",
        "r, PSF 0.80″",
        "i, PSF 0.80″",
    ]
    assert [one.get_xlabel() for one in axes] == ["columns [arcsec]"] * 4
    assert axes[0].get_xlim() == (-5.0, 5.0)
    heading = figure.get_suptitle()
    assert "Images DR1" in heading
    assert "object 7" in heading
    assert "RA 150.00000°  Dec +2.00000°" in heading
    assert "18.25 mag" in heading


def test_masked_pixels_are_tinted():
    """A band with bad pixels has a second layer that is clear elsewhere."""
    side = image_side()
    side.example["image"][1]["mask"][4, 5] = True
    layers = axes_of(draw_object(side))[2].images
    assert len(layers) == 2
    tint = np.asarray(layers[1].get_array())
    assert tint[4, 5, 3] > 0
    assert tint[..., 3].astype(bool).sum() == 1


def test_a_spectrum_shows_flux_error_masked_pixels_and_lines_at_its_redshift():
    """Bad pixels are gaps; H alpha stands at 6564.61 (1 + z)."""
    side = spectrum_side(z=0.1)
    (axes,) = axes_of(draw_object(side))
    flux, error = axes.lines[:2]
    assert np.isnan(flux.get_ydata()[100:110]).all()
    assert np.isnan(flux.get_ydata()[200:210]).all()
    assert np.nanmax(error.get_ydata()) == 0.5
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["flux", "error", "masked"]
    assert axes.get_xlabel() == "wavelength, vacuum, observed [Å]"
    assert axes.get_ylabel().startswith("flux [")
    marks = {text.get_text(): text.xy[0] for text in axes.texts}
    assert marks[r"H$\alpha$"] == pytest.approx(7221.07, abs=0.01)
    assert "Mg II" not in marks
    assert axes.get_ylim()[1] > 50


def test_a_star_shows_no_lines_of_nebulae():
    """At redshift 0 only the lines of stars are marked; without a redshift none."""
    assert "[O III]" not in texts(axes_of(draw_object(spectrum_side(z=0.0)))[0])
    assert r"H$\beta$" in texts(axes_of(draw_object(spectrum_side(z=0.0)))[0])
    assert texts(axes_of(draw_object(spectrum_side(z=None)))[0]) == []
    assert texts(axes_of(draw_object(spectrum_side(z=np.nan)))[0]) == []


def test_lines_move_to_air_and_to_rest():
    """In air the marker moves by the index; in the rest frame the redshift does not count."""
    air = spectrum_side(z=0.1, wavelength_medium="air")
    marks = {text.get_text(): text.xy[0] for text in axes_of(draw_object(air))[0].texts}
    assert marks[r"H$\alpha$"] == pytest.approx(6562.80 * 1.1, abs=0.02)
    rest = spectrum_side(z=0.1, wavelength_frame="rest")
    marks = {text.get_text(): text.xy[0] for text in axes_of(draw_object(rest))[0].texts}
    assert marks[r"H$\alpha$"] == pytest.approx(6564.61)


@pytest.mark.parametrize(
    "change",
    [
        {"mask": np.ones(500, bool)},
        {"flux": np.full(500, np.nan)},
        {"flux": np.zeros(500)},
        {"ivar": None},
        {"lambda": np.full(500, -1.0)},
    ],
    ids=["all masked", "no number", "all zero", "no error", "padding"],
)
def test_a_poor_spectrum_is_drawn_without_a_warning(change):
    """Nothing measured is an empty panel, not an error."""
    side = spectrum_side()
    side.example["spectrum"].update(change)
    assert axes_of(draw_object(side))


def test_padding_of_short_spectra_is_left_out():
    """Wavelengths of 0 or -1 do not stretch the axis."""
    side = spectrum_side()
    side.example["spectrum"]["lambda"][-20:] = -1.0
    (axes,) = axes_of(draw_object(side))
    assert axes.get_xlim()[0] == 4000.0


def test_a_cube_shows_maps_and_its_brightest_spaxel():
    """White light, velocity with zero in the middle, and the spectrum where the cross stands."""
    side = cube_side()
    assert brightest_spaxel(side.example["spaxels"]) == 2 * 3 + 1
    white, velocity = maps_of(side)
    assert white.values.shape == (4, 3)
    assert np.unravel_index(np.argmax(white.values), white.values.shape) == (2, 1)
    assert np.isnan(velocity.values[3, 2])
    axes = axes_of(draw_object(side))
    titles = [one.get_title() or one.get_title(loc="left") for one in axes]
    assert titles[:3] == ["white light", "emline_gvel_ha_6564", "spaxel + : row 2, column 1"]
    low, high = axes[1].images[0].get_clim()
    assert low == -high
    cross = axes[0].lines[0]
    assert (cross.get_xdata()[0], cross.get_ydata()[0]) == (0.0, 0.25)


def test_a_cube_without_spaxels_shows_its_maps():
    """Where only the maps were published, these are drawn."""
    side = cube_side()
    side.example["spaxels"] = []
    assert axes_of(draw_object(side))[0].get_title() == "emline_gvel_ha_6564"


def test_a_light_curve_has_time_and_flux():
    """Points, labelled with the units of the columns."""
    survey = toy.SURVEY.resolve({"wave": 5})
    curve = {"time": np.array([1.0, 2.0, 5.0]), "flux": np.array([3.0, 4.0, 3.5])}
    (axes,) = axes_of(draw_object(Side(survey, {"object_id": 1, "lightcurve": curve})))
    assert axes.get_xlabel().startswith("time [")
    assert axes.get_ylabel().startswith("flux [")


def test_an_object_with_nothing_to_see_is_refused():
    """A row of a plain catalogue has no picture."""
    nothing = Side(imaging(), {"object_id": 1, "image": []})
    assert not has_picture(nothing)
    assert has_picture(image_side())
    with pytest.raises(ValueError, match="no image, spectrum, cube or light curve"):
        draw_object(nothing)


def test_matched_images_cover_the_same_field():
    """Two pixel sizes, one extent: that of the smaller image."""
    other = image_side()
    for band in other.example["image"]:
        band["pixel_size"] = 0.1
    axes = axes_of(draw_matches([Matched((image_side(), other), 0.25)], "a and b"))
    assert len(axes) == 2
    assert axes[0].get_xlim() == axes[1].get_xlim() == (-2.0, 2.0)


def test_a_match_of_image_cube_and_spectrum_stands_in_one_row():
    """Each side brings its panels, the survey's name above, the separation above the row."""
    match = Matched((image_side(), cube_side(), spectrum_side()), 0.125)
    figure = draw_matches([match, match])
    axes = axes_of(figure)
    titles = [one.get_title() or one.get_title(loc="left") for one in axes]
    assert "Images DR1\ni r g, asinh" in titles
    assert "Spectra DR1\nwhite light" in titles
    assert "Spectra DR1, z = 0.10000 ± 0.00002" in titles
    headings = [frame.get_suptitle() for frame in figure.subfigs]
    assert headings == ["RA 150.00000°  Dec +2.00000°   separation 0.125″"] * 2


def test_separations_and_positions_are_drawn_with_units():
    """East to the left in both."""
    offsets = (np.array([0.1, -0.2]), np.array([0.0, 0.3]))
    plane, histogram = axes_of(draw_separations(("a", "b"), offsets, np.hypot(*offsets), 1.0))
    assert plane.get_xlim()[0] > plane.get_xlim()[1]
    assert plane.get_title() == "b minus a, 2 pairs"
    assert histogram.get_xlabel() == "separation [arcsec]"
    positions = {"a": (np.array([10.0, 10.1]), np.array([1.0, 1.1])), "b": (np.empty(0),) * 2}
    (sky,) = axes_of(draw_sky(positions, "field"))
    assert sky.get_xlim()[0] > sky.get_xlim()[1]
    assert [text.get_text() for text in sky.get_legend().get_texts()] == ["a (2)", "b (0)"]


def test_hostile_names_are_drawn_as_text():
    """Signs of mathematics and control characters from the data reach no interpreter."""
    side = image_side()
    side.example["object_id"] = "$\\frac{\x1b[31m"
    side.example["image"][0]["filter"] = "$g$"
    figure = draw_object(side)
    axes_of(figure)
    assert "object ??frac{?[31m" in figure.get_suptitle()


def test_a_picture_is_png_and_whole(tmp_path):
    """The file appears under its name only when it is written; same object, same bytes."""
    for name in ("a.png", "b.png"):
        figure = draw_object(spectrum_side())
        save_figure(figure, tmp_path / name, dpi=50)
    assert (tmp_path / "a.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with pytest.raises(OSError, match="No such file"):
        save_figure(figure, tmp_path / "nowhere" / "c.png", dpi=50)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    """The optional package is named."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"astropile\[plot\]"):
        draw_object(spectrum_side())


def test_the_panel_of_one_spectrum_can_be_used_alone():
    """A panel draws into any axes."""
    from matplotlib.figure import Figure

    side = spectrum_side()
    axes = Figure().subplots()
    spectrum_panel(side, side.example["spectrum"], 4.0, title="alone").draw(axes)
    assert axes.get_title(loc="left") == "alone"
    assert dataclasses.replace(side).label == "Spectra DR1"
