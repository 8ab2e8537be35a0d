"""How the text under a heading begins: as an article, or in the middle of a subject.

An article opens on the wide view ("Few things …", "X has become …"); a section gives orders, or
speaks of "it". English, German and French; it knows nothing of other sections.
"""

from __future__ import annotations

import re

from newsletter.content.sentences import guess_language, split_sentences
from newsletter.content.tips import is_instruction

_LEANS_BACK = re.compile(
    r"(?:it|they|these|this|those|both|either|each|such|he|she|its|their|one|another|other|others"
    r"|also|then|next|after that|afterwards|finally|for this|in this (?:case|step)|if (?:it|they)"
    r"|er|es|sie|diese[rsmn]?|beide|dazu|dafür|dabei|danach|anschließend|dann|hier|dort"
    r"|il|elle|ils|elles|cela|ça|ces|cette|ceux|celles?|ensuite|puis|on y)\b(?!['’])",
    re.IGNORECASE,
)
_WIDE_START = re.compile(
    r"(?:few (?:\w+ )?(?:things|people|plants|places|\w+s)\b|many (?:people|of us|\w+ers)\b"
    r"|most (?:of us|people)\b|nothing \w+|there (?:is|['’]s) (?:something|nothing|no)\b"
    r"|there are few\b|you (?:do not|don['’]t) (?:need|have)\b|if you(?:['’]ve| have)? (?:ever|\w+)"
    r"|have you\b|imagine\b|picture\b|when it comes to\b|everyone\b|everybody\b|anyone\b"
    r"|in (?:a|the|today['’]s) (?:\w+ )?world\b|over the (?:past|last)\b|in (?:recent|the past)\b"
    r"|for (?:centuries|generations|decades|years|many|most|some|as long)\b|whether (?:you|it)\b"
    r"|(?:thousands|millions|hundreds|billions) of\b|(?:as|with) \w+ (?:approach|com)(?:es|ing)\b"
    r"|the (?:question|idea|concept|world|thought|search|quest|art) of\b|it(?: is|['’]s) (?:one of"
    r"|no secret|easy to|a common|the)\b|once (?:considered|seen|thought|upon)\b|ever since\b"
    r"|we (?:all|have all|spend|often)\b|(?:almost |nearly )?every (?:gardener|parent|owner|cook"
    r"|year|spring|summer|autumn|winter|home|household|one)\b|long (?:before|considered|regarded)\b"
    r"|viele (?:menschen|leute|\w+)\b|immer mehr\b|kaum (?:ein|etwas|jemand)\b|wer kennt\b"
    r"|jede[rs]? kennt\b|seit (?:jahr|langem|vielen)\w*\b|nichts \w+\b|es gibt (?:kaum|nichts"
    r"|viele)\b"
    r"|ob \w+\b|fast jede\w*\b|die meisten\b|wer \w+ (?:möchte|will)\b"
    r"|rien ne\b|rien de plus\b|de plus en plus\b|qui n['’]a\b|beaucoup de\b|nombreux sont\b"
    r"|depuis (?:des|quelques|toujours|longtemps)\b|il existe peu\b|nous (?:avons|sommes) tous\b"
    r"|pour beaucoup\b|saviez-vous\b)",
    re.IGNORECASE,
)
_WIDE_VIEW = re.compile(
    r"\b(?:has|have) (?:long |recently |quickly |rapidly |always |also )?(?:become|been|gained"
    r"|earned|grown|emerged|taken|moved|transformed|changed|made|surged|risen|won|captured)\b"
    r"|\b(?:is|are|remains?) (?:a|an|one of|among|some of) (?:the )?(?:\w+[- ])?(?:most|best"
    r"|popular|powerful|common|essential|vital|\w+est)\b|\bplays? an? (?:\w+ )?role\b"
    r"|\b(?:nearly|almost|more than|about|around|up to|over|fast|rund|etwa|mehr als"
    r"|près d['e’]|plus d['e’])"
    r" ?(?:\w+ )?(?:third|half|quarter|percent|million\w*|billion\w*|hälfte|drittel|moitié"
    r"|tiers)\b"
    r"|\b(?:often|widely)"
    r" (?:overlooked|considered|called|referred|regarded|neglected|misunderstood)\b"
    r"|\b(?:celebrated|beloved|renowned|prized|hailed|cherished)\b|\balso known as\b|\bknown (?:as"
    r"|for)\b|\bno longer\b|\b(?:gilt|gelten|zähl(?:t|en)|gehör(?:t|en)) (?:\w+ ){0,3}(?:als|zu)\b"
    r"|\bfragen sich (?:viele)?\b|\berfreu(?:t|en) sich\b|\bbeliebt\b|\bist (?:einer?|eines) der\b"
    r"|\bwird oft\b|\best (?:un|une|l['’]un|l['’]une|devenue?|connue?)\b|\bfait partie\b"
    r"|\bn['’]a rien d\b|\bsont (?:de|parmi|devenus|devenues)\b",
    re.IGNORECASE,
)
_TURNS = re.compile(
    r"(?:yet\b|but (?:with|the|many|what|how|is|are|it)\b|fortunately|luckily|thankfully"
    r"|unfortunately|the (?:good|bad) news\b|the truth is|the (?:secret|answer|key|trick|choice"
    r"|challenge) \w+|this (?:guide|article|post|handbook|overview)\b"
    r"|in this (?:guide|article|post)|here (?:is|are|['’]s)\b|before you\b"
    r"|with (?:a (?:little|bit|few)|some|just|the right|these)\b"
    r"|while (?:some|many|it|the)\b|modern \w+|but\b|so (?:what|how|is|are|why)\b"
    r"|doch\b|dennoch\b|trotzdem\b|glücklicherweise\b|zum glück\b"
    r"|mit (?:ein|etwas|den|der|ein paar)\b|dieser (?:ratgeber|artikel|beitrag)"
    r"|in diesem (?:artikel|beitrag|ratgeber)|auch ohne\b"
    r"|pourtant\b|mais\b|heureusement\b|avec (?:un peu|quelques|les|ces)\b|avant de\b|cet article"
    r"|ce guide|dans cet article)",
    re.IGNORECASE,
)


def orders(heading: str) -> bool:
    """Whether a heading tells the reader to do something ("Let the Dough Rest")."""
    return not heading.endswith("?") and is_instruction(heading, guess_language(heading))


def opens_article(paragraph: str) -> float:
    """From -1.5 (it goes on about something named before) to 2.5 (it opens on the wide view)."""
    language = guess_language(paragraph)
    sentences = [each.text for each in split_sentences(paragraph[:600], language)[:3]]
    if not sentences:
        return 0.0
    first, *rest = sentences
    score = 0.0
    if _WIDE_START.match(first):
        score += 1.25
    elif is_instruction(first, language):
        score -= 1.5
    elif _LEANS_BACK.match(first):
        score -= 1.25
    score += 0.75 if _WIDE_VIEW.search(first) else 0.0
    score += 0.5 if any(_TURNS.match(each) for each in rest) else 0.0
    return score - (0.5 if len(first.split()) < 3 else 0.0)
