"""Pre-train small Chronos bases on synthetic series only, so that the weights contain no patient data."""
