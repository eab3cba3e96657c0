"""The API's two resources. The secret travels in a header, never in an address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.core.exceptions import ValidationError
from rest_framework import status
from rest_framework.permissions import AllowAny
from rest_framework.response import Response
from rest_framework.views import APIView

from compliance.models import Organisation
from compliance.secret import find_case
from compliance.steps import step1_intake

from .serializers import RequestInput, StatusOutput

if TYPE_CHECKING:
    from rest_framework.request import Request

# One answer for an unknown reference and for a wrong secret.
UNKNOWN = {"message": "No request with this reference and secret."}


def chosen_organisation(slug: str) -> Organisation:
    """The organisation named, or the only one. Raises ValidationError."""
    found = Organisation.objects.filter(slug=slug) if slug else Organisation.objects.all()
    if found.count() != 1:
        raise ValidationError({"organisation": "Name the organisation you write to."})
    return found.get()


class RequestList(APIView):
    """POST files a request; the answer holds its secret, once."""

    permission_classes = [AllowAny]

    def post(self, request: Request) -> Response:
        given = RequestInput(data=request.data)
        if not given.is_valid():
            return Response(
                {"message": "Some fields need attention.", "errors": given.errors},
                status=status.HTTP_400_BAD_REQUEST,
            )
        fields = dict(given.validated_data)
        try:
            organisation = chosen_organisation(fields.pop("organisation"))
            case, secret = step1_intake.receive(organisation, step1_intake.Request(**fields))
        except ValidationError as error:
            return Response(
                {"message": "Some fields need attention.", "errors": error.message_dict},
                status=status.HTTP_400_BAD_REQUEST,
            )
        answer = StatusOutput(case).data | {"secret": secret}
        return Response(answer, status=status.HTTP_201_CREATED)


class RequestStatus(APIView):
    """GET with the header `Authorization: Secret …`."""

    permission_classes = [AllowAny]

    def get(self, request: Request, reference: str) -> Response:
        scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
        case = find_case(reference, secret if scheme == "Secret" else "")
        if case is None:
            return Response(UNKNOWN, status=status.HTTP_404_NOT_FOUND)
        return Response(StatusOutput(case).data, headers={"Cache-Control": "no-store"})
