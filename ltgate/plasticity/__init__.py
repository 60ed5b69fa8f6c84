"""Local learning rules, one per file; pure functions and small explicit states."""
