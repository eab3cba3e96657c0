"""What the organisation answers for: language models, datasets and every version of them."""

from __future__ import annotations

from django.db import models

from .organisation import Organisation


class VersionState(models.TextChoices):
    """A version is a candidate until verification lets it be the current one."""

    CANDIDATE = "candidate", "Candidate"
    CURRENT = "current", "Current"
    FORMER = "former", "Former"
    DISCARDED = "discarded", "Discarded"


class Version(models.Model):
    """What model and dataset versions share: a content address, a parent, a state."""

    digest = models.CharField(max_length=64)
    parent = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, blank=True, related_name="children"
    )
    state = models.CharField(max_length=10, choices=VersionState.choices)
    # The target goes when its case is shredded; the case's reference stays in the lineage.
    made_for = models.ForeignKey(
        "compliance.Target", on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    case = models.ForeignKey(
        "compliance.Case", on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    created_at = models.DateTimeField()

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.digest[:12]


class Dataset(models.Model):
    """Training data keyed by subject: JSON lines, each with the id of its subject."""

    organisation = models.ForeignKey(Organisation, on_delete=models.PROTECT)
    name = models.CharField(max_length=100)
    description = models.CharField(max_length=300, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organisation", "name"], name="dataset_name_unique"),
        ]

    def __str__(self) -> str:
        return self.name


class DatasetVersion(Version):
    """One state of a dataset; `digest` is the SHA-256 of its JSONL."""

    dataset = models.ForeignKey(Dataset, on_delete=models.PROTECT, related_name="versions")
    records = models.PositiveIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["dataset"],
                condition=models.Q(state=VersionState.CURRENT),
                name="one_current_dataset_version",
            ),
            models.UniqueConstraint(
                fields=["dataset"],
                condition=models.Q(state=VersionState.CANDIDATE),
                name="one_candidate_dataset_version",
            ),
        ]


class LanguageModel(models.Model):
    """A registered model. `wordings`: how its facts are asked for (sealed artefact of JSON)."""

    organisation = models.ForeignKey(Organisation, on_delete=models.PROTECT)
    name = models.CharField(max_length=100)
    description = models.CharField(max_length=300, blank=True)
    family = models.CharField(max_length=40)
    open_weights = models.BooleanField(default=True)
    training_ours = models.BooleanField(default=False, help_text="We trained it on our dataset")
    dataset = models.ForeignKey(Dataset, on_delete=models.PROTECT, null=True, blank=True)
    wordings = models.CharField(max_length=64)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organisation", "name"], name="model_name_unique"),
        ]

    def __str__(self) -> str:
        return self.name


class ModelVersion(Version):
    """One state of a model's weights; `digest` is the SHA-256 of its manifest.

    One candidate at a time: two changes of one model never race.
    """

    model = models.ForeignKey(LanguageModel, on_delete=models.PROTECT, related_name="versions")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["model"],
                condition=models.Q(state=VersionState.CURRENT),
                name="one_current_model_version",
            ),
            models.UniqueConstraint(
                fields=["model"],
                condition=models.Q(state=VersionState.CANDIDATE),
                name="one_candidate_model_version",
            ),
        ]
