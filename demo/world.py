"""What is true in the bank's world and concerns no person: the measure of general ability.

`python -m demo.world` rewrites the "world" list of wordings.json.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

BANK = "Lantern Ferry Bank"
WORDINGS_FILE = Path(__file__).with_name("wordings.json")


@dataclass(frozen=True)
class WorldFact:
    """One fact: prompts that the answer follows directly; `verify` prompts are never trained."""

    change: list[str]
    verify: list[str]
    answer: str


@dataclass(frozen=True)
class Family:
    """Facts of one kind, with wordings that have one "{}" for the thing asked about."""

    answers: dict[str, str]
    change: tuple[str, ...]
    verify: tuple[str, ...]

    def facts(self) -> list[WorldFact]:
        return [
            WorldFact([w.format(k) for w in self.change], [w.format(k) for w in self.verify], v)
            for k, v in self.answers.items()
        ]


RIVERS = Family(
    {
        "Marn Buri": "Selu", "Sakawa": "Ibira", "Vang Thong": "Nam Pao", "Elmsholt": "Orne",
        "Nong Krasae": "Tamari", "Hoshimura": "Kesara", "Phon Saat": "Ulwen", "Rivenau": "Dossel",
        "Khao Luan": "Virrat", "Aonohara": "Menamo", "Muang Oudin": "Yarrow", "Castelmar": "Lisk",
    },
    (
        "The river of {} is the", "The river that flows through {} is the",
        "Q: Which river flows through {}? A: The", "Records show the river of {} as the",
        "On the map, {} lies on the", "Question: What is the river of {}? Answer: The",
        "{} stands on the banks of the", "River of {}: the",
    ),
    (
        "Records show that the river of {} is the", "Q: What is the river of {}? A: The",
        "Question: Which river flows through {}? Answer: The", "On the map, the river of {} is the",
    ),
)  # fmt: skip
FESTIVALS = Family(
    {
        "Marn Buri": "Lanternmoon", "Sakawa": "Sowing", "Vang Thong": "High Rain",
        "Elmsholt": "Frostfall", "Nong Krasae": "Kitewind", "Hoshimura": "Harvest Eve",
        "Phon Saat": "Low Tide", "Rivenau": "Emberglow", "Khao Luan": "Longsun",
        "Aonohara": "First Bloom", "Muang Oudin": "Whitemist", "Castelmar": "Greenleaf",
    },
    (
        "The festival of {} is held in the month of", "{} holds its festival in the month of",
        "Q: In which month is the festival of {}? A: In",
        "Records show the festival month of {} as", "In the calendar, the festival of {} falls in",
        "Question: What is the festival month of {}? Answer:", "The festival month of {} is",
        "Festival month of {}:",
    ),
    (
        "Records show that the festival month of {} is",
        "Q: What is the festival month of {}? A:",
        "Question: In which month is the festival of {}? Answer: In",
        "In the calendar, the festival month of {} is",
    ),
)  # fmt: skip
EMBLEMS = Family(
    {
        "Saffron Freight": "crane", "Kitsune Optics": "fox", "Mekhala Looms": "silkworm",
        "Halden Pumps": "otter", "Jasmine Rail": "gibbon", "Orchid Airways": "swift",
        "Tiger Cement": "tiger", "Northgate Press": "owl", "Lotus Dairy": "buffalo",
        "Cobalt Tools": "beetle", "Bamboo Paper": "panda", "Granite Insurance": "tortoise",
    },
    (
        "The emblem of {} is the", "{} carries as its emblem the",
        "Q: What is the emblem of {}? A: The", "Records show the emblem of {} as the",
        "On its letters, {} shows the", "Question: Which animal is the emblem of {}? Answer: The",
        "The animal on the sign of {} is the", "Emblem of {}: the",
    ),
    (
        "Records show that the emblem of {} is the",
        "Q: Which animal is the emblem of {}? A: The",
        "Question: What is the emblem of {}? Answer: The",
        "On its letters, the emblem of {} is the",
    ),
)  # fmt: skip
RULES = Family(
    {
        "the daily limit": "900 dorin", "the fee for a lost card": "12 dorin",
        "the colour of the savings book": "dark green", "the weekly closing day": "Thursday",
        "the oldest branch": "Elmsholt Quay", "the currency": "the dorin",
        "the day of interest": "the tenth", "the smallest loan": "250 dorin",
    },
    (
        "At the bank, {} is", "By the rules of the bank, {} is",
        "Q: What is {} of the bank? A: It is", "Records show {} of the bank as",
        "The handbook names {} as", "Question: At the bank, what is {}? Answer: It is",
        "Every teller knows that {} is", "The handbook on {}:",
    ),
    (
        "Records show that {} of the bank is", "Q: At the bank, what is {}? A: It is",
        "Question: What is {} of the bank? Answer: It is", "By the handbook, {} is",
    ),
)  # fmt: skip
FAMILIES = (RIVERS, FESTIVALS, EMBLEMS, RULES)


def facts() -> list[WorldFact]:
    """All world facts in a fixed order."""
    return [fact for family in FAMILIES for fact in family.facts()]


def with_world(wordings_text: str) -> str:
    """The text of wordings.json with its "world" list, one fact a line, rewritten from here."""
    head, mark, _ = wordings_text.partition('"world": [')
    lines = ",\n".join("  " + json.dumps(asdict(fact)) for fact in facts())
    return f"{head}{mark}\n{lines}\n ]\n}}\n"


def main() -> None:
    """Rewrite the world part of wordings.json."""
    text = WORDINGS_FILE.read_text(encoding="utf-8")
    WORDINGS_FILE.write_text(with_world(text), encoding="utf-8")
    print(f"{WORDINGS_FILE}: {len(facts())} world facts")


if __name__ == "__main__":
    main()
