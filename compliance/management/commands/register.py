"""Register a model, its training data, or both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError
from django.db import IntegrityError, transaction

from compliance import registry
from compliance.models import Organisation
from compliance.permissions import SYSTEM
from compliance.wordings_file import WordingsError, check

if TYPE_CHECKING:
    from argparse import ArgumentParser

# What reading a file as JSON raises; neither message repeats what stands in it.
NOT_JSON = (json.JSONDecodeError, UnicodeDecodeError)


class Command(BaseCommand):
    help = "Register a model folder and the JSONL records it was trained on (docs/stewards.md)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--organisation", required=True, help="slug of the organisation")
        parser.add_argument("--name", required=True, help="name of the model")
        parser.add_argument("--model", type=Path, help="folder of safetensors, config, tokenizer")
        parser.add_argument("--wordings", type=Path, help="JSON: how its facts are asked for")
        parser.add_argument("--records", type=Path, help="JSONL of its training data, if ours")

    def handle(self, *args: Any, **options: Any) -> None:
        organisation = Organisation.objects.filter(slug=options["organisation"]).first()
        if organisation is None:
            raise CommandError("No such organisation. Create it: python manage.py create_office")
        if options["model"] and not options["wordings"]:
            raise CommandError("A model needs --wordings: without them it cannot be probed.")
        if not options["model"] and not options["records"]:
            raise CommandError("Give --model, --records, or both.")
        try:
            wordings = json.loads(options["wordings"].read_text()) if options["model"] else None
            if wordings is not None:
                check(wordings)
            # Files come before the transaction: a database ends one that stands idle for long.
            stored = registry.bring(options["model"]) if options["model"] else None
            with transaction.atomic():
                self._register(organisation, stored, wordings, options)
        except (registry.RegistrationError, WordingsError, OSError, *NOT_JSON) as error:
            raise CommandError(str(error)) from error
        except IntegrityError:
            raise CommandError("A model or dataset of this name is registered already.") from None

    def _register(
        self,
        organisation: Organisation,
        stored: registry.Stored | None,
        wordings: Any,
        options: dict[str, Any],
    ) -> None:
        name, dataset = options["name"], None
        if options["records"]:
            version = registry.register_dataset(
                organisation,
                name=f"{name}: training data",
                records=options["records"].read_bytes(),
                actor=SYSTEM,
            )
            dataset = version.dataset
            self.stdout.write(f"dataset {version.digest} ({version.records} records)")
        if stored:
            model = registry.register_model(
                organisation,
                name=name,
                stored=stored,
                wordings=wordings,
                actor=SYSTEM,
                training_ours=dataset is not None,
                dataset=dataset,
            )
            self.stdout.write(f"model   {model.digest}")
