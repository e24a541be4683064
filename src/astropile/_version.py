"""The version of the package; the format's own version lives in `astropile.names`."""

__version__ = "0.1.0"
