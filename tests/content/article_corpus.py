"""Articles as people write them, and files made of them in every way that the tests try."""

from __future__ import annotations

import re
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Written:
    """An article: a title, its paragraphs before the first heading, then sections."""

    title: str
    lead: tuple[str, ...]
    sections: tuple[tuple[str, tuple[str, ...]], ...] = ()
    conclusion_heading: str = "Conclusion"

    @property
    def headings(self) -> list[str]:
        return [heading for heading, _ in self.sections]

    @property
    def paragraphs(self) -> list[str]:
        return [*self.lead, *(text for _, texts in self.sections for text in texts)]

    def without_conclusion(self) -> Written:
        kept = tuple(
            (heading, texts)
            for heading, texts in self.sections
            if heading != self.conclusion_heading
        )
        return Written(self.title, self.lead, kept, self.conclusion_heading)

    def flat(self) -> Written:
        """The same text without sub-headings."""
        return Written(self.title, tuple(self.paragraphs))

    def inline_conclusion(self, opening: str = "In conclusion, ") -> Written:
        """The conclusion as a last paragraph, without its heading."""
        *rest, (_, texts) = self.sections
        *before, (heading, last) = rest
        text = opening + texts[0][0].lower() + texts[0][1:]
        return Written(self.title, self.lead, (*before, (heading, (*last, text))))


@dataclass
class Style:
    """How a file is typed."""

    blank: str = "\n"  # between lines of one article
    between: str = ""  # more between articles
    title: str = "{}"
    heading: str = "{}"
    byline: str = ""
    caps: str = ""  # "titles", "headings" or "all"
    ends: str = "\n"
    first_title: bool = True
    call: str = ""
    numbered: bool = field(default=False)


def typed(articles: list[Written], style: Style) -> str:
    blocks: list[str] = []
    for number, article in enumerate(articles):
        if number and style.between:
            blocks.append(style.between)
        if number or style.first_title:
            title = article.title.upper() if style.caps in {"titles", "all"} else article.title
            blocks.append(style.title.format(title))
            if style.byline:
                blocks.append(style.byline.format(number + 1))
        blocks += article.lead
        for at, (heading, texts) in enumerate(article.sections, start=1):
            shown = heading.upper() if style.caps in {"headings", "all"} else heading
            shown = f"{at}. {shown}" if style.numbered else shown
            blocks += [style.heading.format(shown), *texts]
    if style.call:
        blocks.append(style.call)
    return (f"\n{style.blank if style.blank != chr(10) else ''}".join(blocks) + "\n").replace(
        "\n", style.ends
    )


def parse(text: str) -> list[Written]:
    """Articles from the notation below: `= title`, `- heading`, else a paragraph a line."""
    found = []
    for part in re.split(r"^= ", text.strip(), flags=re.M)[1:]:
        title, *lines = part.strip().split("\n")
        lead: list[str] = []
        sections: list[tuple[str, list[str]]] = []
        for line in filter(None, (each.strip() for each in lines)):
            if line.startswith("- "):
                sections.append((line[2:], []))
            elif sections:
                sections[-1][1].append(line)
            else:
                lead.append(line)
        last = sections[-1][0] if sections else ""
        found.append(Written(title, tuple(lead), tuple((h, tuple(t)) for h, t in sections), last))
    return found


ENGLISH = parse("""
= Growing Tomatoes in Containers
Tomatoes, a favorite of home gardeners everywhere, do surprisingly well in pots. With a sunny balcony and a little planning, anyone can pick ripe fruit from midsummer on.
Container growing also keeps many soil-borne diseases away, which is a real advantage in small gardens.
- Choosing the Right Pot
A tomato needs room for its roots. Pick a container that holds at least twenty liters and has holes in the bottom.
Dark plastic heats up quickly, so clay or fabric is a better choice for hot terraces.
- Soil and Feeding
Use a loose potting mix with compost. Feed every two weeks once the first fruits have set.
- Watering Without Trouble
Uneven watering leads to split fruit and blossom end rot. Water in the morning, and keep the leaves dry. However, do not let the pot stand in water.
- Conclusion
Growing tomatoes in containers is rewarding and not difficult. Give them sun, steady water and food, and they will repay you with months of harvest.
= The Benefits of Niacinamide for Oily Skin
Niacinamide, also known as vitamin B3, is a water-soluble vitamin that has gained popularity in skincare. It is found in serums, creams and cleansers alike.
- How Niacinamide Works
Niacinamide supports the skin barrier and helps regulate sebum. Over several weeks, pores can look smaller and the skin tone more even.
- Choosing a Concentration
Most products contain between two and ten percent. Higher amounts are not always better and may irritate sensitive skin.
- Who Should Be Careful?
People with very reactive skin should start slowly. It is best to consult a dermatologist if redness does not fade.
- Conclusion
Niacinamide is a gentle and versatile ingredient for oily skin. Always patch test a new product before using it on the whole face.
= How to Build an Emergency Fund
An emergency fund is money set aside for the unexpected: a broken boiler, a lost job, a sudden trip. It keeps a bad week from becoming a bad year.
- How Much Is Enough?
Most advisers suggest three to six months of expenses. Those with irregular income may want more.
- Where to Keep It
A savings account that can be reached within a day is ideal. Shares are not suitable, as their value may fall just when the money is needed.
- Starting Small
Even twenty a week adds up. Set up a standing order on payday so that saving does not depend on willpower.
- Conclusion
An emergency fund brings peace of mind. Start with a small sum, keep it separate, and let it grow.
= A Beginner's Guide to Sourdough Bread
Sourdough is bread raised by wild yeast and bacteria instead of packaged yeast. The result is a chewy loaf with a crackling crust and a pleasant tang.
- Making the Starter
Mix equal parts of flour and water, and feed the mixture daily. After about a week it should double in size within a few hours.
- Mixing and Resting the Dough
Combine starter, flour, water and salt, and let the dough rest. Fold it a few times during the first two hours.
- Baking
Bake the loaf in a hot cast-iron pot. The lid traps steam, which lets the crust expand before it sets.
- Conclusion
Sourdough takes time, but little of it is work. With practice, every loaf gets better.
= Why Sleep Matters for Runners
Sleep is the most underrated part of training. While you rest, muscles repair, hormones reset and the mind sorts what it has learned.
- Recovery at Night
During deep sleep the body releases growth hormone. Runners who sleep less than seven hours recover more slowly and get injured more often.
- Building a Routine
Go to bed at the same time every night. Keep the bedroom cool and dark, and put the phone away an hour before.
- Naps and Travel
A short nap in the afternoon can make up for a bad night. It may not replace regular sleep, though.
- Conclusion
Good sleep costs nothing and improves everything. Treat it as part of the plan, like the long run on Sunday.
= Caring for Indoor Orchids
Orchids have a reputation for being difficult. In truth, most of them die from too much attention rather than too little.
- Light and Temperature
A bright windowsill without direct midday sun suits most orchids. Nights should be a few degrees cooler than days.
- Watering
Soak the roots once a week and let them drain well. Roots that sit in water rot within days.
- Getting Them to Bloom Again
After flowering, cut the stem above the second node. A cooler spot for a few weeks encourages a new spike.
- Conclusion
With bright light and a light hand, orchids bloom year after year. Patience is the best fertilizer.
= Understanding Index Funds
Index funds, a type of investment that follows a market index, have become the default choice of many savers. They are cheap, simple and widely diversified.
- What Is an Index?
An index is a list of securities chosen by a rule. The best known ones follow the largest companies of a country.
- Costs and Returns
Low fees are the main advantage of these funds. Past performance is no guarantee of future returns, and investors can lose money.
- Conclusion
Index funds are a sensible start for long-term savers. Talk to an adviser before investing larger sums.
= Composting Kitchen Scraps
Composting turns peelings and coffee grounds into dark, crumbly soil. It reduces waste and feeds the garden for free.
- What Belongs in the Bin
Vegetable scraps, egg shells and dry leaves are welcome. Meat and cooked food attract rats and should stay out.
- Air and Moisture
A compost heap needs air. Turn it every few weeks, and add cardboard if it gets wet and smelly.
- Conclusion
Composting is easy once the balance is right. Within a year, the heap becomes the best soil you ever had.
""")

GERMAN = parse("""
= Lavendel richtig schneiden
Lavendel gehört zu den beliebtesten Stauden im Garten. Damit er nicht verholzt, muss er jedes Jahr geschnitten werden.
- Der richtige Zeitpunkt
Geschnitten wird Lavendel zweimal im Jahr. Der erste Schnitt erfolgt im Frühjahr, der zweite nach der Blüte im Sommer.
- So wird geschnitten
Kürzen Sie die Triebe um etwa zwei Drittel. Schneiden Sie jedoch nicht ins alte Holz, denn daraus treibt die Pflanze kaum wieder aus.
- Fazit
Mit zwei Schnitten im Jahr bleibt Lavendel kompakt und blüht reich. Eine scharfe Schere genügt.
= Retinol für Einsteiger
Retinol ist ein Abkömmling von Vitamin A und gilt als einer der am besten erforschten Wirkstoffe in der Hautpflege.
- Wie Retinol wirkt
Der Wirkstoff regt die Zellerneuerung an. Feine Linien können nach einigen Monaten weniger sichtbar sein.
- Mögliche Nebenwirkungen
Am Anfang kann die Haut trocken werden und schuppen. In der Schwangerschaft ist Retinol nicht geeignet; sprechen Sie mit Ihrer Ärztin.
- Fazit
Retinol braucht Geduld und einen guten Sonnenschutz. Wer langsam beginnt, kommt meist gut damit zurecht.
= Haushaltsbuch führen: so behalten Sie den Überblick
Ein Haushaltsbuch zeigt, wohin das Geld jeden Monat fließt. Es kostet nur wenige Minuten am Tag.
- Papier oder App?
Beides hat Vorteile. Wer gern tippt, nimmt eine App, wer gern schreibt, ein Heft.
- Ausgaben ordnen
Teilen Sie die Ausgaben in feste und veränderliche Posten. So sehen Sie schnell, wo sich sparen lässt.
- Fazit
Ein Haushaltsbuch schafft Klarheit. Nach drei Monaten kennen Sie Ihre Gewohnheiten genau.
""")

FRENCH = parse("""
= Comment entretenir un rosier
Le rosier est une plante généreuse qui fleurit de mai à novembre. Un peu de soin suffit pour le garder en bonne santé.
- Quand tailler ?
La taille se fait à la fin de l'hiver, lorsque les fortes gelées sont passées. Coupez juste au-dessus d'un œil tourné vers l'extérieur.
- Arrosage et engrais
Arrosez le rosier au pied, le matin, sans mouiller les feuilles. Un apport d'engrais au printemps favorise la floraison.
- Conclusion
Avec une taille annuelle et un sol nourri, le rosier fleurira longtemps. La patience est récompensée.
= L'acide hyaluronique expliqué simplement
L'acide hyaluronique est une molécule naturellement présente dans la peau. Elle retient l'eau et donne au visage un aspect rebondi.
- Les bienfaits pour la peau
L'acide hyaluronique hydrate en profondeur et lisse les ridules de déshydratation. Les résultats varient cependant d'une personne à l'autre.
- Comment l'appliquer
Appliquez le sérum sur une peau encore humide, puis une crème. En cas d'irritation, consultez un dermatologue.
- Conclusion
L'acide hyaluronique convient à presque toutes les peaux. Une routine simple donne les meilleurs résultats.
= Bien choisir son livret d'épargne
Un livret d'épargne permet de mettre de l'argent de côté sans risque. Tous les livrets ne se valent pourtant pas.
- Comparer les taux
Le taux d'un livret change plusieurs fois par an. Comparez les offres des banques avant de vous décider.
- Les frais cachés
Certains comptes prélèvent des frais de tenue. Lisez les conditions en détail.
- Conclusion
Un bon livret est simple, gratuit et disponible. Relisez votre choix une fois par an.
""")

# One article with more sections than any other, few of which name its subject.
LONG = parse("""
= The Complete Guide to a Healthy Morning Skincare Routine
A morning routine prepares the skin for the day. It does not need to be long, but every step has its place.
- Cleansing
Start with a mild cleanser and lukewarm water. Foaming products can strip the skin of its oils.
- Toner
A toner is optional. Choose one without alcohol, and apply it with your hands.
- Vitamin C
Antioxidants protect the skin against pollution. Store the serum in a dark place, as light spoils it.
- Eye Cream
The area around the eyes is thin. Pat the cream in gently with the ring finger.
- Moisturizer
Gels suit oily skin, creams suit dry skin. Wait a minute before the next step.
- Sunscreen
Sun protection is the most important step. Use two fingers' length for face and neck, and reapply after two hours.
- What About Makeup?
Foundation with SPF is no substitute for sunscreen. Let everything sink in first.
- Common Mistakes
Too many products at once confuse the skin. Introduce one at a time and wait two weeks.
- When to See a Dermatologist
Redness that lasts for weeks should be looked at. A dermatologist can rule out rosacea.
- Conclusion
A good morning routine is simple and regular. Give it six weeks before you judge it.
""")[0]

# The same subject three times, as the sample text has it.
RIVALS = parse("""
= Cold Brew Coffee at Home
Cold brew, a method that steeps coarse grounds in cold water, has become a summer favorite. It is smooth, sweet and easy to make.
- How Cold Brew Works
Cold water extracts fewer acids than hot water. The coffee tastes rounder and keeps for days.
- Cold Brew and Caffeine: A Closer Look
A glass of cold brew can contain more caffeine than a cup of filter coffee. Dilute the concentrate with water or milk.
- Conclusion
Cold brew is worth the wait. Always use fresh beans for the best result.
= Understanding Cold Brew Coffee
Cold brew, also known as cold-steeped coffee, is a drink made without heat. Its fans praise the low acidity.
- How Cold Brew Works
Time replaces temperature. After twelve to eighteen hours the water has taken what it can from the grounds.
- Who Should Avoid Cold Brew?
People who are sensitive to caffeine should be careful. It may not be suitable during pregnancy.
- Conclusion
In summary, cold brew is a mild drink with a strong effect. Enjoy it in small glasses.
= Understanding Cold Brew Coffee
Cold brew coffee is a popular drink that cafés sell at high prices. Making it yourself costs a fraction.
- What You Need
A jar, a filter and coarse grounds are enough. Special pots are nice but not needed.
- Cold Brew and Caffeine: A Closer Look
The amount of caffeine depends on beans and time. Long steeping does not add much after a day.
- Conclusion
Cold brew at home is cheap and simple. Always keep it in the fridge.
""")
