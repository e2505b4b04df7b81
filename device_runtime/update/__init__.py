"""What runs, durably: the life of an adapter on a monitor. Never imports a forecaster: it is given one to open with."""
