"""Errors of Lethe that a person may read: each says what to do and holds no personal data."""

from __future__ import annotations


class LetheError(Exception):
    """Base of all errors whose message is safe to show and to log."""


class CheckpointError(LetheError):
    """A model folder is not safetensors only, was changed, or asks for something unsafe."""


class UnsupportedArchitecture(LetheError):
    """The model family is not one that Lethe knows the inside of."""


class RequestError(LetheError):
    """A request, a plan or a setting cannot be carried out as given."""


class ConflictingRequests(RequestError):
    """Two requests of one batch cannot both hold; each alone can."""


class NotReached(LetheError):
    """The change was tried and did not achieve what was asked; the weights are as before."""


class DeltaError(LetheError):
    """A weight change does not belong to the weights it is applied to, or its file is damaged."""


class NoNumbers(LetheError):
    """A model computes numbers that are not finite (NaN, infinity); nothing that it says counts."""


class EndpointError(LetheError):
    """A server was asked and gave no answer that counts.

    status: the HTTP status of its last reply, None when there was none.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
