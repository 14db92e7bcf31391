import pytest

from pipeline.errors import ConfigError


@pytest.mark.parametrize(
    ("model", "shape", "change", "message"),
    [
        (
            "mlp",
            (6,),
            {"init": "kaimin"},
            "model.init=kaimin is unknown; expected one of default, torch, keras, xavier, kaiming, "
            "orthogonal, normal. Did you mean 'kaiming'?",
        ),
        (
            "cnn1d",
            (40, 1),
            {"pool": "learnt"},
            "model.pool=learnt is unknown; expected one of none, max, avg, learned, global. "
            "Did you mean 'learned'?",
        ),
        (
            "cnn2d",
            (1, 8, 8),
            {"mixing": "weight"},
            "model.mixing=weight is unknown; expected one of full, weighted. "
            "Did you mean 'weighted'?",
        ),
        (
            "gru",
            (5, 1),
            {"activation": "sigmoid"},
            "model.activation=sigmoid is unknown; expected one of tanh, relu.",
        ),
        (
            "lstm",
            (5, 1),
            {"norm": "batch"},
            "model.norm=batch is unknown; expected one of none, layer.",
        ),
        (
            "lstm",
            (5, 1),
            {"readout": "lst"},
            "model.readout=lst is unknown; expected one of last, mean, flatten. "
            "Did you mean 'last'?",
        ),
    ],
)
def test_a_mistyped_choice_is_refused_with_all_choices_and_the_nearest(
    build, model: str, shape: tuple[int, ...], change: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError) as refusal:
        build(model, shape, 2, **change)
    assert str(refusal.value) == message
