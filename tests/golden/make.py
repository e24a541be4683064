"""
Make the trees of the present format version: `python tests/golden/make.py` from the project.

Run once when a format version is released; what is there is never made anew.
"""

import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import toy
from astropile import FORMAT_VERSION, build_catalog


def main():
    folder = Path(__file__).parent / FORMAT_VERSION
    if folder.exists():
        sys.exit(f"{folder} exists: a released version's trees are never made anew")
    with tempfile.TemporaryDirectory() as native:
        crowd = toy.make_batch(3, seed=7, ra=[10.0, 10.0, 10.0], dec=[5.0, 5.001, 5.002])
        far = toy.make_batch(2, seed=8, first_id=10, ra=[359.99999, 0.00001], dec=[-90.0, 89.9])
        toy.write_native(Path(native) / "a.npz", crowd)
        toy.write_native(Path(native) / "b.npz", far)
        for layout in ("compact", "fast"):
            build_catalog(
                toy.SURVEY, native, folder / layout / "toy", layout=layout, shard_nbytes=60_000
            )
    for path in folder.rglob(".*"):
        shutil.rmtree(path)


if __name__ == "__main__":
    main()
