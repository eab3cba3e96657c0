"""Every setting, each from the environment with a safe default. docs/settings.md lists them."""

from __future__ import annotations

from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured

from compliance.key_files import KeyUnavailable, read_private

env = environ.Env()

BASE_DIR = Path(__file__).resolve().parent.parent

# --- Where run-time state lives ---

VAR_DIR = Path(env.str("LETHE_VAR", default=str(BASE_DIR / "var"))).resolve()
KEY_DIR = VAR_DIR / "keys"
STORE_DIR = VAR_DIR / "store"
WORK_DIR = VAR_DIR / "work"
MAIL_DIR = VAR_DIR / "mail"
# Signed states of the log, outside of the database; copies belong in other hands.
CHECKPOINT_DIR = VAR_DIR / "checkpoints"
POLICY_FILE = Path(env.str("LETHE_POLICY", default=str(BASE_DIR / "compliance/policy.yaml")))
TEMPLATES_FOLDER = Path(env.str("LETHE_TEMPLATES")) if env.str("LETHE_TEMPLATES", "") else None


def _secret_key() -> str:
    given: str = env.str("LETHE_SECRET_KEY", default="")
    if given:
        return given
    path = KEY_DIR / "django.key"
    if not path.exists():
        raise ImproperlyConfigured(
            f"No secret key at {path}. Run `make serve`, or set LETHE_SECRET_KEY."
        )
    try:
        return read_private(path)
    except KeyUnavailable as error:
        raise ImproperlyConfigured(str(error)) from None


SECRET_KEY = _secret_key()

# --- The web ---

DEBUG = False
ALLOWED_HOSTS = env.list("LETHE_HOSTS", default=["127.0.0.1", "localhost"])
# Behind TLS (any host but this machine) set LETHE_HTTPS=1: cookies and redirects follow.
HTTPS = env.bool("LETHE_HTTPS", default=False)
SECURE_SSL_REDIRECT = HTTPS
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
# Not "no-referrer": browsers then send `Origin: null` with forms, which CSRF protection refuses.
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_AGE = 8 * 3600
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
X_FRAME_OPTIONS = "DENY"
SIGNED_COOKIE_LEGACY_SALT_FALLBACK = False
DATA_UPLOAD_MAX_MEMORY_SIZE = 256 * 1024

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "public:start"
AUTH_USER_MODEL = "compliance.User"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "rest_framework",
    "django_htmx",
    "csp",
    "compliance",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    # Deny by default: a view is open to strangers only when it says so.
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "compliance.web.unavailable.Unavailable",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "img-src": ["'self'", "data:"],  # Tabler draws its form controls as data images
        "object-src": ["'none'"],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
        "form-action": ["'self'"],
    }
}

STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
# Style sheet and htmx are served from where they lie: no copying step before the first start.
WHITENOISE_USE_FINDERS = True

# --- Data ---

DATABASES = {"default": env.db("DATABASE_URL", default=f"sqlite:///{VAR_DIR / 'lethe.sqlite3'}")}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": (
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA secure_delete=ON;"
        ),
    }
elif DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql":
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
    DATABASES["default"]["OPTIONS"] = {
        "connect_timeout": 5,
        # A worker that was stopped inside a transaction must not keep the others waiting.
        "options": "-c idle_in_transaction_session_timeout=10s",
    } | DATABASES["default"].get("OPTIONS", {})

PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

# --- Time and language ---

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
USE_I18N = True

# --- E-mail: files under var/mail until a server is named ---

vars().update(env.email("EMAIL_URL", default="filemail:///"))
if EMAIL_BACKEND == "django.core.mail.backends.filebased.EmailBackend":  # type: ignore[name-defined]  # noqa: F821
    EMAIL_FILE_PATH = str(MAIL_DIR)
DEFAULT_FROM_EMAIL = env.str("LETHE_FROM_EMAIL", default="privacy@lethe.example")
PUBLIC_URL = env.str("LETHE_URL", default="http://127.0.0.1:8000")

# --- Jobs: the message is one opaque id, the row is the truth ---

JOB_LEASE_SECONDS = env.int("LETHE_JOB_LEASE", default=30)
JOB_TIME_LIMIT_SECONDS = env.int("LETHE_JOB_TIME_LIMIT", default=3600)
# Gibibytes; 0: nine tenths of the machine's memory.
JOB_MEMORY_GIB = env.float("LETHE_JOB_MEMORY_GIB", default=0.0)
# Seconds for which a worker outlasts a database that is away before it leaves a job to the sweeper.
JOB_PATIENCE_SECONDS = env.int("LETHE_JOB_PATIENCE", default=600)
JOB_MAX_ATTEMPTS = 3
JOB_SWEEP_SECONDS = env.int("LETHE_JOB_SWEEP", default=3)
UPKEEP_SECONDS = 3600

CELERY_BROKER_URL = env.str("BROKER_URL", default="filesystem://localhost/")
if CELERY_BROKER_URL.startswith("filesystem"):
    _ring = VAR_DIR / "broker"
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "data_folder_in": str(_ring / "ring"),
        "data_folder_out": str(_ring / "ring"),
        "control_folder": str(_ring / "control"),
        "store_processed": False,
        "polling_interval": 0.1,
    }
# Installations that share a broker need a queue each.
CELERY_TASK_DEFAULT_QUEUE = env.str("LETHE_QUEUE", default="lethe")
CELERY_TASK_IGNORE_RESULT = True
# A page must not wait for a broker that is away: the sweeper rings again.
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1, "interval_start": 0.1}
CELERY_BROKER_CONNECTION_TIMEOUT = 2
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_TASK_ACKS_LATE = False
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
# Nothing is told to workers but the bell. RabbitMQ would let one worker of a host name in only.
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BEAT_SCHEDULE = {
    "sweep": {
        "task": "compliance.tasks.sweep",
        "schedule": JOB_SWEEP_SECONDS,
        # Sweeps that could not be done in time are of no use later.
        "options": {"expires": 3 * JOB_SWEEP_SECONDS},
    },
    "keep-up": {
        "task": "compliance.tasks.keep_up",
        "schedule": UPKEEP_SECONDS,
        "options": {"expires": UPKEEP_SECONDS},
    },
}
# Not in the broker's folder: what lies there is expendable.
CELERY_BEAT_SCHEDULE_FILENAME = str(VAR_DIR / "run" / "beat")

# --- API ---

REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "UNAUTHENTICATED_USER": None,
}

# --- Logs: identifiers only, never what a request carried ---

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "class": "compliance.log_filter.PlacesOnly",
            "format": "{asctime} {levelname} {name} {message}",
            "style": "{",
        }
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": env.str("LETHE_LOG_LEVEL", default="WARNING")},
}
DEFAULT_EXCEPTION_REPORTER_FILTER = "compliance.log_filter.HideEverything"
