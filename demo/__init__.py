"""Fictional people, their bank, and the small model that was trained on the bank's records."""
