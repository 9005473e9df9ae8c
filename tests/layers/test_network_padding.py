"""Padding: the text of a flag is parsed once, into a mode for each layer and an alignment."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posjax.layers import MODES
from posjax.layers.network_padding import ALIGNMENTS, Padding

modes = st.sampled_from(MODES)
layers = st.lists(st.sampled_from(["conv1", "layer1.0.conv1", "features.3", "each"]), unique=True)
overrides = layers.flatmap(
    lambda names: st.tuples(*[modes for _ in names]).map(
        lambda words: tuple(zip(names, words, strict=True))
    )
)


@given(mode=modes, overrides=overrides, alignment=st.sampled_from(ALIGNMENTS))
@settings(max_examples=40, deadline=None)
def test_text_and_padding_are_converted_into_each_other(mode, overrides, alignment):
    for padding in (Padding(mode, overrides), Padding(mode, alignment=alignment)):
        assert Padding.parse(str(padding)) == padding
        assert Padding.parse(padding) is padding
        assert hash(Padding.parse(str(padding))) == hash(padding)


def test_parse_reads_mode_overrides_and_alignment():
    padding = Padding.parse("zeros+layer1.0.conv1=reflect+conv1=valid")
    assert padding == Padding("zeros", (("layer1.0.conv1", "reflect"), ("conv1", "valid")))
    assert (padding("conv1"), padding("layer2.0.conv1")) == ("valid", "zeros")
    assert padding.layers == ("layer1.0.conv1", "conv1")
    assert padding.modes == {"zeros", "reflect", "valid"}
    aligned = Padding.parse("valid@cropped")
    assert (aligned.mode, aligned.overrides, aligned.alignment) == ("valid", (), "cropped")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("same", "'same' is unknown; expected one of zeros, reflect"),
        ("", "'' is unknown"),
        ("zeros+conv1=same", "'same' is unknown"),
        ("zeros+conv1", r"'zeros\+conv1' cannot be read; expected MODE"),
        ("zeros@", "'zeros@' cannot be read"),
        ("zeros+conv1=reflect+conv1=valid", "has a layer twice"),
        ("zeros@small", "alignment 'small' is unknown; expected one of cropped, enlarged"),
        ("zeros@cropped@cropped", "alignment 'cropped@cropped' is unknown"),
        ("valid+conv1=zeros@cropped", "choose one"),
    ],
)
def test_parse_refuses_what_it_cannot_read(text, message):
    with pytest.raises(ValueError, match=message):
        Padding.parse(text)


@pytest.mark.parametrize(
    ("text", "compiled"),
    [
        ("reflect", "zeros"),
        ("valid", "valid"),
        ("reflect+conv1=circular", "zeros"),
        ("zeros+conv1=valid+layer1.0.conv1=reflect", "zeros+conv1=valid"),
        ("zeros+layer1.0.conv1=valid+conv1=valid", "zeros+conv1=valid+layer1.0.conv1=valid"),
        ("valid+conv1=partial", "valid+conv1=zeros"),
        ("valid+conv1=valid", "valid"),
        ("partial@cropped", "zeros@cropped"),
        ("valid@enlarged", "valid@enlarged"),
    ],
)
def test_paddings_that_give_the_same_shapes_are_compiled_as_one(text, compiled):
    assert str(Padding.parse(text).as_compiled) == compiled
    assert Padding.parse(compiled).as_compiled == Padding.parse(compiled)


def test_expand_puts_every_layer_in_place_of_each():
    expanded = Padding.parse("zeros+each=reflect+a=valid").expand(["b", "c"])
    assert [str(padding) for padding in expanded] == [
        "zeros+b=reflect+a=valid",
        "zeros+c=reflect+a=valid",
    ]
    plain = Padding.parse("zeros+a=reflect")
    assert plain.expand(["b", "c"]) == [plain]
