from pipeline.tracking.fields import field_name, param_text


def test_a_name_that_mlflow_takes_stays_as_it_is() -> None:
    for name in ("val/f1", "optimizer.lr", "损失", "a b:c-d_e"):
        assert field_name(name) == name


def test_a_name_that_mlflow_refuses_is_bent_to_one_that_it_takes() -> None:
    assert field_name("f(x)=1") == "f_x__1"
    assert field_name("../a//b") == "a/b"


def test_long_names_stay_apart_after_the_cut() -> None:
    one, two = field_name("k" * 300 + "1"), field_name("k" * 300 + "2")
    assert len(one) == len(two) == 250
    assert one != two


def test_a_long_value_says_that_it_was_cut_and_how_long_it_was() -> None:
    text = param_text("x" * 7000)
    assert len(text) == 6000
    assert text.endswith("… (cut: 7000 characters)")


def test_values_read_as_hydra_would_write_them() -> None:
    assert [param_text(value) for value in (None, True, 1e-3, [1])] == [
        "null",
        "true",
        "0.001",
        "[1]",
    ]
