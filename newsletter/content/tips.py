"""Tips: sentences of an article that tell the reader what to do, in English, German and French."""

from __future__ import annotations

import re

from newsletter.content.body import passages
from newsletter.content.excerpts import with_cautions
from newsletter.content.model import ContentItem, Tip
from newsletter.content.sentences import word_set

TITLE_LENGTH = 80
_MIN_WORDS, _MAX_WORDS = 3, 45

_VERBS = word_set(
    "add adjust aim allow apply arrange ask avoid bake balance be begin blend boil book bring brush"
    " build buy care carry change check choose chop clean cleanse clear close collect combine"
    " compare consider consult cook cool cover create cut deadhead dig dilute divide do don't"
    " drain drink dry eat enjoy ensure exercise exfoliate expect feed fertilize fertilise fill"
    " find finish fit focus follow gather get give go grow harvest have hold hydrate improve"
    " include inspect invest keep know layer learn leave let limit listen look loosen make"
    " massage measure mist mix moisturize moisturise monitor move mulch open opt organize"
    " organise pair pat patch pay pick pinch place plan plant pour practice practise prefer"
    " prepare press prevent prioritize prioritise protect prune pull put raise read reapply"
    " reduce refresh remember remove repeat replace repot research rest rinse rotate rub save"
    " schedule scrape seal see seek select set shake shave shield sign simmer skip sleep soak sow"
    " space spend spray spread sprinkle stake start stay steam stick stir stop store stretch"
    " switch take talk tell test think thin tie track transplant treat trim try turn understand"
    " use visit wait walk wash watch water wear weed wipe work wrap write"
)
_AMBIGUOUS = word_set(  # nouns too: an imperative only before one of `_AFTER_VERB`
    "balance book brush care change cover cut drink exercise feed focus layer limit look mask"
    " massage measure mist mix mulch pair patch place plan plant practice press research rest save"
    " schedule seal shield sleep soak space spray stake start steam store stretch test track treat"
    " turn visit walk wash watch water weed work wrap clean clear cool dry open fit set"
)
_AFTER_VERB = word_set(
    "a an the your their his her its this these those any all some each every both one two three"
    " no only at in on with without for from to into off out up down away around after before"
    " between over under until when while whether if as once twice well deeply gently early less"
    " more enough new small large plenty sure about against back carefully regularly"
)
_NEVER_AFTER = word_set(
    "is are was were has had can may might will would should could does did of isn't aren't"
    " and or itself"
)
_LEAD_IN = re.compile(
    r"(?:(?:always|never|please|also|then|next|finally|simply|just|instead|first|lastly"
    r"|secondly|for best results|when in doubt|if in doubt|do not|don['’]t|remember to"
    r"|be sure to|make sure to|try to|once a week|twice a day|every day)\b,?\s+)",
    re.IGNORECASE,
)
_LEANS = word_set("it them this these those that one")
_NO_TIP = re.compile(
    r"(?:read (?:on|more)|see (?:also|below|above)|click|subscribe|sign up|get updated|get (?:the"
    r" )?latest|follow us|join us|let['’]s|note that|remember that|think of|imagine|have a look"
    r"|abonnieren|melden sie sich|lesen sie|jetzt anmelden|abonnez|inscrivez|lisez|découvrez)",
    re.IGNORECASE,
)

_GERMAN_FORMAL = re.compile(r"(?:(?:bitte|dann|auch|nun) )?(\w{2,}(?:en|ern|eln)|seien|tun) sie\b")
_GERMAN_ASKING = word_set(
    "haben sind werden wollen möchten können sollten sollen müssen dürfen leiden hätten wären"
    " würden kennen mögen"
)
_GERMAN_FAMILIAR = re.compile(
    r"(?:(?:bitte|dann|immer|nie|niemals) )?(?:achte|trage|vermeide|verwende|nutze|benutze|gieße"
    r"|schneide|wähle|halte|nimm|gib|lass|lasse|iss|trink|trinke|mische|pflanze|säe|dünge|prüfe"
    r"|teste|reinige|wasche|creme|schütze|spare|lege|stelle|setze|mach|mache|beginne|plane|frage"
    r"|vergiss|denk|denke|sorge|warte|entferne|wechsle|sprich|kaufe|lagere|kontrolliere)\b"
)
_GERMAN_INFINITIVE = re.compile(r"(?:immer|nie|niemals|nicht)\b.*\w{2,}(?:en|ern|eln)[.!]?$")
_FRENCH = re.compile(
    r"(?:(?:puis|ensuite|enfin|surtout|toujours),? )?(?:ne |n['’])?(\w{3,}ez|faites|soyez|dites)\b"
)
_FRENCH_ASKING = word_set(
    "avez voulez pouvez savez souhaitez devez étiez serez aurez assez chez nez connaissez aviez"
    " pourrez verrez désirez"
)


def find_tips(item: ContentItem) -> list[Tip]:
    """The instructions in an article, in order and each once, with the cautions that go with them.

    Only sentences that stand by themselves: one that leans on the sentence before ("Rinse it off")
    is no tip. `Tip.source` is the article's id.
    """
    wanted: dict[str, None] = {}
    for passage in passages(item.body):
        for sentence in passage.sentences(item.language):
            if is_instruction(sentence.text, item.language):
                wanted[sentence.text] = None
    shown = dict(with_cautions(item, set(wanted)))
    return [Tip(short_title(text), shown[text], item.id) for text in wanted]


def is_instruction(sentence: str, language: str) -> bool:
    """Whether the sentence tells the reader to do or to avoid something."""
    length = len(sentence.split())
    if not _MIN_WORDS <= length <= _MAX_WORDS or sentence.rstrip().endswith(("?", ":")):
        return False
    plain = sentence.lstrip('*_"“„« ').casefold()
    if _NO_TIP.match(plain):
        return False
    if language == "de":
        return _is_german(plain)
    if language == "fr":
        match = _FRENCH.match(plain)
        return match is not None and match[1] not in _FRENCH_ASKING and "-vous " not in plain[:20]
    return _is_english(plain)


def _is_german(plain: str) -> bool:
    formal = _GERMAN_FORMAL.match(plain)
    if formal:
        return formal[1] not in _GERMAN_ASKING
    return bool(_GERMAN_FAMILIAR.match(plain) or _GERMAN_INFINITIVE.match(plain))


def _is_english(plain: str) -> bool:
    rest = plain
    led = False
    while match := _LEAD_IN.match(rest):
        rest, led = rest[match.end() :], True
    words = [word.strip(',.;:!()"“”*_') for word in rest.split()[:3]]
    if len(words) < 2 or words[0].replace("’", "'") not in _VERBS:
        return False
    if words[1] in _NEVER_AFTER or words[1] in _LEANS:
        return False
    if words[0] in _AMBIGUOUS and not led:
        return words[1] in _AFTER_VERB or words[1].endswith("ly")
    return True


def short_title(text: str, limit: int = TITLE_LENGTH) -> str:
    """A title made from a text: its first sentence, or as much of it as makes sense in `limit`.

    A clause that fits is preferred to a cut in mid-sentence, which is marked by `…`.
    """
    plain = re.sub(r"[*_`#]+", "", " ".join(text[:1000].split()))
    stop = re.search(r"[.!?](?=\s|$)", plain)
    sentence = plain[: stop.end()] if stop and stop.end() > 12 else plain
    sentence = sentence.rstrip(" .:;,")
    if len(sentence) <= limit:
        return sentence or "Untitled"
    clause = max(sentence.rfind(mark, 0, limit) for mark in (", ", "; ", ": ", " – ", " — "))
    if clause >= limit // 4:
        return sentence[:clause].rstrip(" ,;:–—")
    cut = sentence[: limit - 1]
    return (cut.rsplit(" ", 1)[0] if " " in cut else cut).rstrip(" ,;:–—") + "…"
