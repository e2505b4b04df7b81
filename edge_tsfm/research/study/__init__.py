"""Methods × bases × targets × seeds beside baselines, from one TOML to one table."""
