"""
A small simulated sky, written as the surveys would have published it.

`galaxies` holds the truth; each other module writes one survey's native files from it, in the
official layout, so that a build can be tried where no survey files are at hand.
"""
