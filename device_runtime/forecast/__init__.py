"""A forecast: a base and an adapter merged, proven and run; samples in, quantiles out."""
