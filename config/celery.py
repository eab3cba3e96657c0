"""The Celery application: a doorbell. The database is the queue of record (compliance/jobs.py)."""

from __future__ import annotations

import os

from celery import Celery
from celery.signals import import_modules
from kombu import Exchange, Queue

from . import doorbell

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

doorbell.install()
app = Celery("lethe")
app.config_from_object("django.conf:settings", namespace="CELERY")
# On the broker's default exchange, so that there is nothing but the queue to declare: a worker that
# finds an exchange of its own deleted while it binds to it ends (seen with RabbitMQ).
_name = app.conf.task_default_queue
app.conf.task_queues = [Queue(_name, Exchange(""), routing_key=_name)]
app.autodiscover_tasks(["compliance"])
app.autodiscover_tasks(["compliance"], related_name="watchdog")


@import_modules.connect(sender=app)
def refuse_a_policy_that_cannot_be_used(**_: object) -> None:
    """Celery drops what system checks find; what is raised here ends the worker's start."""
    from compliance.policy import policy

    policy()
