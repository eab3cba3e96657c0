"""The six steps, one file each, and what ends a case. Steps write; nothing else does."""
