"""Given and family names, romanised and in their own script, that the fictional people get."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

Names = tuple[tuple[str, str], ...]

# language: (given names, family names), each (romanised, own script)
NAMES: dict[str, tuple[Names, Names]] = {
    "th": (
        (
            ("Malee", "มาลี"), ("Somsak", "สมศักดิ์"), ("Kanya", "กัญญา"), ("Anong", "อนงค์"),
            ("Prasert", "ประเสริฐ"), ("Wichai", "วิชัย"), ("Duangjai", "ดวงใจ"),
            ("Nattapong", "ณัฐพงษ์"), ("Ratree", "ราตรี"), ("Surachai", "สุรชัย"),
            ("Pimchan", "พิมพ์จันทร์"), ("Thanawat", "ธนวัฒน์"), ("Busaba", "บุษบา"),
            ("Chaiwat", "ชัยวัฒน์"), ("Orawan", "อรวรรณ"), ("Kittisak", "กิตติศักดิ์"),
        ),
        (
            ("Rungsiri", "รุ่งศิริ"), ("Thongdee", "ทองดี"), ("Saelim", "แซ่ลิ้ม"),
            ("Bunmak", "บุญมาก"), ("Charoenphon", "เจริญผล"), ("Suwanthip", "สุวรรณทิพย์"),
            ("Khamsing", "คำสิงห์"), ("Wongyai", "วงศ์ใหญ่"), ("Phetnoi", "เพชรน้อย"),
            ("Srikaeo", "ศรีแก้ว"), ("Inthanu", "อินทนู"), ("Nakwari", "นาควารี"),
        ),
    ),
    "ja": (
        (
            ("Akira", "明"), ("Yumiko", "由美子"), ("Yasuo", "康夫"), ("Naoko", "直子"),
            ("Takeshi", "武"), ("Emiko", "恵美子"), ("Hiroshi", "博"), ("Sachiko", "幸子"),
            ("Daiki", "大輝"), ("Mizuki", "瑞希"), ("Ryota", "涼太"), ("Chihiro", "千尋"),
            ("Shinji", "真司"), ("Ayaka", "彩香"), ("Tomoya", "智也"), ("Fumiko", "文子"),
        ),
        (
            ("Tanaka", "田中"), ("Morikawa", "森川"), ("Ishizuka", "石塚"), ("Hayasaka", "早坂"),
            ("Kurozumi", "黒住"), ("Nishizato", "西里"), ("Okabe", "岡部"), ("Shirai", "白井"),
            ("Uehara", "上原"), ("Takebayashi", "竹林"), ("Hosonuma", "細沼"),
            ("Asakura", "朝倉"),
        ),
    ),
    "lo": (
        (
            ("Bounmy", "ບຸນມີ"), ("Khamla", "ຄຳຫຼ້າ"), ("Souksan", "ສຸກສັນ"),
            ("Vilayvone", "ວິໄລວອນ"), ("Phouvong", "ພູວົງ"), ("Chanthala", "ຈັນທະລາ"),
            ("Sengdao", "ແສງດາວ"), ("Noymany", "ນ້ອຍມະນີ"), ("Thongsy", "ທອງສີ"),
            ("Keomany", "ແກ້ວມະນີ"), ("Somphone", "ສົມພອນ"), ("Latsamy", "ລັດສະໝີ"),
            ("Oudone", "ອຸດອນ"), ("Daovy", "ດາວວີ"), ("Bouakham", "ບົວຄຳ"),
            ("Xaysana", "ໄຊຊະນະ"),
        ),
        (
            ("Phommasak", "ພົມມະສັກ"), ("Sisouvanh", "ສີສຸວັນ"), ("Keobounma", "ແກ້ວບຸນມາ"),
            ("Inthavong", "ອິນທະວົງ"), ("Vongsay", "ວົງໄຊ"), ("Luangphet", "ຫຼວງເພັດ"),
            ("Chanthavi", "ຈັນທະວີ"), ("Duangmala", "ດວງມາລາ"), ("Philavanh", "ພິລາວັນ"),
            ("Thammavi", "ທຳມະວີ"), ("Xayavet", "ໄຊຍະເວດ"), ("Manolom", "ມະໂນລົມ"),
        ),
    ),
    "en": (
        tuple((n, n) for n in (
            "Søren", "Zoë", "Anaïs", "Jürgen", "Inês", "Lukas", "Márta", "Björn", "Chiara",
            "Elodie", "Niamh", "Piet", "Giulia", "Tomás", "Freya", "Henrik",
        )),
        tuple((n, n) for n in (
            "Lindqvist", "Brandão", "Hallström", "Moreau", "Kerrigan", "Vandenberg",
            "Castellani", "Østergaard", "Winterbourne", "Müllner", "Ferreira", "Dubrovin",
        )),
    ),
}  # fmt: skip


def pairs(language: str, rng: random.Random) -> list[tuple[str, str]]:
    """One (romanised, native) full name for each given name; some share a family name."""
    given, family = NAMES[language]
    families = [family[i % len(family)] for i in range(len(given))]
    rng.shuffle(families)
    full = []
    for (first, native_first), (last, native_last) in zip(given, families, strict=True):
        # Japanese puts the family name first.
        order = (native_last, native_first) if language == "ja" else (native_first, native_last)
        full.append((f"{first} {last}", " ".join(order)))
    return full
