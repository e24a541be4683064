"""Fetch trees, parts of them, and single files: checked as they come, resumed after any stop."""
