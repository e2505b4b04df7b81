"""Forecasting: merge a base and an adapter, run the known-answer test and forecast; samples in, quantiles out."""
