"""Field quality: forecasts are kept until their targets have arrived, then scored, beside the frozen base. No I/O."""
