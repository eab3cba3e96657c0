"""The API: file a request, follow it."""

from __future__ import annotations

from django.urls import path

from .views import RequestList, RequestStatus

app_name = "api"
urlpatterns = [
    path("requests/", RequestList.as_view(), name="requests"),
    path("requests/<str:reference>/", RequestStatus.as_view(), name="request"),
]
