"""
HST COSMOS: F814W stamps of the Advanced Camera for Surveys, each of its own size.

Native files: ``Cut_HST*.fits``, one image each, and their PSF in ``PSF_HST.fits``. The pixels
are those of the COSMOS mosaic (0.03 arcsec); the files do not state their unit.
"""

from __future__ import annotations

from astropile.surveys._stamps import StampFiles, make_stamps

SURVEY = make_stamps(
    name="hst",
    project="HST",
    survey="COSMOS",
    release="ACS mosaic v2.0",
    subset="cosmos_stamps",
    title="HST COSMOS stamps",
    description="Stamps of the HST ACS/WFC F814W mosaic of the COSMOS field, with their PSF.",
    homepage="https://irsa.ipac.caltech.edu/data/COSMOS/images/acs_mosaic_2.0/",
    citation="Koekemoer et al. 2007, ApJS 172, 196, doi:10.1086/520086; "
    "Scoville et al. 2007, ApJS 172, 38, doi:10.1086/516580",
    licence="unknown",
    acknowledgement=(
        "Based on observations with the NASA/ESA Hubble Space Telescope, obtained at the Space "
        "Telescope Science Institute, which is operated by AURA, Inc., under NASA contract "
        "NAS 5-26555."
    ),
    bands=("F814W",),
    dtype="float32",
    files=(StampFiles("Cut_HST*.fits", psf="PSF_HST.fits"),),
)
