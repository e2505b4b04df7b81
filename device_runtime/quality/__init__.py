"""Field quality: forecasts remembered until their targets are in, then scored, beside the frozen base. No I/O."""
