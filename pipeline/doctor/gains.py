"""The gain over a baseline on the test rows, in words."""

from pipeline.doctor.evidence import Evidence, Gain


def naive_gain(run: Evidence) -> Gain | None:
    """Return the gain over the better of the naive and the seasonal baseline."""
    naive = run.gain("naive")
    seasonal = run.gain("seasonal")
    is_seasonal_better = naive is not None and seasonal is not None and seasonal.mean < naive.mean
    return seasonal if is_seasonal_better else naive


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
