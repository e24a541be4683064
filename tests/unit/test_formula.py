"""Formulas are arithmetic and nothing else."""

import numpy as np
import pytest

from astropile.formula import evaluate, names_in


def test_dotted_names():
    """A column's name may have dots in it, as HSC's have."""
    values = {"forced.g_cmodel_mag": [22.5], "a_g": [0.25]}
    assert evaluate("forced.g_cmodel_mag - a_g", values).tolist() == [22.25]


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "open('x')",
        "FLUX.__class__(1)",
        "[1, 2]",
        "'text'",
        "x if y else z",
        "lambda: 1",
        "x[0]",
        "1 +",
        "a < b < c",
        "True",
        "log10(x, base=2)",
        "where(a)",
        "log10(a, b)",
        "-" * 1990 + "a",
    ],
)
def test_nothing_else(text):
    """What is not arithmetic is refused before anything is worked out."""
    with pytest.raises(ValueError, match=r"formula"):
        names_in(text)


def test_no_answer_is_nan():
    """Where the arithmetic has no answer the result is NaN, without a warning."""
    result = evaluate("22.5 - 2.5 * log10(f)", {"f": np.array([0.0, -1.0, np.inf, 1.0])})
    np.testing.assert_array_equal(result, [np.nan, np.nan, np.nan, 22.5])


def test_works_in_float64():
    """float32 columns are worked out in float64 and only the result is rounded."""
    loglam = np.array([3.5805], "f4")
    result = evaluate("10 ** loglam", {"loglam": loglam})
    assert result.dtype == np.float64
    assert result[0] == 10 ** np.float64(loglam[0])
