"""What goes in and what comes out, field by field."""

from __future__ import annotations

from rest_framework import serializers

from compliance.law import laws
from compliance.models import Kind


class RequestInput(serializers.Serializer):
    """A request as filed; compliance.steps.step1_intake checks it."""

    kind = serializers.ChoiceField(choices=Kind.choices)
    name = serializers.CharField(max_length=200)
    contact = serializers.EmailField()
    statement = serializers.CharField(max_length=4000, required=False, default="")
    fact = serializers.CharField(max_length=60, required=False, default="")
    right_value = serializers.CharField(max_length=200, required=False, default="")
    law = serializers.ChoiceField(choices=sorted(laws()), required=False, default="")
    organisation = serializers.SlugField(required=False, default="")


class StatusOutput(serializers.Serializer):
    """What the requester may see: where the case stands and by when it is answered."""

    reference = serializers.CharField()
    kind = serializers.CharField()
    status = serializers.CharField()
    outcome = serializers.CharField()
    received_at = serializers.DateTimeField()
    due_at = serializers.DateTimeField(allow_null=True)
    closed_at = serializers.DateTimeField(allow_null=True)
