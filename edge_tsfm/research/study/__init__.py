"""Methods × bases × targets × seeds beside yardsticks, from one TOML to one table."""
