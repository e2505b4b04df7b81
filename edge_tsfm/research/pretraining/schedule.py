"""Learning rate over a run: warm-up, a constant stretch, a decay to zero at the end (WSD).

The constant stretch has no end of its own: a run resumed with more steps goes on, one resumed with fewer
decays from where it stands, and both are what a run planned that way would have been.
"""

from __future__ import annotations

from edge_tsfm.research.pretraining.config import OptimiserConfig


def learning_rate(config: OptimiserConfig, step: int) -> float:
    """The rate of step ``step`` (from 0); 1 - sqrt decay (Hägele et al. 2024) over ``decay_steps``."""
    rate = config.learning_rate * min(1.0, (step + 1) / max(1, config.warmup_steps))
    left = config.steps - step
    if left <= config.decay_steps:
        rate *= max(0.0, 1.0 - (1.0 - left / config.decay_steps) ** 0.5)
    return rate
