"""The laws a case can fall under: data in packs/, no database here."""

from .reader import Ground, LawPack, law, laws

__all__ = ["Ground", "LawPack", "law", "laws"]
