"""Recognises a sentence that qualifies what was said before it, in English, German and French.

By cue words alone. It errs on the side of caution: what is taken for one makes an excerpt longer,
what is missed would let a claim stand alone.
"""

from __future__ import annotations

import re

_OPENERS = {
    "en": (
        "however|but|although|though|nevertheless|nonetheless|still|yet|that said|that being said"
        "|on the other hand|unfortunately|caution|warning|note that|please note|keep in mind"
        "|bear in mind|be aware|be careful|unless|conversely|only if|even so|in contrast"
        "|despite|important"
    ),
    "de": (
        "jedoch|allerdings|aber|doch|dennoch|trotzdem|obwohl|hingegen|dagegen|leider|vorsicht"
        "|achtung|wichtig|beachten sie|bedenken sie|beachte|bedenke|hinweis|nur wenn"
    ),
    "fr": (
        "cependant|toutefois|mais|néanmoins|pourtant|en revanche|bien que|quoique|malheureusement"
        "|attention|prudence|notez|gardez à l['’]esprit|sauf|à condition|malgré|important"
    ),
}

_ANYWHERE = {
    "en": (
        r"however|although|though|, but|nevertheless|not(?! only| just| to mention)"
        r"|cannot|never|risks?|risky|consult\w*|(?:talk|speak)(?:ing)? (?:to|with)"
        r"|ask (?:your|a) \w+|(?:see|visit|contact|call|check with) (?:a|an|your) (?:\w+ )?"
        r"(?:doctor|dermatologist|physician|pharmacist|gp|vet|specialist|professional|practitioner)"
        r"|seek (?:\w+ ){0,2}(?:advice|attention|care|help)|stop (?:using|taking)|discontinue\w*"
        r"|may (?:cause|occur|react)|(?:may|can|could) (?:hurt|burn|sting|damage|worsen)"
        r"|side[ -]effects?|complications?|adverse|irritat\w+|allerg\w+"
        r"|infections?|inflammation|contraindicat\w+|pregnan\w+|breastfeeding|toxic\w*|poison\w*"
        r"|(?:results?|outcomes?|effectiveness|returns?) (?:\w+ ){0,3}(?:vary|depends?)|vary"
        r"|(?:exercise|with|use) caution|avoid(?:ed)?|substitute for|no guarantee\w*|unproven"
        r"|(?:medical|professional|financial|legal) (?:advice|guidance|consultation|supervision)"
        r"|(?:limited|little|no|weak|mixed|anecdotal) (?:\w+ )?evidence|more research|debate[ds]?"
        r"|(?:few|no|insufficient) (?:\w+ )?(?:studies|trials|research|data)"
        r"|less (?:straightforward|clear|effective)|unsuitable|dangerous|harmful|hazard\w*"
        r"|lose (?:money|your|some)|capital|past performance|warning"
    ),
    "de": (
        r"jedoch|allerdings|, aber|dennoch|trotzdem|obwohl|hingegen|nicht(?! nur| zuletzt)|nie"
        r"|niemals|keinesfalls|kein\w* (?:\w+ )?(?:garantie|ersatz|wirkung|beleg\w*|nachweis\w*)"
        r"|risik\w+|nebenwirkung\w*|komplikation\w*|ärzt\w+|arzt\w*|hautarzt\w*|apothek\w+"
        r"|dermatolog\w+|vorsicht\w*|vermeid\w+|schwanger\w*|stillend\w*|stillzeit|allergi\w+"
        r"|reizung\w*|gereizt\w*|entzündung\w*|infektion\w*|fachmann|fachfrau|fachleut\w*"
        r"|beraten|beratung|rücksprache|ungeeignet|variier\w+|unterschiedlich ausfallen|gefähr\w+"
        r"|giftig\w*|schädlich\w*|verlust\w*|totalverlust|umstritten\w*|wissenschaftlich nicht"
    ),
    "fr": (
        r"cependant|toutefois|, mais|néanmoins|pourtant|pas(?! seulement)|jamais|risques?"
        r"|effets? (?:secondaires?|indésirables?)|complications?|consult\w+|médecin\w*"
        r"|dermatologue\w*|pharmacien\w*|déconseill\w+|contre-indi\w+|prudence|évit\w+|enceintes?"
        r"|allaitant\w*|allergi\w+|irritations?|irrit\w+|infections?|inflammations?"
        r"|(?:avis|conseil) (?:médical|d['’]un)|professionnel\w* de (?:la )?santé|vari(?:er|ent)"
        r"|dangere\w+|toxiques?|nocifs?|pertes?|aucune (?:garantie|preuve)|inefficaces?"
    ),
}

_PATTERNS = {
    language: re.compile(
        rf"(?:^[\W_]*(?:{_OPENERS[language]})\b)|(?<!\w)(?:{_ANYWHERE[language]})(?!\w)",
        re.IGNORECASE,
    )
    for language in _OPENERS
}
_OPENING = {
    language: re.compile(rf"[\W_]*(?:{openers})\b", re.IGNORECASE)
    for language, openers in _OPENERS.items()
}
_NEGATION = re.compile(
    r"(?:do|does|did|is|are|was|were|has|have|had|ca|wo|should|would|could|must)n['’]t\b", re.I
)
_CAUTIOUS_HEADING = re.compile(
    r"\b(?:risk|caution|consideration|side effect|avoid|warning|safety|safe|limit|drawback"
    r"|downside|precaution|consult|risik|vorsicht|nebenwirkung|gefahr|beachten|nachteil|grenzen"
    r"|risque|précaution|effets|éviter|limite|danger|attention|contre-indication)",
    re.IGNORECASE,
)


def is_caution(sentence: str, language: str) -> bool:
    """Whether the sentence limits, warns or sends to a professional."""
    if language == "en" and _NEGATION.search(sentence):
        return True
    return _PATTERNS.get(language, _PATTERNS["en"]).search(sentence) is not None


def opens_with_contrast(sentence: str, language: str) -> bool:
    """Whether it begins by turning against what came before ("However, …")."""
    return _OPENING.get(language, _OPENING["en"]).match(sentence) is not None


def is_cautious_heading(heading: str) -> bool:
    """Whether a section is about risks ("Who should avoid …", "Considerations")."""
    return _CAUTIOUS_HEADING.search(heading) is not None
