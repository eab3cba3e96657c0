"""The Celery application: a doorbell. The database is the queue of record (compliance/jobs.py)."""

from __future__ import annotations

import os

from celery import Celery

from . import doorbell

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

doorbell.install()
app = Celery("lethe")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["compliance"])
