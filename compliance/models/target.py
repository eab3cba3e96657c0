"""Targets of a case, what was done to each and what was measured after."""

from __future__ import annotations

from django.db import models

from .case import Case
from .decision import Decision
from .registry import Dataset, DatasetVersion, LanguageModel, ModelVersion
from .sealed_field import SealedJSONField


class TargetKind(models.TextChoices):
    MODEL = "model", "Model"
    DATASET = "dataset", "Training data"


class TargetState(models.TextChoices):
    FOUND = "found", "Found"
    PROPOSED = "proposed", "Measure proposed"
    APPROVED = "approved", "Approved"
    APPLIED = "applied", "Applied"
    VERIFIED = "verified", "Verified"
    FAILED = "failed", "Not verified"


class Target(models.Model):
    """A place where the person's data was found: a model or a dataset.

    `summary` holds counts (probes, hits by fact, records) and the causal trace; the evidence, with
    prompts and outputs, is the sealed artefact `evidence`.
    """

    case = models.ForeignKey(Case, on_delete=models.CASCADE, related_name="targets")
    kind = models.CharField(max_length=10, choices=TargetKind.choices)
    model = models.ForeignKey(LanguageModel, on_delete=models.PROTECT, null=True, blank=True)
    dataset = models.ForeignKey(Dataset, on_delete=models.PROTECT, null=True, blank=True)
    state = models.CharField(max_length=10, choices=TargetState.choices)
    affected = models.BooleanField(help_text="The person's data was found here")
    summary = SealedJSONField()
    evidence = models.CharField(max_length=64)
    found_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=(
                    models.Q(kind=TargetKind.MODEL, model__isnull=False, dataset__isnull=True)
                    | models.Q(kind=TargetKind.DATASET, model__isnull=True, dataset__isnull=False)
                ),
                name="target_names_its_kind",
            ),
            models.UniqueConstraint(fields=["case", "model"], name="model_once_per_case"),
            models.UniqueConstraint(fields=["case", "dataset"], name="dataset_once_per_case"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.name}"

    @property
    def language_model(self) -> LanguageModel:
        """The model of a model target. Raises ValueError for a dataset."""
        if self.model is None:
            raise ValueError("this target is a dataset")
        return self.model

    @property
    def training_data(self) -> Dataset:
        """The dataset of a dataset target. Raises ValueError for a model."""
        if self.dataset is None:
            raise ValueError("this target is a model")
        return self.dataset

    @property
    def name(self) -> str:
        return self.model.name if self.model is not None else self.training_data.name


class Application(models.Model):
    """One measure carried out on one target. `plan` was frozen before the change."""

    target = models.ForeignKey(Target, on_delete=models.CASCADE, related_name="applications")
    decision = models.OneToOneField(Decision, on_delete=models.PROTECT)
    model_before = models.ForeignKey(
        ModelVersion, on_delete=models.PROTECT, null=True, related_name="+"
    )
    model_after = models.ForeignKey(
        ModelVersion, on_delete=models.PROTECT, null=True, related_name="+"
    )
    dataset_before = models.ForeignKey(
        DatasetVersion, on_delete=models.PROTECT, null=True, related_name="+"
    )
    dataset_after = models.ForeignKey(
        DatasetVersion, on_delete=models.PROTECT, null=True, related_name="+"
    )
    plan = models.CharField(max_length=64, blank=True, help_text="Sealed artefact")
    plan_commitment = models.CharField(max_length=64, blank=True, help_text="Keyed digest")
    plan_frozen_at = models.DateTimeField()
    before = SealedJSONField(null=True)
    delta = models.CharField(max_length=64, blank=True, help_text="Sealed artefact")
    parameters = models.JSONField(default=dict)
    details = SealedJSONField(default=dict)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"application to {self.target}"

    @property
    def case(self) -> Case:
        """Whose key seals what was measured."""
        return self.target.case

    @property
    def version_before(self) -> ModelVersion | DatasetVersion:
        """What was changed. Raises ValueError before the job has looked it up."""
        version = self.model_before or self.dataset_before
        if version is None:
            raise ValueError("this application has not begun")
        return version

    @property
    def version_after(self) -> ModelVersion | DatasetVersion:
        """The candidate that came of it. Raises ValueError before there is one."""
        version = self.model_after or self.dataset_after
        if version is None:
            raise ValueError("this application has no result yet")
        return version


class Verification(models.Model):
    """The measurement after a change against the plan frozen before it."""

    application = models.OneToOneField(Application, on_delete=models.CASCADE)
    after = SealedJSONField()
    verdict = SealedJSONField()
    passed = models.BooleanField()
    verified_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"verification of {self.application}"

    @property
    def case(self) -> Case:
        """Whose key seals what was measured."""
        return self.application.case
