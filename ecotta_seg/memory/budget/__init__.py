"""Memory budgets: plans of a step, and their peaks predicted by steps without data."""
