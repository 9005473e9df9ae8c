"""The answer says what the intervals bear out, and no more."""

from synthetic import summary

from posjax.report.answer import answer


def test_a_mode_above_all_others_is_named_with_the_next():
    rows = [
        summary("zeros", spc=0.9),
        summary("reflect", spc=0.1),
        summary("valid", spc=0.2),
        summary("zeros", "G", spc=0.7),
        summary("reflect", "G", spc=0.3),
    ]
    (text,) = answer(rows)
    assert text == (
        "Readouts find H under zeros with SPC .90 [.80, 1.00]. Under every other mode SPC is lower:"
        " at most .20 [.10, .30] (valid). So they do G under zeros with .70 [.60, .80], above every"
        " other mode."
    )


def test_modes_whose_intervals_overlap_are_not_set_apart():
    rows = [
        summary(mode, spc=spc) for mode, spc in (("zeros", 0.8), ("partial", 0.7), ("mean", 0.0))
    ]
    (text,) = answer(rows)
    assert "the intervals of partial .70 [.60, .80] overlap with it" in text
    assert "Under 1 other mode SPC is lower: at most .00" in text


def test_an_interval_that_spans_0_finds_nothing():
    rows = [summary("circular", spc=0.05), summary("reflect", spc=-0.1)]
    (text,) = answer(rows)
    assert text == "Readouts do not find H: the highest is SPC .05 [−.05, .15] under circular."
    assert answer([summary("zeros", spc=None)]) == [
        "The SPC on H is undefined: all predictions are constant."
    ]
    assert answer([]) == []


def test_encoders_have_sentences_of_their_own_and_controls_one():
    rows = [
        summary("zeros", spc=spc, encoder=f"e{n}") for n, spc in enumerate((0.5, 0.6, 0.7, 0.8))
    ]
    controls = [summary("none", spc=spc, encoder="pixels", control="pixels") for spc in (0.0, 0.1)]
    texts = answer([*rows, *controls])
    assert texts[0] == "e0: Readouts find H under zeros with SPC .50 [.40, .60]."
    assert texts[3] == "So far 3 of 4 encoders and readouts; see the tables."
    assert texts[4] == "Controls on H, the highest of each kind: pixels .10 [.00, .20]."
