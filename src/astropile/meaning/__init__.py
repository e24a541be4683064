"""
Rules of meaning: whether what a tree says can be true.

The format says how things are written; these rules say what they must mean: a wavelength
increases, a weight is of the size of the noise, a mask flags what is bad. What a field means is
taken from the survey's declaration (standard names, units, bits), never guessed from the name of
a native column; what nothing is declared for is not checked, and `astropile.meaning.look` says so.
`docs/how-to/validate.md` explains every rule.
"""
