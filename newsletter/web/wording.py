"""The words of the confirmation mail in English, German and French, by the site's language."""

from __future__ import annotations

from dataclasses import dataclass

from newsletter.languages import in_language


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A mail that asks for a click; `{name}` is the site's, `{link}` the page's address."""

    our_newsletter: str  # where the site has no name
    subject: str
    body: str  # Markdown


_CONFIRMATIONS = {
    "en": Confirmation(
        our_newsletter="our newsletter",
        subject="Please confirm your subscription to {name}",
        body=(
            "Somebody, we hope it was you, asked us to send **{name}** to this address.\n\n"
            "Is that right? Then open this page and press the button:\n\n"
            "[Confirm my subscription]({link})\n\n"
            "The link works for seven days. If it was not you, do nothing: we will not write"
            " again.\n"
        ),
    ),
    "de": Confirmation(
        our_newsletter="unser Newsletter",
        subject="Bitte bestätigen Sie Ihre Anmeldung: {name}",
        body=(
            "Jemand, hoffentlich Sie selbst, hat diese Adresse bei uns angemeldet: **{name}**.\n\n"
            "Ist das richtig? Dann öffnen Sie diese Seite und drücken Sie den Knopf:\n\n"
            "[Anmeldung bestätigen]({link})\n\n"
            "Der Link gilt sieben Tage. Waren Sie es nicht, brauchen Sie nichts zu tun: Wir"
            " schreiben nicht noch einmal.\n"
        ),
    ),
    "fr": Confirmation(
        our_newsletter="notre lettre d’information",
        subject="Merci de confirmer votre inscription\u00a0: {name}",
        body=(
            "Quelqu’un, vous-même sans doute, nous a demandé d’envoyer **{name}** à cette"
            " adresse.\n\n"
            "C’est bien vous\u00a0? Alors ouvrez cette page et appuyez sur le bouton\u00a0:\n\n"
            "[Confirmer mon inscription]({link})\n\n"
            "Le lien est valable sept jours. Si ce n’était pas vous, ne faites rien\u00a0: nous"
            " n’écrirons plus.\n"
        ),
    ),
}


def confirmation(language: str, name: str, link: str) -> tuple[str, str]:
    """Subject and Markdown of the mail in a language."""
    words = in_language(_CONFIRMATIONS, language)
    filled = {"name": name or words.our_newsletter, "link": link}
    return words.subject.format(**filled), words.body.format(**filled)
