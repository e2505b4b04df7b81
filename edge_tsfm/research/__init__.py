"""What makes and compares bases and methods: pre-training, studies, benchmarks, profiles. Nothing else imports it."""
