"""The public pages in French, worded so that no reader's gender need be known."""

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

FRENCH = PageWords(
    language="fr",
    frame=Frame(
        wordmark="Lettre d’information",
        our_newsletter="Notre lettre d’information",
        this_newsletter="cette lettre d’information",
        skip="Aller au contenu",
        site="Menu principal",
        more="Autres liens",
        past_issues="Numéros parus",
        subscribe="S’inscrire",
        feed="Flux Atom",
        home="Retour à l’accueil",
    ),
    fields=Fields(
        email="Adresse e-mail",
        first_name="Prénom",
        topics="Quels sujets vous intéressent\u00a0?",
        optional="(facultatif)",
        trap="Laissez ce champ vide",
    ),
    signup=SignUp(
        title="S’inscrire",
        faulty="Merci de vérifier le formulaire",
        description="Inscrivez-vous à {name}\u00a0: conseils et extraits, par e-mail.",
        eyebrow="La lettre d’information",
        heading="{title}, dans votre boîte de réception",
        lead=(
            "De courts conseils à appliquer dès aujourd’hui et le meilleur de nos articles,"
            " choisis et mis en ordre pour vous."
        ),
        promises=(
            "Chaque extrait dans les mots mêmes de l’auteur, avec sa source",
            "Votre adresse reste chez nous et ne sert à rien d’autre",
            "Un clic suffit pour vous désinscrire",
        ),
        form="Rejoignez-nous",
        one_fault="Un champ est à revoir.",
        faults="{count} champs sont à revoir.",
        email_fault="Cela ne ressemble pas à une adresse e-mail. Merci de la vérifier.",
        consent_fault=(
            "Merci de cocher la case\u00a0: sans votre accord, nous ne pouvons pas vous écrire."
        ),
        consent=(
            "Oui, je souhaite recevoir {name} par e-mail. Je peux me désinscrire à tout moment,"
            " en un clic."
        ),
        button="S’inscrire",
        small=(
            "Nous envoyons un e-mail pour nous assurer que c’est bien vous. Rien d’autre n’arrive"
            " avant votre confirmation."
        ),
        lately="Derniers numéros",
        all_past="Tous les numéros parus",
        check_inbox=Notice(
            "Consultez votre boîte de réception",
            (
                "Si cette adresse peut être inscrite, un e-mail de notre part est en route."
                " Suivez son lien et confirmez, et votre inscription sera faite.",
                "Rien au bout de quelques minutes\u00a0? Regardez parmi les indésirables, ou"
                " réessayez plus tard.",
            ),
            ("Lire les numéros parus en attendant",),
        ),
        wait=Notice(
            "Merci de patienter un peu",
            (
                "De nombreuses inscriptions viennent d’arriver de votre réseau. Réessayez dans"
                " dix minutes.",
            ),
        ),
    ),
    confirm=Confirm(
        title="Confirmer votre inscription",
        eyebrow="Une dernière étape",
        heading="C’est bien vous\u00a0?",
        lead="Appuyez sur le bouton, et vous recevrez {name} dès le prochain numéro.",
        button="Confirmer mon inscription",
        not_you=(
            "Vous n’avez rien demandé\u00a0? Fermez cette page, et nous ne vous écrirons plus."
        ),
        welcome=Notice(
            "Bienvenue parmi nous",
            ("Votre inscription à {name} est confirmée. Le prochain numéro est pour vous.",),
            ("Lire les numéros parus", "Vos préférences"),
        ),
        used=Notice(
            "Ce lien a déjà servi",
            (
                "Il correspond à une inscription qui a pris fin depuis. Pour revenir,"
                " inscrivez-vous de nouveau.",
            ),
            ("S’inscrire",),
        ),
    ),
    unsubscribe=Unsubscribe(
        title="Se désinscrire",
        heading="Ne plus recevoir nos e-mails\u00a0?",
        stop="Nous n’écrirons plus à {address}.",
        stop_you="Nous ne vous écrirons plus.",
        at_once="C’est immédiat.",
        button="Se désinscrire",
        instead="Recevoir plutôt moins d’e-mails, ou changer vos préférences",
        left=Notice(
            "Votre désinscription est faite",
            (
                "Plus aucun numéro n’arrivera à votre adresse. Merci de nous avoir lus.",
                "C’était une erreur\u00a0? Vous pouvez vous réinscrire à tout moment.",
            ),
            ("Se réinscrire", "Vos données"),
        ),
        gone=Notice(
            "Vous n’êtes pas sur notre liste",
            ("Aucune inscription ne correspond à ce lien\u00a0: il n’y a rien à arrêter.",),
            ("Lire les numéros parus",),
        ),
    ),
    preferences=Preferences(
        title="Vos préférences",
        saved="C’est enregistré. Votre prochain numéro en tiendra compte.",
        inactive=(
            "Cette adresse ne reçoit aucun numéro actuellement. Pour nous lire de nouveau,"
            " [inscrivez-vous]."
        ),
        how_often="À quelle fréquence\u00a0?",
        frequencies={"every": "Chaque numéro", "monthly": "Un numéro par mois au plus"},
        save="Enregistrer",
        copy="Une copie de vos données",
        copy_text=(
            "Tout ce que nous conservons à votre sujet, dans un fichier lisible par les machines"
            " (JSON)."
        ),
        download="Télécharger mes données",
        leave="Nous quitter",
        leave_text=(
            "La désinscription met fin aux e-mails. L’effacement supprime aussi pour de bon votre"
            " nom, votre adresse et vos choix\u00a0; nous vous demandons confirmation avant."
        ),
        unsubscribe="Se désinscrire",
        erase="Effacer mes données…",
    ),
    erase=Erase(
        title="Effacer vos données\u00a0?",
        heading="Effacer tout ce que nous savons de vous\u00a0?",
        lead=(
            "Votre adresse, votre nom et vos choix sont supprimés, et les e-mails cessent. Il n’y"
            " a pas de retour en arrière."
        ),
        stays=(
            "Il ne reste qu’une empreinte brouillée de votre adresse, pour qu’aucune ancienne"
            " liste ne la ramène par erreur."
        ),
        yes="Oui, effacer mes données",
        no="Non, les conserver",
        done=Notice(
            "Vos données sont effacées",
            (
                "Votre adresse, votre nom et vos choix sont supprimés, et plus aucun numéro"
                " n’arrivera.",
            ),
            ("Retour à l’accueil",),
        ),
    ),
    archive=Archive(
        description="{title}\u00a0: tous les numéros.",
        feed="Suivre par flux",
        empty=(
            "Le premier numéro est encore à venir. [Inscrivez-vous], et vous ne le manquerez pas."
        ),
        pages="Pages",
        newer="Numéros plus récents",
        older="Numéros plus anciens",
    ),
    dates=Dates(
        pattern="{day} {month} {year}",
        months=(
            "janvier",
            "février",
            "mars",
            "avril",
            "mai",
            "juin",
            "juillet",
            "août",
            "septembre",
            "octobre",
            "novembre",
            "décembre",
        ),
        first="1er",
    ),
    errors={
        400: Notice(
            "L’envoi est arrivé incomplet",
            ("Le formulaire n’a pas pu être lu. Revenez en arrière et réessayez.",),
        ),
        403: Notice(
            "L’envoi vient d’ailleurs",
            ("Merci d’utiliser le formulaire de notre propre page.",),
        ),
        404: Notice(
            "Il n’y a rien ici",
            ("L’adresse est incomplète, ou ce qui se trouvait ici a disparu.",),
        ),
        405: Notice("Pas de cette façon", ("Cette page ne peut pas être demandée ainsi.",)),
        410: Notice(
            "Ce lien a expiré",
            ("Utilisez le lien d’un e-mail plus récent, ou recommencez.",),
        ),
        413: Notice("C’est trop à la fois", ("Votre envoi dépasse la taille que nous acceptons.",)),
        500: Notice(
            "Un problème est survenu",
            ("La faute est de notre côté et a été notée. Merci de réessayer plus tard.",),
        ),
        503: Notice(
            "Nous revenons dans un instant",
            ("Nos données sont momentanément hors d’atteinte. Merci de réessayer sous peu.",),
        ),
    },
    other_error=Notice(
        "Cela n’a pas fonctionné", ("Merci de revenir en arrière et de réessayer.",)
    ),
)
