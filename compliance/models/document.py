"""Reports and letters: sealed PDFs with their hashes."""

from __future__ import annotations

from django.db import models

from .case import Case


class DocumentKind(models.TextChoices):
    REPORT = "report", "Accountability report"
    LETTER = "letter", "Letter to the requester"


class Document(models.Model):
    """A PDF as delivered: `sha256` is that of the file, `artefact` its sealed copy."""

    case = models.ForeignKey(Case, on_delete=models.CASCADE, related_name="documents")
    kind = models.CharField(max_length=10, choices=DocumentKind.choices)
    file_name = models.CharField(max_length=100)
    artefact = models.CharField(max_length=64)
    sha256 = models.CharField(max_length=64)
    signature_valid = models.BooleanField(default=False)
    made_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["case", "kind"], name="one_document_per_kind"),
        ]

    def __str__(self) -> str:
        return self.file_name
