"""
Fuzz the gate by coverage: ``python tests/fuzz/gate_atheris.py [CORPUS] [-max_total_time=600]``.

Needs ``pip install atheris``, which is no requirement of anything else. Checksums of metadata are
mended before each try, or nothing behind them would ever be reached.
"""

import sys

import atheris

with atheris.instrument_imports(include=["astropile.gate"]):
    from astropile.errors import FormatError, UntrustedFileError
    from astropile.gate import verify_file
    from astropile.gate.source import Source

import gatefiles

PATH = gatefiles.scratch_file()


class Unchecked(Source):
    """A source whose metadata may have any checksum."""

    def check(self, content, where):
        pass


def try_one(content):
    from astropile.gate.structure import read_structure

    PATH.write_bytes(content)
    verify_file(PATH, limits=gatefiles.LIMITS)
    try:
        with Unchecked(PATH, gatefiles.LIMITS) as source:
            read_structure(source)
    except (FormatError, UntrustedFileError):
        pass


if __name__ == "__main__":
    atheris.Setup(sys.argv, try_one)
    atheris.Fuzz()
