"""The head of a report speaks of what its readouts have: seeds, or a closed form."""

import pytest
from synthetic import make_result, make_ridge_result

from posjax.report.glossary import introduction


@pytest.mark.parametrize(
    ("result", "closed_form", "seed"),
    [
        (make_result(), False, "Draws the readout's initial weights"),
        (make_ridge_result(), True, None),
        (make_ridge_result(weights="random"), True, "Draws the weights of the encoder"),
    ],
)
def test_terms_fit_the_solver(result, closed_form, seed):
    paragraphs, terms = introduction([result])
    assert any("closed form" in text for text in paragraphs) is closed_form
    assert terms.get("seed", "")[: len(seed or "")] == (seed or "")
    assert ("draws images" in terms["[a, b]"]) is (seed is None)
    assert ("seed" in " ".join([*paragraphs, *terms.values()])) is (seed is not None)
