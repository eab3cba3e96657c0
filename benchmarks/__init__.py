"""Lethe's methods beside their published peers, on the same facts and the same machine."""
