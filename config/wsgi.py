"""The web process. It never imports torch, transformers, weasyprint or pyhanko."""

from __future__ import annotations

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

application = get_wsgi_application()

from compliance.policy import policy  # noqa: E402 -- needs the set-up above

# Refuses to start with a file that cannot be used; system checks are for manage.py alone.
policy()
