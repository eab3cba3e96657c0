"""The heavy step that writes: report and letter as signed PDFs. No Django."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def write(request: dict[str, Any], report: Callable[[str, int, int], None]) -> dict[str, Any]:
    """Render, sign and check both documents; PDFs come back in base64."""
    from reports import letter, signature
    from reports import report as accountability
    from reports.evidence import EvidenceError
    from reports.verify import verify

    keys = Path(request["keys"])
    made = {}
    report("Writing the report", 0, 2)
    records, proofs = request["records"], request["proofs"]
    drafts = {"report": accountability.render(records["report"], proofs["report"])}
    report("Writing the letter", 1, 2)
    drafts["letter"] = letter.render(records["letter"], proofs["letter"])
    for kind, draft in drafts.items():
        reason = f"{kind.capitalize()} of case {request['reference']}"
        try:
            signed = signature.sign(draft, keys, reason=reason, location=request["organisation"])
        except signature.SignatureError as error:
            # Its words are fit to show, and trying again would end the same way.
            raise EvidenceError(str(error)) from None
        certificate = (keys / signature.CERTIFICATE).read_bytes()
        made[kind] = {
            "pdf": base64.b64encode(signed).decode(),
            "sha256": hashlib.sha256(signed).hexdigest(),
            "signature_valid": verify(signed, certificate).valid,
        }
    report("Writing the letter", 2, 2)
    return made
