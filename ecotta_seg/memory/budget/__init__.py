"""Memory budgets: plans of a step, and predictions of their peaks by steps without data."""
