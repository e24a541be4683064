"""Stars move in straight lines: forth and back, and as astropy says."""

import warnings

import numpy as np
from astropy.coordinates import Distance, SkyCoord
from astropy.time import Time
from astropy.units import Unit
from hypothesis import given, settings
from hypothesis import strategies as st

from astropile.match import MovingPositions
from astropile.sky import separation_arcsec

DECS = st.one_of(st.floats(-90, 90), st.sampled_from([90.0, -90.0, 89.9999999, -89.9999999, 0.0]))


@st.composite
def stars(draw):
    """One star with parallax and radial velocity, both possibly unknown."""
    value = {"ra": draw(st.floats(0, 360, exclude_max=True)), "dec": draw(DECS)}
    value["pmra"] = draw(st.floats(-11_000, 11_000))
    value["pmdec"] = draw(st.floats(-11_000, 11_000))
    if draw(st.booleans()):
        value["parallax"] = draw(st.one_of(st.floats(0.1, 770), st.just(np.nan), st.just(-1.0)))
        value["radial_velocity"] = draw(st.one_of(st.floats(-500, 500), st.just(np.nan)))
    return {name: [number] for name, number in value.items()}


@settings(max_examples=200, deadline=None)
@given(star=stars(), years=st.floats(-200, 200))
def test_forth_and_back(star, years):
    """Carried to another epoch and back a star is where it was, with the motion it had."""
    here = MovingPositions(**star, epoch=2016.0)
    back = here.at(2016.0 + years).at(2016.0)
    assert separation_arcsec(back.ra, back.dec, here.ra, here.dec)[0] < 1e-6
    speed, again = (np.hypot(one.pmra[0], one.pmdec[0]) for one in (here, back))
    assert abs(speed - again) < 1e-6 * (1 + speed)


@settings(max_examples=100, deadline=None)
@given(star=stars(), first=st.floats(1900, 2016), last=st.floats(2016, 2100), part=st.floats(0, 1))
def test_no_star_is_faster_than_its_bound(star, first, last, part):
    """A star is never farther from where it was than its bound times the years."""
    here = MovingPositions(**star, epoch=2016.0)
    bound = here.fastest(first, last)[0]
    middle = first + part * (last - first)
    a, b = here.at(first), here.at(middle)
    apart = separation_arcsec(a.ra, a.dec, b.ra, b.dec)[0]
    assert apart <= bound * (middle - first) * (1 + 1e-9) + 1e-8


def test_equals_astropy():
    """Random stars are where `SkyCoord.apply_space_motion` puts them, to 0.01 mas and better."""
    rng = np.random.default_rng(4)
    n = 3000
    ra, dec = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    # Nearer to a pole than this astropy loses the motion.
    dec[:100] = 90 - 10 ** rng.uniform(-3, 0, 100)
    speed, angle = 10 ** rng.uniform(0, 4, n), rng.uniform(0, 2 * np.pi, n)
    pmra, pmdec = speed * np.sin(angle), speed * np.cos(angle)
    # Below 500 km/s, beyond which relativity shows.
    parallax = np.clip(10 ** rng.uniform(0, 2.8, n), speed * 4.74 / 300, None)
    radial = rng.normal(0, 60, n)
    kind = {"format": "jyear", "scale": "tcb"}
    for far in (False, True):
        more = {} if far else {"parallax": parallax, "radial_velocity": radial}
        here = MovingPositions(ra, dec, 2016.0, pmra, pmdec, **more)
        given_too = {}
        if not far:
            given_too["distance"] = Distance(parallax=parallax * Unit("mas"))
            given_too["radial_velocity"] = radial * Unit("km/s")
        sky = SkyCoord(
            ra * Unit("deg"),
            dec * Unit("deg"),
            pm_ra_cosdec=pmra * Unit("mas/yr"),
            pm_dec=pmdec * Unit("mas/yr"),
            obstime=Time(2016.0, **kind),
            **given_too,
        )
        for epoch, limit_mas in ((2000.0, 0.1), (1991.25, 0.2)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                expected = sky.apply_space_motion(Time(epoch, **kind))
            moved = here.at(epoch)
            apart = separation_arcsec(moved.ra, moved.dec, expected.ra.deg, expected.dec.deg)
            assert 1000 * apart.max() < (0.01 if far else limit_mas)
            assert 1000 * np.median(apart) < 0.001
