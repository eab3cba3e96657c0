"""Evidence record to canonical JSON, HTML, PDF/A-3 and signature, and the offline verifier.

May import the standard library, Jinja2, WeasyPrint, pyHanko and cryptography only.
"""
