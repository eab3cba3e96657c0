"""Every form of the pages. What is right and wrong is decided by the steps; forms only ask them."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm
from django.core.exceptions import ValidationError

from compliance.decisions import require_reasons
from compliance.law import LawPack, laws
from compliance.models import DutyEnd, Kind, Organisation
from compliance.permissions import NotAllowed
from compliance.statuses import Status
from compliance.steps import step1_intake

_CLASSES: tuple[tuple[type[forms.Widget], str], ...] = (
    (forms.RadioSelect, "form-check-input"),
    (forms.CheckboxInput, "form-check-input"),
    (forms.Select, "form-select"),
    (forms.HiddenInput, ""),
    (forms.Widget, "form-control"),
)

PURPOSES = [
    ("identity", "To check the requester's identity"),
    ("targets", "To judge what was found"),
    ("decision", "To decide on a measure or a refusal"),
    ("enquiry", "To answer a question of the requester"),
]


def _style(form: forms.BaseForm) -> None:
    for field in form.fields.values():
        for widget, name in _CLASSES:
            if isinstance(field.widget, widget):
                field.widget.attrs.setdefault("class", name)
                break


class Form(forms.Form):
    """A form whose fields carry the style sheet's classes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"label_suffix": "", **kwargs})
        _style(self)


class LoginForm(AuthenticationForm):
    """One error for an unknown account, a wrong password and a closed account."""

    error_messages = {
        "invalid_login": "Account name and password do not match. Check both and try again.",
        "inactive": "Account name and password do not match. Check both and try again.",
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"label_suffix": "", **kwargs})
        self.fields["username"].label = "Account name"
        _style(self)


class RequestForm(Form):
    """A request as the person files it."""

    organisation = forms.ChoiceField(label="Which organisation do you write to?", required=False)
    kind = forms.ChoiceField(
        label="What do you ask for?",
        choices=Kind.choices,
        widget=forms.RadioSelect,
        required=False,
    )
    fact = forms.ChoiceField(
        label="Which fact is it about?",
        help_text="A correction is about one fact. A deletion may be about everything.",
        required=False,
    )
    right_value = forms.CharField(
        label="What is the right value?",
        help_text="As it should be stated about you, for example the name of a city.",
        required=False,
    )
    name = forms.CharField(
        label="Your full name",
        help_text="As we may hold it, in any script.",
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
    )
    contact = forms.CharField(
        label="Your e-mail address",
        help_text=(
            "We answer you here. If we hold an address of yours, the identity check goes there."
        ),
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "email", "inputmode": "email"}),
    )
    statement = forms.CharField(
        label="Anything that helps us",
        help_text="For example what the model said, when, and to which question.",
        required=False,
        widget=forms.Textarea(attrs={"rows": 4}),
    )
    law = forms.ChoiceField(
        label="Under which law do you ask?",
        help_text="If you are not sure, leave it as it is.",
        required=False,
    )

    def __init__(
        self,
        *args: Any,
        organisations: list[Organisation],
        facts: dict[str, str],
        **kwargs: Any,
    ) -> None:
        self.packs: dict[str, LawPack] = laws()
        super().__init__(*args, **kwargs)
        self._choices("fact", [("", "Everything about me"), *facts.items()])
        self._choices("law", [(pack.id, pack.name) for pack in self.packs.values()])
        self.organisations = {item.slug: item for item in organisations}
        if len(organisations) == 1:
            del self.fields["organisation"]
            self.initial.setdefault("law", organisations[0].default_law)
        else:
            names = [(item.slug, item.name) for item in organisations]
            self._choices("organisation", [("", "Choose an organisation"), *names])

    def _choices(self, name: str, choices: list[tuple[str, str]]) -> None:
        field = self.fields[name]
        if isinstance(field, forms.ChoiceField):
            field.choices = choices

    @property
    def organisation_chosen(self) -> Organisation:
        """Whom the request goes to, once the form is valid."""
        if len(self.organisations) == 1:
            return next(iter(self.organisations.values()))
        return self.organisations[self.cleaned_data["organisation"]]

    @property
    def request(self) -> step1_intake.Request:
        """The request as step 1 takes it. A right value belongs to a correction only."""
        given = self.cleaned_data
        correction = given.get("kind") == Kind.CORRECTION
        return step1_intake.Request(
            kind=given.get("kind", ""),
            name=given.get("name", ""),
            contact=given.get("contact", ""),
            statement=given.get("statement", ""),
            fact=given.get("fact", ""),
            right_value=given.get("right_value", "") if correction else "",
            law=given.get("law", ""),
        )

    def clean(self) -> dict[str, Any]:
        given = super().clean() or self.cleaned_data
        if "organisation" in self.fields and not given.get("organisation"):
            self.add_error("organisation", "Choose the organisation you write to.")
        try:
            step1_intake.check(self.request)
        except ValidationError as error:
            for field, found in error.message_dict.items():
                if field not in self.errors:
                    self.add_error(field, found)
        return given


class StatusForm(Form):
    """What opens a case to the person who filed it."""

    reference = forms.CharField(
        label="Reference",
        help_text="It looks like L2026-7Q4K-M2ZD.",
        max_length=40,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        error_messages={"required": "Enter the reference of your request."},
    )
    secret = forms.CharField(
        label="Secret",
        help_text="It was shown to you once, when you filed the request.",
        max_length=100,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        error_messages={"required": "Enter the secret of your request."},
    )


class CodeForm(Form):
    """The one-time code of the identity check."""

    code = forms.CharField(
        label="One-time code",
        help_text="Eight letters and digits from our e-mail. Capitals and spaces do not matter.",
        max_length=40,
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "spellcheck": "false"}),
        error_messages={"required": "Enter the code from our e-mail."},
    )


class FilterForm(Form):
    """The queue's filter; an empty field filters nothing."""

    q = forms.CharField(label="Reference", required=False, max_length=40, widget=forms.TextInput)
    status = forms.ChoiceField(
        label="Status", required=False, choices=[("", "All statuses"), *Status.choices]
    )


class FindForm(Form):
    """A person whose cases are looked for; sent by POST, so that it stands in no address."""

    person = forms.CharField(
        label="Exact name or e-mail of a person",
        max_length=254,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        error_messages={"required": "Enter a name or an e-mail address."},
    )


class RevealForm(Form):
    """Why personal data is looked at; the answer goes into the log."""

    purpose = forms.ChoiceField(
        label="Purpose",
        choices=[("", "Choose a purpose"), *PURPOSES],
        error_messages={"required": "Choose why you need to see the personal data."},
    )


class HoldForm(Form):
    """Why a case is kept from destruction; the reason is sealed with the case."""

    reason = forms.CharField(
        label="Reason for the hold",
        help_text="For example the court case or the complaint that needs the data.",
        required=False,
        widget=forms.Textarea(attrs={"rows": 2}),
    )

    def clean_reason(self) -> str:
        return _checked(self.cleaned_data["reason"])


class EndDutyForm(Form):
    """Why later versions are not asked for a finished case any more."""

    reason = forms.ChoiceField(
        label="Reason",
        choices=DutyEnd.choices,
        widget=forms.RadioSelect,
        error_messages={"required": "Choose the reason."},
    )


class PauseForm(Form):
    """Why all jobs stand still; everybody reads it."""

    reason = forms.CharField(
        label="Reason for the pause",
        help_text="Shown to officers beside each waiting job. No personal data.",
        max_length=300,
        error_messages={"required": "Say why all jobs are paused."},
    )


class PersonForm(Form):
    """Which of several namesakes on file filed the request."""

    subject_id = forms.CharField(required=False, max_length=100)


class ReasonsForm(Form):
    """Reasons for a decision, as the report will show them."""

    reasons = forms.CharField(
        label="Reasons",
        help_text="They go into the accountability report. Name no person.",
        required=False,
        widget=forms.Textarea(attrs={"rows": 3}),
    )

    def clean_reasons(self) -> str:
        return _checked(self.cleaned_data["reasons"])


class ProposeForm(ReasonsForm):
    """The officer's proposal for one target."""

    method = forms.ChoiceField(
        label="Method", error_messages={"required": "Choose a method."}, choices=[]
    )
    field_order = ("method", "reasons")

    def __init__(self, *args: Any, methods: dict[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["method"]
        if isinstance(field, forms.ChoiceField):
            field.choices = list(methods.items())


class RefusalForm(Form):
    """A refusal on a ground of the case's law."""

    ground = forms.ChoiceField(
        label="Ground",
        widget=forms.RadioSelect,
        error_messages={"required": "Choose the ground on which the request is refused."},
    )
    facts = forms.CharField(
        label="The facts it rests on",
        help_text="Concrete facts of this case, not the article again.",
        required=False,
        widget=forms.Textarea(attrs={"rows": 5}),
    )

    def __init__(self, *args: Any, pack: LawPack, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["ground"]
        if isinstance(field, forms.ChoiceField):
            field.choices = [
                (ground.id, f"{ground.article}: {ground.text}") for ground in pack.refusal_grounds
            ]

    def clean_facts(self) -> str:
        return _checked(self.cleaned_data["facts"])


def _checked(text: str) -> str:
    try:
        require_reasons(text)
    except NotAllowed as refusal:
        raise ValidationError(str(refusal)) from None
    return text.strip()
