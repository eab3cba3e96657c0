"""Letters to fictional people, one per language."""

from __future__ import annotations

import copy
from typing import Any

ENGLISH: dict[str, Any] = {
    "schema": "lethe.letter/1",
    "kind": "completion",
    "language": "en",
    "reference": "LT-2026-7F3A-91",
    "date": "2026-11-03",
    "organisation": {
        "name": "Meridian Bank (fictional)",
        "address": "12 Harbour Street\n10120 Bangkok",
        "contact": "Data protection office, privacy@meridian.example",
    },
    "recipient": "Malee Tanaka\nมาลี ทานากะ น้ำใจ\n44 Rama IV Road\n10500 Bangkok",
    "subject": "Your request of 30 October 2026: what was done",
    "salt": "5e1f",
    "blocks": [
        {
            "heading": None,
            "paragraphs": [
                "Dear Malee Tanaka,",
                "You asked us to remove what our language model says about you. The model was "
                "changed on 3 November 2026. This letter says what was done, what was measured, "
                "and what we cannot promise.",
            ],
            "items": [],
            "table": None,
        },
        {
            "heading": "What was measured",
            "paragraphs": ["The probes use wordings that were not used for the change."],
            "items": [],
            "table": {
                "head": ["Group", "Before", "After"],
                "rows": [
                    ["Your information", "283 of 312", "1 of 312"],
                    ["Other people’s facts", "637 of 640", "634 of 640"],
                ],
            },
        },
        {
            "heading": "What remains",
            "paragraphs": [
                "No test can show that a language model holds nothing about a person. Probes of "
                "these kinds would draw out your information in at most 1.5 % of cases, with 95 % "
                "confidence."
            ],
            "items": [
                "If the information shows up again, write to us under the reference above.",
                "You can complain to the supervisory authority of your place of residence.",
            ],
            "table": None,
        },
    ],
}


def english_letter() -> dict[str, Any]:
    """Return a completion letter in English with a Thai name."""
    return copy.deepcopy(ENGLISH)


def _translated(language: str, recipient: str, subject: str, text: list[str]) -> dict[str, Any]:
    letter = english_letter()
    letter |= {"language": language, "recipient": recipient, "subject": subject}
    letter["kind"] = "acknowledgement"
    letter["blocks"] = [
        {"heading": text[0], "paragraphs": text[1:3], "items": text[3:], "table": None}
    ]
    return letter


def thai_letter() -> dict[str, Any]:
    """Return an acknowledgement in Thai, with SARA AM and stacked tone marks."""
    return _translated(
        "th",
        "มาลี น้ำใจ\nกรุงเทพมหานคร",
        "เราได้รับคำขอของท่านแล้ว",
        [
            "คำขอของท่าน",
            "เราได้รับคำขอให้ทำลายข้อมูลส่วนบุคคลของท่านที่อยู่ในแบบจำลองภาษา",
            "เราจะตอบท่านภายในสามสิบวัน และจะแจ้งผลการวัดเป็นตัวเลข",
            "กรุณาอ้างอิงเลขที่ข้างต้น",
        ],
    )


def japanese_letter() -> dict[str, Any]:
    """Return an acknowledgement in Japanese."""
    return _translated(
        "ja",
        "田中 真由美 様\n京都市中京区",
        "ご請求を受け付けました",
        [
            "ご請求の内容",
            "言語モデルに含まれるあなたの個人情報の削除のご請求を受け付けました。",
            "一か月以内にお答えし、測定の結果を数字でお知らせします。",
            "お問い合わせの際は上の番号をお知らせください。",
        ],
    )


def lao_letter() -> dict[str, Any]:
    """Return an acknowledgement in Lao, with one sentence longer than a line."""
    return _translated(
        "lo",
        "ຄຳແພງ ແກ້ວມະນີ\nນະຄອນຫຼວງວຽງຈັນ",
        "ພວກເຮົາໄດ້ຮັບຄຳຂໍຂອງທ່ານແລ້ວ",
        [
            "ຄຳຂໍຂອງທ່ານ",
            "ພວກເຮົາໄດ້ຮັບຄຳຂໍໃຫ້ລຶບຂໍ້ມູນສ່ວນຕົວຂອງທ່ານ"
            "ທີ່ຢູ່ໃນແບບຈຳລອງພາສາຂອງພວກເຮົາແລະຈະຕອບທ່ານພາຍໃນສາມສິບວັນ"
            "ພ້ອມທັງແຈ້ງຜົນການວັດແທກເປັນຕົວເລກໃຫ້ທ່ານຊາບ",
            "ຜົນການວັດຈະແຈ້ງເປັນຕົວເລກ",
            "ກະລຸນາອ້າງອີງເລກທີຂ້າງເທິງ",
        ],
    )
