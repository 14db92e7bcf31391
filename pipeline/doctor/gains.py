"""The gain over a baseline on the test rows, in words."""

from dataclasses import replace

from pipeline.doctor.evidence import Evidence, Gain

#: Baselines that are not fitted to the inputs: the majority class or the mean of a table; the last
#: value, that of a season before and the mean of a series.
NAIVE = ("naive", "seasonal", "mean")
#: Those of a series whose changes are predicted: the mean change is fitted.
NAIVE_OF_CHANGES = ("naive", "seasonal")


def naive_gain(run: Evidence) -> Gain | None:
    """Return the gain over the best of the baselines that are not fitted to the inputs."""
    baselines = NAIVE_OF_CHANGES if run.setting("data.difference") else NAIVE
    gains = [gain for baseline in baselines if (gain := run.gain(baseline)) is not None]
    return min(gains, key=lambda gain: gain.mean, default=None)


def learns_from_the_inputs(run: Evidence, baseline: str) -> bool:
    """Return whether a fitted baseline is better than all that are not fitted to the inputs."""
    test = run.findings.test
    if test is None or baseline not in test.baselines:
        return False
    predicted = replace(
        run.findings,
        threshold=0.5,
        test=replace(test, outputs=test.baselines[baseline]),
    )
    gain = naive_gain(Evidence(predicted))
    return gain is not None and gain.low > 0


def comparison(run: Evidence, gain: Gain) -> str:
    """Return the network's result and that of the baseline."""
    if run.is_regression:
        return f"test RMSE {gain.ours:.3g} against {gain.theirs:.3g} for {gain.name}"
    accuracy = f"{100 * gain.ours:.1f} % against {100 * gain.theirs:.1f} %"
    return f"balanced test accuracy {accuracy} for {gain.name}"


def least_loss(run: Evidence, gain: Gain) -> str:
    """Return how much worse than the baseline the network is at least."""
    if run.is_regression:
        return f"MSE at least {100 * -gain.high:.0f} % higher"
    return f"at least {100 * -gain.high:.1f} points worse"
