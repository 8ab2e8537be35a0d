"""The public pages in German; `{name}` is always in the accusative, as names are not inflected."""

from __future__ import annotations

from newsletter.web.words.shape import (
    Archive,
    Confirm,
    Dates,
    Erase,
    Fields,
    Frame,
    Notice,
    PageWords,
    Preferences,
    SignUp,
    Unsubscribe,
)

GERMAN = PageWords(
    language="de",
    frame=Frame(
        wordmark="Newsletter",
        our_newsletter="Unser Newsletter",
        this_newsletter="diesen Newsletter",
        skip="Zum Inhalt springen",
        site="Hauptmenü",
        more="Weitere Links",
        past_issues="Bisherige Ausgaben",
        subscribe="Abonnieren",
        feed="Atom-Feed",
        home="Zur Startseite",
    ),
    fields=Fields(
        email="E-Mail-Adresse",
        first_name="Vorname",
        topics="Worüber möchten Sie lesen?",
        optional="(freiwillig)",
        trap="Dieses Feld bitte leer lassen",
    ),
    signup=SignUp(
        title="Abonnieren",
        faulty="Bitte prüfen Sie Ihre Angaben",
        description="Jetzt {name} abonnieren: Tipps und Auszüge per E-Mail.",
        eyebrow="Der Newsletter",
        heading="{title}, direkt in Ihr Postfach",
        lead=(
            "Kurze Tipps, die Sie noch heute anwenden können, und das Beste aus unseren Artikeln,"
            " für Sie ausgewählt und geordnet."
        ),
        promises=(
            "Jeder Auszug im Originalwortlaut und mit Quellenangabe",
            "Ihre Adresse bleibt bei uns und dient keinem anderen Zweck",
            "Ein Klick, und Sie sind wieder abgemeldet",
        ),
        form="Lesen Sie mit",
        one_fault="Bitte prüfen Sie ein Feld noch einmal.",
        faults="Bitte prüfen Sie {count} Felder noch einmal.",
        email_fault="Das scheint keine E-Mail-Adresse zu sein. Bitte prüfen Sie Ihre Eingabe.",
        consent_fault=(
            "Bitte setzen Sie das Häkchen: Ohne Ihre Einwilligung dürfen wir Ihnen nicht schreiben."
        ),
        consent=(
            "Ja, bitte senden Sie mir {name} per E-Mail. Ich kann mich jederzeit mit einem Klick"
            " wieder abmelden."
        ),
        button="Abonnieren",
        small=(
            "Wir senden Ihnen eine E-Mail, um sicherzugehen, dass Sie es sind. Vor Ihrer"
            " Bestätigung kommt sonst nichts."
        ),
        lately="Zuletzt erschienen",
        all_past="Alle bisherigen Ausgaben",
        check_inbox=Notice(
            "Bitte sehen Sie in Ihr Postfach",
            (
                "Wenn sich diese Adresse anmelden lässt, ist eine E-Mail von uns unterwegs."
                " Folgen Sie dem Link darin und bestätigen Sie, dann stehen Sie auf der Liste.",
                "Nach ein paar Minuten noch nichts da? Sehen Sie im Spam-Ordner nach, oder"
                " versuchen Sie es später noch einmal.",
            ),
            ("Inzwischen bisherige Ausgaben lesen",),
        ),
        wait=Notice(
            "Bitte warten Sie einen Moment",
            (
                "Gerade kamen viele Anmeldungen aus Ihrem Netz. Bitte versuchen Sie es in zehn"
                " Minuten noch einmal.",
            ),
        ),
    ),
    confirm=Confirm(
        title="Anmeldung bestätigen",
        eyebrow="Nur noch ein Schritt",
        heading="Sind Sie es?",
        lead="Drücken Sie den Knopf, und Sie erhalten {name} ab der nächsten Ausgabe.",
        button="Anmeldung bestätigen",
        not_you=(
            "Das waren nicht Sie? Schließen Sie diese Seite, und Sie hören nichts weiter von uns."
        ),
        welcome=Notice(
            "Willkommen, Sie sind dabei",
            ("Ihre Anmeldung für {name} ist bestätigt. Die nächste Ausgabe kommt zu Ihnen.",),
            ("Bisherige Ausgaben lesen", "Ihre Einstellungen"),
        ),
        used=Notice(
            "Dieser Link wurde schon benutzt",
            (
                "Er gehört zu einem Abonnement, das inzwischen beendet ist. Möchten Sie wieder"
                " dabei sein, dann melden Sie sich bitte neu an.",
            ),
            ("Abonnieren",),
        ),
    ),
    unsubscribe=Unsubscribe(
        title="Abmelden",
        heading="Keine E-Mails mehr von uns?",
        stop="Wir schreiben künftig nicht mehr an {address}.",
        stop_you="Wir schreiben Ihnen künftig nicht mehr.",
        at_once="Das gilt sofort.",
        button="Abmelden",
        instead="Lieber weniger E-Mails erhalten oder die Einstellungen ändern",
        left=Notice(
            "Sie sind abgemeldet",
            (
                "An Ihre Adresse kommen keine Ausgaben mehr. Danke, dass Sie uns gelesen haben.",
                "War das ein Versehen? Sie können sich jederzeit wieder anmelden.",
            ),
            ("Wieder anmelden", "Ihre Daten"),
        ),
        gone=Notice(
            "Sie stehen nicht auf unserer Liste",
            ("Zu diesem Link gibt es bei uns kein Abonnement, also auch nichts zu beenden.",),
            ("Bisherige Ausgaben lesen",),
        ),
    ),
    preferences=Preferences(
        title="Ihre Einstellungen",
        saved="Gespeichert. Ihre nächste Ausgabe richtet sich danach.",
        inactive=(
            "Diese Adresse erhält derzeit keine Ausgaben. Möchten Sie wieder von uns hören, dann"
            " [melden Sie sich neu an]."
        ),
        how_often="Wie oft?",
        frequencies={"every": "Jede Ausgabe", "monthly": "Höchstens eine Ausgabe im Monat"},
        save="Speichern",
        copy="Eine Kopie Ihrer Daten",
        copy_text=("Alles, was wir über Sie gespeichert haben, als maschinenlesbare Datei (JSON)."),
        download="Meine Daten herunterladen",
        leave="Abmelden oder löschen",
        leave_text=(
            "Mit der Abmeldung enden die E-Mails. Beim Löschen verschwinden außerdem Ihr Name,"
            " Ihre Adresse und Ihre Einstellungen endgültig; vorher fragen wir noch einmal nach."
        ),
        unsubscribe="Abmelden",
        erase="Meine Daten löschen\u00a0…",
    ),
    erase=Erase(
        title="Ihre Daten löschen?",
        heading="Alles löschen, was wir über Sie wissen?",
        lead=(
            "Ihre Adresse, Ihr Name und Ihre Einstellungen werden gelöscht, und die E-Mails"
            " enden. Das lässt sich nicht rückgängig machen."
        ),
        stays=(
            "Übrig bleibt nur ein unkenntlich gemachter Fingerabdruck Ihrer Adresse, damit keine"
            " alte Liste sie versehentlich zurückbringt."
        ),
        yes="Ja, meine Daten löschen",
        no="Nein, behalten",
        done=Notice(
            "Ihre Daten sind gelöscht",
            (
                "Ihre Adresse, Ihr Name und Ihre Einstellungen sind gelöscht, und es kommen keine"
                " Ausgaben mehr.",
            ),
            ("Zur Startseite",),
        ),
    ),
    archive=Archive(
        description="{title}: alle Ausgaben im Überblick.",
        feed="Als Feed verfolgen",
        empty=("Die erste Ausgabe kommt noch. [Melden Sie sich an], dann verpassen Sie sie nicht."),
        pages="Seiten",
        newer="Neuere Ausgaben",
        older="Ältere Ausgaben",
    ),
    dates=Dates(
        pattern="{day}. {month} {year}",
        months=(
            "Januar",
            "Februar",
            "März",
            "April",
            "Mai",
            "Juni",
            "Juli",
            "August",
            "September",
            "Oktober",
            "November",
            "Dezember",
        ),
    ),
    errors={
        400: Notice(
            "Das kam nicht vollständig an",
            (
                "Das Formular ließ sich nicht lesen. Bitte gehen Sie zurück, und versuchen Sie es"
                " noch einmal.",
            ),
        ),
        403: Notice(
            "Das kam von anderer Stelle",
            ("Bitte verwenden Sie das Formular auf unserer eigenen Seite.",),
        ),
        404: Notice(
            "Hier ist nichts",
            ("Die Adresse ist unvollständig, oder was hier war, gibt es nicht mehr.",),
        ),
        405: Notice(
            "So geht es nicht", ("Diese Seite lässt sich auf diese Weise nicht aufrufen.",)
        ),
        410: Notice(
            "Dieser Link ist abgelaufen",
            ("Bitte nehmen Sie den Link aus einer neueren E-Mail, oder beginnen Sie von vorn.",),
        ),
        413: Notice(
            "Das war zu viel auf einmal",
            ("Was Sie gesendet haben, ist größer, als wir annehmen.",),
        ),
        500: Notice(
            "Etwas ist schiefgegangen",
            (
                "Der Fehler liegt bei uns und wurde vermerkt. Bitte versuchen Sie es später noch"
                " einmal.",
            ),
        ),
        503: Notice(
            "Wir sind gleich wieder da",
            (
                "Wir erreichen unsere Daten gerade nicht. Bitte versuchen Sie es in Kürze noch"
                " einmal.",
            ),
        ),
    },
    other_error=Notice(
        "Das hat nicht geklappt",
        ("Bitte gehen Sie zurück, und versuchen Sie es noch einmal.",),
    ),
)
