"""
HSC COSMOS stamps: five bands of the Subaru survey, each stamp of its own size.

Native files: ``Cut_HSC*.fits`` with the PSF in ``PSF_HSC.fits``, and ``hsc_ra=*_dec=*.fits``,
each with a PSF of its own, ``psf_hsc_ra=*_dec=*.fits``. They carry neither variance nor mask nor
zero point; for the survey itself see `hsc`.
"""

from __future__ import annotations

from astropile.surveys._stamps import StampFiles, make_stamps

SURVEY = make_stamps(
    name="hsc_stamps",
    project="HSC-SSP",
    survey="HSC",
    release="unknown",
    subset="cosmos_stamps",
    title="HSC COSMOS stamps",
    description="Stamps of the Hyper Suprime-Cam coadds of the COSMOS field (tract 9813) in g, "
    "r, i, z and y, with their PSF.",
    homepage="https://hsc-release.mtk.nao.ac.jp/",
    citation="Aihara et al. 2018, PASJ 70, S4, doi:10.1093/pasj/psx066",
    licence="HSC-SSP data policy: free use in research and education with the credit "
    "'NAOJ / HSC Collaboration'",
    acknowledgement="Credit: NAOJ / HSC Collaboration.",
    bands=("g", "r", "i", "z", "y"),
    dtype="float64",
    files=(
        StampFiles("Cut_HSC*.fits", psf="PSF_HSC.fits"),
        StampFiles("hsc_ra=*_dec=*.fits", psf="psf_{stem}.fits"),
    ),
)
