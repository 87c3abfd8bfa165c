"""Penn Treebank tokenization of simple sentences without Java.

The caption toolkit tokenizes with Stanford's PTBTokenizer 3.4.1, which handles thousands of cases.
This module handles those that captions usually consist of: words and numbers with their usual
endings, and punctuation before and after them. For these the tokens are the same;
`tests/metrics/captions/test_treebank.py` compares them with published tokens and, if Java is
installed, with that program. Anything else is rejected, never guessed.
"""

import re

_CHUNK = re.compile(
    r"""
    (?P<opening>["(]?)
    (?P<word>[a-z0-9]+(?:-[a-z0-9]+)* | [a-z](?:\.[a-z])+\. | [a-z]+/[a-z]+ | \d\d?:\d\d)
    (?P<ending>(?<!\bo)(?:n't | '(?:s|m|d|re|ve|ll)) | (?<=[a-z][a-z]s)')?
    (?P<period>(?<!\.)\.)?
    (?P<closing>[",;:!?)]? | [,;:!?]" | "[,;:!?])
    """,
    re.VERBOSE,
)

_BRACKETS = {"(": "-lrb-", ")": "-rrb-"}
"""Tokens of brackets; the toolkit drops all other punctuation."""

_ALONE = (
    dict.fromkeys((*".,;:!?\"'-", "--", "..."), "")
    | _BRACKETS
    | {mark: mark for mark in ("&", "=", "#", "'s", "n't", "'re", "'ll", "'ve", "'m", "'d")}
)
"""Chunk that stands alone between spaces -> its token, empty if it is dropped."""

_PARTED = {
    "cannot": "can not",
    "gonna": "gon na",
    "gotta": "got ta",
    "wanna": "wan na",
    "lemme": "lem me",
    "gimme": "gim me",
}

_NEGATED = re.compile(
    "ai|are|ca|could|did|does|do|had|has|have|is|might|must|need|should|was|were|wo|would"
)
"""Words that n't is split from."""

_NUMBERS = re.compile(r"\d\W* \W?\d")
"""Two numbers in sequence may be a telephone number, which is a single token."""

_ABBREVIATIONS = frozenset(
    """
    adj adm adv al ala alex apr ariz assn assoc asst atty attys aug ave bancorp bhd bldg blvd brig
    bros calif capt cf cie cmdr co col colo comdr conn corp cos cpl ct dak dec dept det dr drs elec
    ens esq est etc ext feb fla fri ft ga gen gov govs hon inc ind insp intl invt jan jos jr jul jun
    kan kans ky lieut lt ltd maj mar md messrs mich minn mlle mme mo mon mont mr mrs ms msgr mt natl
    neb nev nov oct okla penn pfc ph plc pres prof profs pvt rd rep reps rev rt sen sens sep sept
    seq sfc sgt spc sq sr st ste supt supts sys tel tenn thu thurs treas tue tues univ va vs vt wed
    wis wisc wm wyo
    """.split()  # noqa: SIM905 - a list of a hundred quoted words is unreadable
)
"""Abbreviations that keep their period."""

_UNSURE = frozenset(
    """
    ark art az del fig figs ill la mass mfg miss mtg no nos op ore pa pp ppte ppty prop pte ptes pty
    ptys tex wash
    """.split()  # noqa: SIM905 - as above
)
"""Abbreviations that keep their period only in some spellings or before some words; the same holds
for single letters."""


def plain_tokens(sentence: str) -> str | None:
    """The tokens of a sentence, separated by spaces; None if the sentence is not simple enough."""
    chunks = sentence.lower().split()
    if not sentence.isascii() or _NUMBERS.search(" ".join(chunks)):
        return None
    tokens = [_ALONE[chunk] if chunk in _ALONE else _tokens(chunk) for chunk in chunks]
    return None if None in tokens else " ".join(filter(None, tokens))


def _tokens(chunk: str) -> str | None:
    match = _CHUNK.fullmatch(chunk)
    if match is None:
        return None
    word, ending, period = match["word"], match["ending"], match["period"]
    if ending == "n't" and not _NEGATED.fullmatch(word):
        return None
    if ending:
        middle = [word, "" if ending == "'" else ending]
    elif period and word in _ABBREVIATIONS:
        middle, period = [word + period], ""
    elif period and (len(word) == 1 or word in _UNSURE):
        return None
    else:
        middle = [_PARTED.get(word, word)]
    if period and match["closing"][:1] in {",", ";", ":"}:
        return None
    marks = [_BRACKETS.get(mark, "") for mark in match["opening"] + match["closing"]]
    opening = len(match["opening"])
    return " ".join(filter(None, [*marks[:opening], *middle, *marks[opening:]]))
