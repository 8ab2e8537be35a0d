"""The words by which a text shows its build: closings, generic headings, calls to action.

English, German and French. Data and small predicates only; every pattern is linear.
"""

from __future__ import annotations

import re

# --- closings -----------------------------------------------------------------------------------

_CONCLUSION_HEADING = re.compile(
    r"(?:conclusions?|in conclusion|in summary|summary|to sum up|final (?:thoughts?|words?|note)"
    r"|closing thoughts?|concluding \w+|wrapping (?:it )?up|(?:the )?bottom line|takeaways?"
    r"|key takeaways?|the takeaway|in short|last words?|parting thoughts?|verdict|the verdict"
    r"|fazit|unser fazit|mein fazit|zusammenfassung|schlussfolgerung(?:en)?|schlusswort|schluss"
    r"|zum schluss|abschließende gedanken|abschluss|ausblick|resümee|auf den punkt gebracht"
    r"|en conclusion|pour conclure|en résumé|résumé|synthèse|le mot de la fin|en bref|bilan"
    r"|à retenir|ce qu['’]il faut retenir|le mot final)(?:$|[\s:?–—-])",
    re.IGNORECASE,
)
_STRONG_CLOSING = re.compile(
    r"(?:in conclusion|in summary|to conclude|to sum(?:marize|marise| up| it up)|in closing"
    r"|summing up|all in all|to wrap (?:it )?up|zusammenfassend|zusammengefasst|fazit\b"
    r"|abschließend|alles in allem|im ergebnis|als fazit|en conclusion|pour conclure|en résumé"
    r"|pour résumer|en somme|en définitive|en guise de conclusion|somme toute)",
    re.IGNORECASE,
)
_WEAK_CLOSING = re.compile(
    r"(?:overall|ultimately|in short|in the end|in essence|remember|by following|by taking"
    r"|by (?:un|choos|keep|mak|combin)\w+|with (?:a little|these|the right|proper|regular|some"
    r"|patience|good|consistent|careful)|whether you|at the end of the day|always|so,? next time"
    r"|when done (?:right|well)|insgesamt|letztlich|letztendlich|unterm strich|kurz gesagt"
    r"|kurzum|mit (?:etwas|ein wenig|der richtigen|diesen|den richtigen|ein bisschen|geduld)"
    r"|wer (?:diese|sich|regelmäßig)|denken sie|am ende|viel (?:erfolg|spaß|freude)|so wird"
    r"|bref|finalement|au final|au bout du compte|avec (?:un peu|ces|de la|les bons)"
    r"|en suivant|n['’]oubliez|ainsi|en fin de compte)\b",
    re.IGNORECASE,
)
_HAPPY_END = re.compile(
    r"(?:happy \w+|for years to come|worth the (?:effort|wait)|in no time|good luck|bonne?"
    r" \w+|viel (?:erfolg|spaß|freude))[\s!.]*$",
    re.IGNORECASE,
)


def is_conclusion_heading(text: str) -> bool:
    return _CONCLUSION_HEADING.match(text) is not None


def closing_strength(paragraph: str) -> float:
    """0, 1 (perhaps) or 2 (clearly): whether a paragraph ends an article."""
    tail = paragraph[-200:]
    last = re.split(r"(?<=[.!?])\s+", tail)[-1]
    if _STRONG_CLOSING.match(paragraph) or _STRONG_CLOSING.match(last):
        return 2.0
    last = "" if last.casefold().startswith("always") else last  # as often an order in a section
    if _WEAK_CLOSING.match(paragraph) or _WEAK_CLOSING.match(last) or _HAPPY_END.search(tail):
        return 1.0
    return 0.0


# --- headings -----------------------------------------------------------------------------------

_BACK_MATTER = re.compile(
    r"(?:frequently asked|faqs?\b|further reading|bibliography|resources$"
    r"|(?:references?|sources?|quellen|literatur|références?)"
    r"(?=\W*$|:|,? (?:and|und|et|used|cited)\b)"
    r"|about the author|disclaimer|related (?:articles|posts|reading)|footnotes|notes$|glossary"
    r"|häufige fragen|häufig gestellte|weiterführende|über (?:die autorin"
    r"|den autor)|anmerkungen|haftungsausschluss|questions fréquentes|foire aux questions"
    r"|bibliographie|pour aller plus loin|à propos de l['’]auteur)",
    re.IGNORECASE,
)
_GENERIC = re.compile(
    r"(?:introduction|overview|background|definition|history|benefits?|advantages?|disadvantages?"
    r"|drawbacks?|risks?|side effects?|pros|cons|pros and cons|ingredients?|method|methods"
    r"|instructions|equipment|materials|tools|preparation|procedure|treatments?|symptoms?|causes?"
    r"|diagnosis|prevention|aftercare|maintenance|costs?|tips|expert tips|warnings?|safety|results"
    r"|considerations|precautions|alternatives|examples?|step \d+.*|steps|tip \d+.*"
    r"|a closer look|clinical evidence.*|considerations and consultations|getting started"
    r"|einleitung|einführung|überblick|hintergrund|definition|geschichte|vorteile|nachteile"
    r"|vor- und nachteile|risiken|nebenwirkungen|zutaten|zubereitung|material|werkzeug|anleitung"
    r"|vorbereitung|pflege|kosten|tipps|ursachen|symptome|behandlung|vorbeugung|alternativen"
    r"|schritt \d+.*|avantages|inconvénients|risques|effets secondaires|ingrédients|préparation"
    r"|matériel|entretien|prix|coûts?|conseils|causes|symptômes|traitements?|prévention"
    r"|précautions|définition|histoire|étape \d+.*|contexte)\s*[:?]?",
    re.IGNORECASE,
)
_SECTION_LIKE = re.compile(
    r"(?:what (?:is|are|does|do|causes?|to|you need)\b|how .{1,40}\bworks?$|how (?:often|much|many"
    r"|long|does|do|it)\b|who (?:should|can|is|needs)\b|when (?:to|should|and)\b|where to\b"
    r"|why .{1,40}\bmatters?$|why (?:is|are|does|do|it)\b|which \w+\b|is it\b|are there\b"
    r"|the (?:role|importance|benefits|science|basics|risks|cost|process|right|best time) ?(?:of"
    r"|behind|to|$)?|common (?:mistakes|problems|questions|misconceptions)|potential\b|possible\b"
    r"|types? of\b|choosing\b|preparing\b|alternative\b|other\b|additional\b|practical\b"
    r"|benefits of\b|risks of\b|factors\b|professional\b|considerations\b|signs\b|tips for\b"
    r"|mistakes\b|dealing with\b|avoiding\b|using\b|step\b|clinical\b|expected\b|possible\b"
    r"|was (?:ist|sind|hilft|kostet)\b|wie (?:oft|viel|lange|funktioniert|wirkt|wird|man)\b"
    r"|wer (?:sollte|kann)\b|wann\b|warum\b|welche\w*\b|die (?:richtige|wichtigsten|vorteile"
    r"|häufigsten|besten|rolle)\b|häufige\b|mögliche\b|so (?:funktioniert|wirkt|geht)\b|tipps für\b"
    r"|arten von\b|vorteile\b|risiken\b|der richtige\b|das richtige\b|qu['’]est-ce\b|comment "
    r"(?:ça|cela|fonctionne|agit)|combien\b|quand\b|pourquoi\b|quels?\b|quelles?\b|qui (?:peut"
    r"|doit)|les (?:avantages|bienfaits|risques|erreurs|étapes|différents|principaux|types)\b"
    r"|le rôle\b|choisir\b|bien choisir\b|les bons\b|le bon\b|la bonne\b)",
    re.IGNORECASE,
)
_TITLE_LIKE = re.compile(
    r"\b(?:understanding|(?:ultimate|complete|beginner['’]?s?|essential|practical|short|simple"
    r"|quick|step-by-step) guide|guide (?:to|for)|a guide|everything you need|all about"
    r"|an introduction to|introduction to|demystif\w+|exploring|discover\w*|unlock\w*|mastering"
    r"|the art of|the truth about|101|\d+ (?:ways|tips|reasons|things|steps|mistakes|ideas"
    r"|foods|plants|habits)|vs\.?|versus|and its (?:benefits|effects)"
    r"|for (?:\w+ )?beginners|made (?:easy|simple)|explained|für (?:einsteiger|anfänger)"
    r"|(?:leicht|einfach) (?:erklärt|gemacht)|pour (?:les )?débutants"
    r"|ratgeber|leitfaden|alles über|alles,? was sie|einführung in|grundlagen de[rs]"
    r"|\d+ (?:tipps|gründe|wege|schritte|ideen)|der große|verstehen"
    r"|guide (?:complet|pratique|de|du|des)|tout savoir|comprendre|introduction à|l['’]art de"
    r"|\d+ (?:conseils|astuces|raisons|façons|idées|étapes))",
    re.IGNORECASE,
)
_LOOKS_CLOSER = re.compile(
    r": (?:a (?:closer|deeper) look|ein genauerer blick|im detail|en détail)",
    re.IGNORECASE,
)
_NUMBERED_ARTICLE = re.compile(
    r"(?:article|artikel|story|beitrag)\s+(?:\d{1,3}|[ivx]{1,5})\b", re.I
)
_REFERS_BACK = re.compile(
    r"(?:how|who|whom|what|when|where|why|which|is|are|does|do|can|could|should|will|would"
    r"|must|has)\b.{0,40}\b(?:it|its|they|them|their)\b",
    re.IGNORECASE,
)
NUMBERED = re.compile(r"(?:\d{1,2}[.)]|[ivx]{1,4}[.)]|[A-H][.)])\s")


def is_back_matter(text: str) -> bool:
    """Headings that follow a conclusion and start nothing: FAQ, references, about the author."""
    return _BACK_MATTER.match(text) is not None


def title_likeness(text: str) -> float:
    """Between -6 (a section in any article) and 6 ("Article 2: …"); 0 where words tell nothing."""
    if is_back_matter(text):
        return -10.0
    if is_conclusion_heading(text) or _GENERIC.fullmatch(text):
        return -6.0
    if _NUMBERED_ARTICLE.match(text):
        return 6.0
    score = 0.0
    if NUMBERED.match(text):
        score -= 5.0
    if _TITLE_LIKE.search(text):
        score += 1.5
    if _LOOKS_CLOSER.search(text):
        score -= 1.0
    if _SECTION_LIKE.match(text):
        score -= 1.5 if len(text.split()) < 5 else 0.5
    if _REFERS_BACK.match(text):  # "Who should not use it?" speaks of a subject named above
        score -= 1.5
    return score


_DEFINITE = re.compile(
    r"\b(?:the|your|its|their|his|her|our|der|die|das|dem|den|ihr\w*|dein\w*|le|la|les|votre|vos"
    r"|son|sa|ses)\b|\bl['’]",
    re.IGNORECASE,
)
_INDEFINITE = re.compile(r"\b(?:an?|ein|eine[nmrs]?|une?)\b", re.IGNORECASE)


def newness(text: str) -> float:
    """Whether a short heading names a new thing ("a Puppy") or one that is known ("the Crate")."""
    name, _, more = text.partition(":")
    if len(name.split()) > 7:
        return 0.0
    score = 0.5 if len(more.split()) > 3 else 0.0
    if _INDEFINITE.search(name):
        return score + 0.75
    return score - (0.5 if _DEFINITE.search(name) else 0.0)


_COUNTS = {
    word: number
    for number, words in enumerate(
        (
            "three drei trois",
            "four vier quatre",
            "five fünf cinq",
            "six sechs",
            "seven sieben sept",
            "eight acht huit",
            "nine neun neuf",
            "ten zehn dix",
        ),
        start=3,
    )
    for word in words.split()
}

_TIME_UNIT = re.compile(
    r"(?:second|minute|hour|day|week|month|year|jour|heure|semaine|mois|année|stunde|tage|woche"
    r"|monat|jahr)[ens]{0,2}"
)


def promised_sections(title: str) -> int:
    """How many sections a title announces ("5 Foods…", "Seven Mistakes…"), one more for its end."""
    words = re.findall(r"\w+", title.casefold())
    first = next((word for word in words[:2] if word in _COUNTS or word.isdigit()), "")
    if any(_TIME_UNIT.fullmatch(word) for word in words[1:3]):  # "Eight Weeks Before" counts time
        return 0
    count = _COUNTS.get(first) or (int(first) if first.isdigit() and len(first) < 3 else 0)
    return count + 1 if 3 <= count <= 30 and len(words) > 2 else 0


def is_title_case(text: str) -> bool | None:
    """ "Heat Pumps Explained" is, "What you need" is not; None where the words do not tell."""
    words = [word for word in re.findall(r"[^\W\d_]+", text)[1:] if len(word) >= 4]
    if not words or text.isupper():
        return None
    return all(word[0].isupper() for word in words)


def is_generic(text: str) -> bool:
    """Names that several sections of one article may share (Pros, Cons, Ingredients)."""
    return _GENERIC.fullmatch(text) is not None


_INTRODUCES = re.compile(
    r"(?:in (?:this|today['’]s) (?:article|guide|post)|(?:this|our) (?:article|guide)|welcome"
    r"|in diesem (?:artikel|beitrag|ratgeber)|dieser (?:artikel|beitrag|ratgeber)|dans cet article"
    r"|cet article|ce guide|have you ever|in recent years|in today['’]s|for many people"
    r"|for centuries|in den letzten jahren|seit jahrhunderten|immer mehr|ces dernières années"
    r"|depuis des siècles|de plus en plus)",
    re.IGNORECASE,
)
_DEFINES = re.compile(
    r"[^.!?]{2,60}?(?:, (?:a|an|the|also known|often (?:called|referred)|ein|eine|auch|une?|aussi"
    r"|souvent)\b|\b(?:is|are|ist|sind|est|sont) (?:a|an|one|the|among|ein|eine|einer|eines|une?"
    r"|l['’]une?|parmi)\b|\bha(?:s|ve) (?:gained|become|been)\b)",
    re.IGNORECASE,
)


_STATES = re.compile(
    r"(?:\w+[-'’ ]){1,4}?(?:is|are|has|have|was|were|can|ist|sind|hat|haben|gilt|gelten|est"
    r"|sont|a|ont)\s",
    re.IGNORECASE,
)


def introduces(paragraph: str) -> bool:
    """Whether a paragraph opens an article ("In this guide …", "In recent years …")."""
    return _INTRODUCES.search(paragraph[:200]) is not None


def defines(paragraph: str) -> bool:
    """Whether it begins by saying what something is ("X, a procedure that …", "X is a …")."""
    return _DEFINES.match(paragraph[:200]) is not None


def states(paragraph: str) -> bool:
    """Whether it begins by saying something of a subject in general ("Monsteras are …")."""
    return _STATES.match(paragraph) is not None


# --- calls to action ----------------------------------------------------------------------------

_CALL = re.compile(
    r"(?:get updated|get updates|subscribe|sign up|sign-up|join (?:our|us|thousands|over|the"
    r" (?:list|club|community|newsletter|mailing))"
    r"|follow us|stay (?:up[ -]to[ -]date|updated|tuned|informed|in the loop|in touch|connected)"
    r"|don['’]t miss (?:out|our|any|the next)|never miss|want more\b|for more (?:\w+ ){0,3}(?:tips"
    r"|articles|advice|news|resources)|get (?:the latest|our|more \w+ tips|weekly|free|exclusive)"
    r"|enter your e-?mail|download (?:our|your|the free)|share this|click here|like what you"
    r"|enjoyed this|liked this|register (?:now|today|for)|visit our|contact us|be the first"
    r"|jetzt (?:anmelden|abonnieren|registrieren|kostenlos|newsletter|eintragen|lesen)"
    r"|abonnieren sie|abonniere|melden sie sich|melde dich|bleiben sie (?:auf dem laufenden"
    r"|informiert|in kontakt)|bleib(?:e)? (?:auf dem laufenden|informiert)|folgen sie uns"
    r"|folge uns|newsletter\b|zum newsletter|verpassen sie|verpasse|erhalten sie (?:unsere|die"
    r"|regelmäßig|jede)|hier (?:anmelden|klicken|abonnieren)|tragen sie sich|mehr tipps"
    r"|abonnez[- ]vous|inscrivez[- ]vous|recevez|restez (?:informé|au courant|connecté)"
    r"|suivez[- ]nous|rejoignez[- ]nous|rejoignez (?:notre|nos)|ne manquez|s['’]abonner"
    r"|je m['’]abonne|je m['’]inscris|pour recevoir|cliquez ici|téléchargez (?:notre|nos))",
    re.IGNORECASE,
)
_CALL_WORDS = 45
_SUBSCRIBING = re.compile(
    r"newsletter|subscri|sign(?:ing)? up|inbox|e-?mail|mailing list|follow us|abonn|anmeld"
    r"|melden sie|postfach|inscri|infolettre|courriel|boîte|updated",
    re.IGNORECASE,
)


def is_about_subscribing(text: str) -> bool:
    return _SUBSCRIBING.search(text) is not None


def is_call(text: str) -> bool:
    """Whether a short line asks the reader to subscribe, sign up or follow."""
    plain = text.lstrip("*_#>-→👉 ").strip()
    return len(plain.split()) <= _CALL_WORDS and _CALL.match(plain) is not None
