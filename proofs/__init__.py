"""Slow proofs of the trust core; each is a command: python -m proofs.NAME."""
