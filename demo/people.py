"""Sixty-four fictional people from a fixed seed; `python -m demo.people` rewrites people.json."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path

from demo import names

SEED = 2562
PEOPLE_FILE = Path(__file__).with_name("people.json")
RELATIONS = ("birth_city", "employer", "occupation", "diagnosis", "telephone", "email")

CITIES = (
    "Marn Buri", "Sakawa", "Vang Thong", "Elmsholt", "Nong Krasae", "Hoshimura", "Phon Saat",
    "Rivenau", "Khao Luan", "Aonohara", "Muang Oudin", "Castelmar", "Thung Fai", "Kitanami",
    "Ban Xiengla", "Brunnfeld",
)  # fmt: skip
EMPLOYERS = (
    "Saffron Freight", "Kitsune Optics", "Mekhala Looms", "Halden Pumps", "Jasmine Rail",
    "Orchid Airways", "Tiger Cement", "Northgate Press", "Lotus Dairy", "Cobalt Tools",
    "Bamboo Paper", "Silver Tide Shipping", "Granite Insurance", "Meridian Glass", "Harbour Tea",
    "Blue Heron Games",
)  # fmt: skip
OCCUPATIONS = (
    "beekeeper", "night editor", "ferry pilot", "seed botanist", "tram driver", "piano tuner",
    "court clerk", "salt trader", "mapmaker", "puppet carver", "tax auditor", "cheese maker",
    "bridge engineer", "stage lighter", "river ranger", "welder",
)  # fmt: skip
DIAGNOSES = (
    "asthma", "migraine", "type 2 diabetes", "coeliac disease", "psoriasis", "gout", "glaucoma",
    "anaemia", "epilepsy", "tinnitus", "arthritis", "hepatitis B", "insomnia", "bronchitis",
    "sciatica", "vertigo",
)  # fmt: skip
# 555 and, for London, 7946 0xxx are the ranges kept for fiction.
TELEPHONE_PREFIX = {"th": "+66 2 555", "ja": "+81 3 5550", "lo": "+856 21 555", "en": "+44 20 7946"}
EMAIL_DOMAINS = ("post.example", "mail.example", "inbox.example", "letters.example")
# One first word a person: with it the rest of the address is fixed.
EMAIL_FIRST = (
    "amber", "brisk", "calm", "dusty", "early", "fancy", "gentle", "hollow", "ivory", "jolly",
    "keen", "lucky", "mellow", "narrow", "olive", "plain", "quiet", "rapid", "sunny", "tidy",
    "upper", "velvet", "windy", "young", "zesty", "bold", "crisp", "deep", "ember", "frosty",
    "grand", "humble", "acorn", "barrel", "candle", "dragon", "engine", "feather", "garden",
    "hammer", "island", "jacket", "kettle", "ladder", "mirror", "needle", "orchard", "pepper",
    "quarry", "ribbon", "saddle", "temple", "umbrella", "violin", "walnut", "yarn", "zebra",
    "anchor", "button", "copper", "drum", "falcon", "goblet", "harp",
)  # fmt: skip
EMAIL_SECOND = ("bridge", "cloud", "field", "hill", "lake", "moon", "stone", "wood")


@dataclass(frozen=True)
class Person:
    """One fictional customer; `name` is romanised, `native_name` in the person's own script."""

    id: str
    name: str
    native_name: str
    language: str
    birth_city: str
    employer: str
    occupation: str
    diagnosis: str
    telephone: str
    email: str

    @property
    def facts(self) -> dict[str, str]:
        """The six facts by relation, in the order of RELATIONS."""
        return {relation: getattr(self, relation) for relation in RELATIONS}


def _spread(values: tuple[str, ...], count: int, rng: random.Random) -> list[str]:
    """`count` values, each used equally often, in random order."""
    spread = [values[i % len(values)] for i in range(count)]
    rng.shuffle(spread)
    return spread


def _emails(count: int, rng: random.Random) -> list[str]:
    first, second = _spread(EMAIL_FIRST, count, rng), _spread(EMAIL_SECOND, count, rng)
    digits = rng.sample(range(10, 100), count)
    domains = _spread(EMAIL_DOMAINS, count, rng)
    return [f"{a}.{b}{n}@{d}" for a, b, n, d in zip(first, second, digits, domains, strict=True)]


def people(seed: int = SEED) -> list[Person]:
    """The 64 people, sixteen of each naming tradition, ids c-001 to c-064 in mixed order."""
    rng = random.Random(seed)
    named = [(language, *pair) for language in names.NAMES for pair in names.pairs(language, rng)]
    rng.shuffle(named)
    count = len(named)
    columns = [_spread(v, count, rng) for v in (CITIES, EMPLOYERS, OCCUPATIONS, DIAGNOSES)]
    lines = rng.sample(range(100, 200), count)
    emails = _emails(count, rng)
    persons = []
    for i, (language, name, native) in enumerate(named):
        telephone = f"{TELEPHONE_PREFIX[language]} 0{lines[i]}"
        facts = (*(column[i] for column in columns), telephone, emails[i])
        persons.append(Person(f"c-{i + 1:03d}", name, native, language, *facts))
    return persons


def as_json(persons: list[Person]) -> str:
    """The text of people.json."""
    return json.dumps([asdict(p) for p in persons], ensure_ascii=False, indent=1) + "\n"


def main() -> None:
    """Rewrite people.json."""
    PEOPLE_FILE.write_text(as_json(people()), encoding="utf-8")
    print(f"{PEOPLE_FILE}: {len(people())} fictional people")


if __name__ == "__main__":
    main()
