"""Which adapter runs, stored durably. Never imports the forecaster: it is given a function that opens adapters."""
