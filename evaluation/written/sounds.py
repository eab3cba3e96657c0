"""A name in Latin letters against Thai, Lao or kana: does it sound the same, as usually romanised?

The Latin side becomes a pattern over the other script, consonant by consonant, with classes of
letters that are romanised alike and loose vowels; the other side is first written in the order it
is spoken. Rules of our own after the royal Thai, the Lao and the Hepburn romanisations: there is no
permissively licensed library that covers all three. Chinese characters have no sound here.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from itertools import permutations

from evaluation.written.spelling import canonical

# Less than that sounds like something by chance.
LEAST_LETTERS = 5
LEAST_CONSONANTS = 3

_THAI_LAO = "\u0e01-\u0e4e\u0e81-\u0edf"
_KANA = "\u3041-\u3096\u30a1-\u30fa\u30fc\u30fb"

# Lao lies 0x80 above Thai, letter by letter; what Thai lacks is given its nearest sound.
_AS_THAI = {code: code - 0x80 for code in range(0x0E81, 0x0ECD)} | {
    ord("ຊ"): "ซ", ord("ຽ"): "ย", ord("ົ"): "อ", ord("ໍ"): "อ", ord("ຼ"): "ล", ord("ໆ"): "",
}  # fmt: skip
# Latin consonant -> letters that are romanised so, in Thai or in Lao.
_BEGINS = {
    "ng": "ง", "ny": "ญย", "kh": "ขฃคฅฆก", "ch": "จฉชฌ", "sh": "ซศษสช", "th": "ถทธฐฑฒต",
    "ph": "ผพภฟป", "gh": "กค", "dh": "ดธท", "bh": "บภพ",
    "k": "กขคฆ", "g": "กคง", "c": "กคจช", "q": "กค", "j": "จช", "s": "ซศษส", "x": "ซส",
    "z": "ซช", "t": "ตทฏถฐธ", "d": "ดฎทธ", "p": "ปพผภ", "b": "บพ", "f": "ฟฝ", "m": "ม",
    "n": "นณ", "y": "ยญ", "r": "รล", "l": "ลรฬ", "v": "ว", "w": "ว", "h": "หฮ",
}  # fmt: skip
# What is added where a consonant closes a syllable.
_CLOSES = {
    "n": "รลญฬ",
    "t": "จชซศษสดฎฑฒ",
    "th": "จชซศษสดฎ",
    "d": "ตสชจ",
    "k": "ขคง",
    "p": "บฟ",
    "l": "น",
}
_VOWELS = {
    "a": "ะัาเแ", "e": "เแิีืึัอะ", "i": "ิีเยญึื", "y": "ิีเยญ", "o": "โอาะวุูเ", "u": "ุูึืวอ",
    "w": "ว",
}  # fmt: skip
_CONSONANT = "|".join(sorted(_BEGINS, key=len, reverse=True)).replace("ny", "ny(?=[aeiou])")
_TOKENS = re.compile(
    rf"(?P<vowel>[aeiou]+(?:[yw](?![aeiou]))*|y(?![aeiou]))|(?P<consonant>{_CONSONANT})"
)
_WEAK = "[ะัเแโใไิุ]?"

_SPELLED = """
a i u e o ka ki ku ke ko sa shi su se so ta chi tsu te to na ni nu ne no ha hi fu he ho
ma mi mu me mo ya yu yo ra ri ru re ro wa i e o n
ga gi gu ge go za ji zu ze zo da ji zu de do ba bi bu be bo pa pi pu pe po vu
"""
_MORAS = (
    "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわゐゑをん"
    "がぎぐげござじずぜぞだぢづでどばびぶべぼぱぴぷぺぽゔ"
)
_ROMAJI = dict(zip(_MORAS, _SPELLED.split(), strict=True))
_SMALL = {"ゃ": "ya", "ゅ": "yu", "ょ": "yo", "ぁ": "a", "ぃ": "i", "ぅ": "u", "ぇ": "e", "ぉ": "o"}
_IN_KANA = {
    "l": "[rn]", "r": "r", "v": "[vbfh]", "th": "(?:[tsz]|sh)", "ph": "[fhp]",
    "c": "(?:k|sh?|ch)", "q": "k", "x": "(?:ks|kus|z|sh|s)", "sh": "(?:sh|su?h|s)",
    "ch": "(?:ch|k|sh|h)", "f": "[fh]", "kh": "k", "g": "[gjk]", "s": "(?:s|sh|z)",
    "z": "(?:[zjs]|ts)", "j": "[jyh]", "t": "(?:ts|t|ch)", "d": "[djt]", "ng": "ng?",
    "ny": "ny?", "gh": "[gf]", "dh": "d", "bh": "b", "ts": "ts", "w": "[wvu]", "n": "nn?",
    "h": "h", "m": "[mn]m?",
}  # fmt: skip
_KANA_VOWELS = {"a": "aeo", "e": "eiau", "i": "iea", "o": "oau", "u": "uao", "y": "iya", "w": "wu"}


def same(latin: str, other: str) -> bool:
    """Whether all of `other` (Thai, Lao or kana) sounds like `latin`."""
    if re.search(f"[{_KANA}]", other):
        heard = _spoken_kana(other)
        return _hepburn(latin) == _hepburn("".join(heard)) or _katakana(latin, other)
    return any(_thai_lao(latin, lao=_lao(other)).fullmatch(heard) for heard in _heard(other))


def occurs(value: str, answer: str, *, name: bool = False) -> bool:
    """Whether `answer` holds, in another script, what sounds like `value`; a name in any order."""
    plain = canonical(value)
    if re.fullmatch(r"[a-z ]+", plain):
        return any(_in_answer(order, answer) for order in _orders(plain.split(), name=name))
    if not re.fullmatch(rf"[{_THAI_LAO}{_KANA} ]+", plain) or not _enough(plain):
        return False
    parts = [canonical(part) for part in re.split("[\\s・=＝]+", value.strip())]
    targets = [order.replace(" ", "") for order in _orders(parts, name=name)]
    return _in_latin(targets, canonical(answer).split(), most=max(2, len(parts)) + 1)


def in_spoken_order(text: str, *, silent: bool = False) -> str:
    """Return Thai, or Lao in Thai letters, without tones, each vowel behind its consonant.

    silent: keep the letters that are marked as silent; foreign names are spelled out with them.
    """
    text = unicodedata.normalize("NFKC", text).replace("ໍາ", "າມ").replace("ํา", "าม")
    text = text.translate(_AS_THAI).replace("เเ", "แ")
    text = re.sub("รร(?=[ก-ฮ]์)", "ัน", text)
    if not silent:
        text = re.sub("(?:[ตทดฎฐศ](?=ร์))?[ก-ฮ][ิุ]?์", "", text)
    text = re.sub("[็-๎]", "", text)
    text = re.sub("รร(?=[ก-ฮ](?![ะ-ู]))", "ั", text)
    text = re.sub("รร(?![ะ-ู])", "ัน", text)
    text = re.sub("ห(?=[งญนมยรล])", "", text).replace("ฤ", "ริ")
    return re.sub("([เแโใไ])([ก-ฮ])", r"\2\1", text)


def _lao(text: str) -> bool:
    return re.search("[\u0e81-\u0edf]", text) is not None


def _enough(other: str) -> bool:
    if re.search(f"[{_KANA}]", other):
        return len("".join(_spoken_kana(other))) >= LEAST_LETTERS
    return len(in_spoken_order(other).replace(" ", "")) >= LEAST_LETTERS


def _heard(other: str) -> tuple[str, ...]:
    spelled = in_spoken_order(other), in_spoken_order(other, silent=True)
    return tuple(dict.fromkeys(spelled))


def _orders(words: list[str], *, name: bool) -> list[str]:
    if not name or len(words) > 3:
        return [" ".join(words)]
    return [" ".join(order) for order in permutations(words)]


def _in_answer(latin: str, answer: str) -> bool:
    text = unicodedata.normalize("NFKC", answer)
    if _in_kana(latin, text):
        return True
    if sum(1 for token in _TOKENS.finditer(latin) if token["consonant"]) < LEAST_CONSONANTS:
        return False
    for run in re.findall(f"[{_THAI_LAO}][{_THAI_LAO} ]*", canonical(answer)):
        pattern = _thai_lao(latin, lao=_lao(run))
        for heard in _heard(run):
            if any(len(found[0]) >= LEAST_LETTERS for found in pattern.finditer(heard)):
                return True
    return False


@lru_cache(maxsize=4096)
def _thai_lao(latin: str, *, lao: bool) -> re.Pattern[str]:
    """The pattern of a Latin spelling over `in_spoken_order` of Thai, or of Lao."""
    words = canonical(latin).split()
    tokens = [(w, t) for w, word in enumerate(words) for t in _TOKENS.finditer(_plain(word))]
    parts: list[str] = []
    for place, (word, token) in enumerate(tokens):
        after = tokens[place + 1][1] if tokens[place + 1 : place + 2] else None
        ends = place + 1 == len(tokens) or tokens[place + 1][0] != word
        begins = place == 0 or tokens[place - 1][0] != word
        if begins and place:
            parts.append(" ?")
        if vowels := token["vowel"]:
            glide = bool(after and vowels[-1] == "a" and after["consonant"] == "y")
            letters = "".join(_VOWELS[v] for v in vowels)
            letters += "ใไ" if glide or re.search("a[iy]", vowels) else ""
            # "Sonexay", "Somphone"
            silent = vowels == "e" and not begins and (ends or lao)
            unwritten = not ends and set(vowels) & {"a", "o"}
            least = 0 if silent or unwritten else 1
            carried = not begins and tokens[place - 1][1]["consonant"] == "ng"
            if ends and vowels[-1] == "a":
                # This sign always has a consonant behind it.
                letters = letters.replace("ั", "")
            parts.append(f"{'อ?' if begins or carried else ''}[{letters}]{{{least},4}}")
            continue
        name = token["consonant"]
        closing = ends or bool(after and after["consonant"])
        before = "" if begins else tokens[place - 1][1]["consonant"] or ""
        letters = _BEGINS[name] + (_CLOSES.get(name, "") if closing else "")
        # One letter for "tt", "tth" and "ts"; no r in Lao clusters, nor where it only marks length.
        twin = before[:1] == name[0] or (before == "t" and name == "s")
        weak = twin or (name == "r" and (closing or (before and lao))) or (name == "h" and closing)
        part = f"[{letters}]{{{0 if weak else 1},2}}"
        # "Elmsholt" and "Bounyong" have two sounds where "sh" and "ny" may be one.
        part = {"sh": part + "ฮ?", "ny": "[นณ]?" + part, "v": "ห?" + part, "w": "ห?" + part}.get(
            name, part
        )
        if closing:
            part += _WEAK + ("ร?" if name in "tk" else "")
        parts.append(part)
    return re.compile("".join(parts) or r"(?!)")


def _plain(word: str) -> str:
    """Casual spellings as one: "tch", "ck", "nh" at an end."""
    return re.sub(r"nh\b", "n", word.replace("tch", "ch").replace("ck", "k"))


def _spoken_kana(text: str) -> list[str]:
    """Moras in Hepburn letters; small letters join what is before them."""
    moras: list[str] = []
    for character in unicodedata.normalize("NFKC", text):
        code = ord(character)
        kana = chr(code - 0x60) if 0x30A1 <= code <= 0x30F6 else character
        if kana in _SMALL and moras:
            glide = _SMALL[kana]
            before = moras[-1][:-1] if len(moras[-1]) > 1 else moras[-1].replace("u", "w")
            joined = glide[-1] if len(glide) == 1 or before in ("sh", "ch", "j") else glide
            moras[-1] = before + joined
        elif kana in _ROMAJI:
            moras.append(_ROMAJI[kana])
    return moras


def _hepburn(text: str) -> str:
    """Hepburn spellings as one: long vowels short, m before b and p as n."""
    plain = re.sub(r"m(?=[bmp])", "n", text.replace(" ", ""))
    plain = re.sub(r"([aiueo])\1|(?<=o)u|(?<=o)h(?![aiueo])", r"\1", plain)
    return re.sub(r"([bcdfghjkmnprstz])\1|tch", lambda m: m[1] or "ch", plain)


def _in_kana(latin: str, answer: str) -> bool:
    wanted = _hepburn(latin)
    for run in re.findall(f"[{_KANA} =＝]+", answer):
        if len(wanted) >= LEAST_LETTERS and _has_moras(wanted, _spoken_kana(run)):
            return True
        words = re.findall("[\u30a1-\u30fa\u30fc]+", run)
        for size in {1, len(latin.split())}:
            for start in range(len(words) - size + 1):
                if _katakana(latin, "".join(words[start : start + size])):
                    return True
    return False


def _has_moras(wanted: str, moras: list[str]) -> bool:
    for start, mora in enumerate(moras):
        if mora[0] != wanted[0]:
            continue
        heard = mora
        for after in moras[start + 1 : start + 2 * len(wanted)]:
            heard += after
            if len(heard) >= len(wanted) and _hepburn(heard) == wanted:
                return True
    return False


def _katakana(latin: str, other: str) -> bool:
    """Whether a foreign word in katakana renders `latin`."""
    if not re.fullmatch("[\u30a1-\u30fa\u30fc・ ]+", other):
        return False
    return _rendered(latin).fullmatch("".join(_spoken_kana(other))) is not None


@lru_cache(maxsize=4096)
def _rendered(latin: str) -> re.Pattern[str]:
    parts = []
    for word in canonical(latin).split():
        single = re.sub(r"([b-df-hj-np-tv-z])\1", r"\1", _plain(word))
        single = single.replace("sch", "sh").replace("dg", "j")
        for token in _TOKENS.finditer(single):
            following = single[token.end() : token.end() + 1]
            if vowels := token["vowel"]:
                letters = "".join(sorted({letter for v in vowels for letter in _KANA_VOWELS[v]}))
                silent = vowels == "e" and token.end() == len(single)
                parts.append(f"[{letters}y]{{{0 if silent else 1},4}}")
            else:
                name = token["consonant"]
                weak = "?" if _unheard(name, following) else ""
                parts.append(f"(?:{_IN_KANA.get(name, name)}){weak}[uoi]?")
    return re.compile("".join(parts) or r"(?!)")


def _unheard(consonant: str, following: str) -> bool:
    """Whether English may leave a consonant out: Palmer, Wright, Knight."""
    return (
        consonant in ("r", "h", "gh")
        or (consonant == "l" and following not in "aeiouy")
        or (consonant + following) in ("wr", "kn")
    )


def _in_latin(targets: list[str], words: list[str], *, most: int) -> bool:
    for start, word in enumerate(words):
        if not re.fullmatch("[a-z]+", word) or not any(_may_begin(word, t) for t in targets):
            continue
        for end in range(start + 1, min(len(words), start + most) + 1):
            latin = " ".join(words[start:end])
            if len(latin) >= LEAST_LETTERS and any(same(latin, target) for target in targets):
                return True
    return False


def _may_begin(word: str, other: str) -> bool:
    """Whether the first letters can be the same sound: patterns are costly to make."""
    first = _TOKENS.match(word)
    if first is None or not first["consonant"] or re.match(f"[{_KANA}]", other):
        return True
    return any(heard[:1] in _BEGINS[first["consonant"]] for heard in _heard(other))
