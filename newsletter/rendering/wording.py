"""The fixed words of an issue in English, German and French, for templates and the text part.

Words only: where they stand and how they look is the templates' business.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from newsletter.languages import in_language


@dataclass(frozen=True, slots=True)
class Words:
    """What a template sees as `words`; docs/templates.md says where each stands."""

    language: str  # of the words, which need not be the issue's
    tip: str
    by: str  # before an author
    read_on: str
    signed_up: str  # {name}
    this_newsletter: str  # where the site has no name
    unsubscribe: str
    preferences: str
    web_version: str
    forwarded: str  # before get_updated
    get_updated: str
    yourself: str  # after get_updated
    next_issue: str  # after get_updated, on the web
    links: str  # the heading of the text part's footnotes
    colon: str


_TABLE = {
    "en": Words(
        language="en",
        tip="Tip",
        by="By",
        read_on="Read on",
        signed_up="You get this because you signed up for {name}.",
        this_newsletter="this newsletter",
        unsubscribe="Unsubscribe",
        preferences="Preferences",
        web_version="Read on the web",
        forwarded="Forwarded to you?",
        get_updated="Get updated",
        yourself=" yourself",
        next_issue=" with the next issue",
        links="Links",
        colon=":",
    ),
    "de": Words(
        language="de",
        tip="Tipp",
        by="Von",
        read_on="Weiterlesen",
        signed_up="Sie erhalten diese E-Mail, weil Sie sich für {name} angemeldet haben.",
        this_newsletter="diesen Newsletter",
        unsubscribe="Abmelden",
        preferences="Einstellungen",
        web_version="Im Browser lesen",
        forwarded="Weitergeleitet bekommen?",
        get_updated="Auf dem Laufenden bleiben",
        yourself="",
        next_issue=", ab der nächsten Ausgabe",
        links="Links",
        colon=":",
    ),
    "fr": Words(
        language="fr",
        tip="Conseil",
        by="Par",
        read_on="Lire la suite",
        signed_up="Vous recevez ce message à la suite de votre inscription à {name}.",
        this_newsletter="cette lettre d’information",
        unsubscribe="Se désinscrire",
        preferences="Préférences",
        web_version="Lire en ligne",
        forwarded="On vous a transféré ce message\u00a0?",
        get_updated="Rester au courant",
        yourself="",
        next_issue=" dès le prochain numéro",
        links="Liens",
        colon="\u00a0:",
    ),
}


def words(language: str, name: str) -> Words:
    """The words in a language; `name` is the site's, filled in where they speak of it."""
    chosen = in_language(_TABLE, language)
    named = name or chosen.this_newsletter
    return replace(chosen, signed_up=chosen.signed_up.replace("{name}", named))
