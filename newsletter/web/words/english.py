"""The public pages in English."""

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

ENGLISH = PageWords(
    language="en",
    frame=Frame(
        wordmark="Newsletter",
        our_newsletter="Our newsletter",
        this_newsletter="this newsletter",
        skip="Skip to the content",
        site="Site",
        more="More",
        past_issues="Past issues",
        subscribe="Subscribe",
        feed="Atom feed",
        home="To the first page",
    ),
    fields=Fields(
        email="Email address",
        first_name="First name",
        topics="What would you like to read about?",
        optional="(optional)",
        trap="Leave this field empty",
    ),
    signup=SignUp(
        title="Subscribe",
        faulty="Please check the form",
        description="Subscribe to {name}: tips and excerpts, by email.",
        eyebrow="The newsletter",
        heading="{title}, in your inbox",
        lead=(
            "Short tips you can use today, and the best of our articles, picked and put in order"
            " for you."
        ),
        promises=(
            "Every excerpt in the author’s own words, with its source",
            "Your address stays with us and is used for nothing else",
            "One click, and you are out again",
        ),
        form="Join the readers",
        one_fault="1 field needs another look.",
        faults="{count} fields need another look.",
        email_fault="This does not look like an email address. Please check it.",
        consent_fault="Please tick the box: without your consent we may not write to you.",
        consent=(
            "Yes, please send me {name} by email. I can unsubscribe at any time with one click."
        ),
        button="Subscribe",
        small=(
            "We send one email to make sure that it is you. Nothing else comes before you confirm."
        ),
        lately="Lately",
        all_past="All past issues",
        check_inbox=Notice(
            "Please check your inbox",
            (
                "If that address can be subscribed, an email from us is on its way. Follow its"
                " link and confirm, and you are on the list.",
                "Nothing there after a few minutes? Look among the spam, or try again later.",
            ),
            ("Read past issues meanwhile",),
        ),
        wait=Notice(
            "Please wait a little",
            ("There were many sign-ups from your network just now. Try again in ten minutes.",),
        ),
    ),
    confirm=Confirm(
        title="Confirm your subscription",
        eyebrow="One last step",
        heading="Is it you?",
        lead="Press the button, and {name} comes to your inbox from the next issue on.",
        button="Confirm my subscription",
        not_you="You did not ask for this? Close this page, and you will not hear from us.",
        welcome=Notice(
            "Welcome, you are in",
            ("Your subscription to {name} is confirmed. The next issue is yours.",),
            ("Read past issues", "Your preferences"),
        ),
        used=Notice(
            "This link was used before",
            ("It belongs to a subscription that has ended since. To come back, subscribe anew.",),
            ("Subscribe",),
        ),
    ),
    unsubscribe=Unsubscribe(
        title="Unsubscribe",
        heading="No more emails from us?",
        stop="We will stop writing to {address}.",
        stop_you="We will stop writing to you.",
        at_once="It takes effect at once.",
        button="Unsubscribe",
        instead="Get fewer emails, or change your preferences, instead",
        left=Notice(
            "You are unsubscribed",
            (
                "No more issues will come to your address. Thank you for having read us.",
                "Was it a mistake? You can subscribe again at any time.",
            ),
            ("Subscribe again", "Your data"),
        ),
        gone=Notice(
            "You are not on our list",
            ("We have no subscription behind this link, so there is nothing to end.",),
            ("Read past issues",),
        ),
    ),
    preferences=Preferences(
        title="Your preferences",
        saved="Saved. Your next issue will follow this.",
        inactive=("This address gets no issues at present. To hear from us again, [subscribe]."),
        how_often="How often?",
        frequencies={"every": "Every issue", "monthly": "At most one issue a month"},
        save="Save",
        copy="A copy of your data",
        copy_text="Everything we keep about you, as a file that machines can read (JSON).",
        download="Download my data",
        leave="Leave",
        leave_text=(
            "Unsubscribing stops the emails. Erasing also deletes your name, address and choices"
            " for good; we ask once more before we do it."
        ),
        unsubscribe="Unsubscribe",
        erase="Erase my data…",
    ),
    erase=Erase(
        title="Erase your data?",
        heading="Erase everything we know about you?",
        lead=(
            "Your address, name and choices are deleted, and the emails stop. This cannot be"
            " undone."
        ),
        stays=(
            "All that stays is a scrambled fingerprint of your address, so that no old list can"
            " bring it back by mistake."
        ),
        yes="Yes, erase my data",
        no="No, keep it",
        done=Notice(
            "Your data is erased",
            ("Your address, name and choices are deleted, and no more issues will come.",),
            ("To {name}",),
        ),
    ),
    archive=Archive(
        description="All issues of {name}.",
        feed="Follow by feed",
        empty="The first issue is still to come. [Subscribe], and you will not miss it.",
        pages="Pages",
        newer="Newer issues",
        older="Older issues",
    ),
    dates=Dates(
        pattern="{day} {month} {year}",
        months=(
            "January",
            "February",
            "March",
            "April",
            "May",
            "June",
            "July",
            "August",
            "September",
            "October",
            "November",
            "December",
        ),
    ),
    errors={
        400: Notice(
            "That did not arrive whole",
            ("The form could not be read. Go back and try once more.",),
        ),
        403: Notice("That came from elsewhere", ("Please use the form on our own page.",)),
        404: Notice("Nothing here", ("The address is not complete, or what was here has gone.",)),
        405: Notice("Not this way", ("This page cannot be asked in that way.",)),
        410: Notice("This link has expired", ("Use the link in a newer email, or start anew.",)),
        413: Notice("Too much at once", ("What you sent is larger than we take.",)),
        500: Notice(
            "Something went wrong",
            ("The fault is ours and was noted. Please try again later.",),
        ),
        503: Notice(
            "Back in a moment",
            ("We cannot reach our records just now. Please try again shortly.",),
        ),
    },
    other_error=Notice("That did not work", ("Please go back and try again.",)),
)
